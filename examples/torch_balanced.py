"""Does it help to fill up rare classes with synthetic images? Real digits, a small CNN, three ways, three seeds.

    pip install 'ganaug[train]'
    python examples/torch_balanced.py

Each way trains the same network for the same number of steps on the same 645 real images, of which the
digits 3, 5 and 8 have five each, and is tested on real images that neither it nor the generator has seen:

- plain: every image equally often;
- sampler: every class equally often, by torch's WeightedRandomSampler;
- balanced: every class equally often, of which most images of 3, 5 and 8 are synthetic.

Nothing is augmented here. `ganaug run` compares with augmentation and more, with intervals.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from digits_split import RARE, split_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, TensorDataset, WeightedRandomSampler

import ganaug
from ganaug.dataset import LabelledImages

STEPS, BATCH, SEEDS = 300, 64, 3


def main() -> None:
    """Train three ways with three seeds; print the recall of the rare classes and of the others."""
    # One thread is faster for so small a network, above all on a busy machine.
    torch.set_num_threads(1)
    train, held_out = split_digits()
    real = as_tensors(train)
    filled_up = ganaug.balanced(real, "exported/digits")
    print(f"{filled_up}\n{len(held_out)} held-out images\n")
    counts = train.counts()
    weights = (1 / counts[train.class_ids]).tolist()
    ways: dict[str, tuple[Dataset, Sampler]] = {
        "plain": (real, RandomSampler(real, replacement=True, num_samples=STEPS * BATCH)),
        "sampler": (real, WeightedRandomSampler(weights, STEPS * BATCH)),
        "balanced": (filled_up, RandomSampler(filled_up, replacement=True, num_samples=STEPS * BATCH)),
    }
    print(f"{'':10} {'recall of 3, 5, 8':>18}   {'of the others':>13}   seeds (3, 5, 8)")
    for name, (dataset, sampler) in ways.items():
        recalls = []
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            network = train_network(DataLoader(dataset, BATCH, sampler=sampler))
            recalls.append(recall(network, held_out))
        rare, others = np.mean(recalls, axis=0)
        seeds = " ".join(f"{own:.1f}" for own, _ in recalls)
        print(f"{name:10} {rare:>18.1f}   {others:>13.1f}   {seeds}")


def as_tensors(data: LabelledImages) -> TensorDataset:
    """Images (1, 8, 8) float32 from 0 to 1, with their class ids."""
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2).float() / 255
    return TensorDataset(images, torch.tensor(data.class_ids))


def train_network(batches: Iterator[tuple[torch.Tensor, torch.Tensor]] | DataLoader) -> nn.Module:
    """A small CNN, trained on these batches."""
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3)),
        nn.Linear(32 * 4 * 4, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    for images, labels in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def recall(network: nn.Module, held_out: LabelledImages) -> tuple[float, float]:
    """Mean recall in percent of the rare classes, and of the others."""
    images, labels = as_tensors(held_out).tensors
    is_found = (network(images).argmax(1) == labels).numpy()
    own = {name: is_found[labels == k].mean() * 100 for k, name in enumerate(held_out.class_names)}
    others = [value for name, value in own.items() if name not in RARE]
    return float(np.mean([own[name] for name in RARE])), float(np.mean(others))


if __name__ == "__main__":
    main()
