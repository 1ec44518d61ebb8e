"""Loaders with worker processes of every kind, on the digits that ship."""

import gc
import os
from itertools import chain

import numpy as np
import psutil
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from ganaug import SyntheticDataset, balanced

SHIPPED = "exported/digits@1"
EACH, WORKERS = 1000, 4
MIB = 2**20

# torch advises against more workers than cores.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:This DataLoader will create")]


def real_digits():
    digits = load_digits()
    images = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
    return TensorDataset(images, torch.from_numpy(digits.target))


def synthetic():
    return SyntheticDataset(SHIPPED, EACH)


def filled_up():
    return balanced(real_digits(), SHIPPED, to=EACH)


def together(samples):
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.tensor([int(label) for label in labels])


@pytest.mark.parametrize("make", [synthetic, filled_up])
@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_give_what_the_parent_gives_and_no_image_twice(make, context):
    dataset, own = make(), make()
    # The parent uses ONNX Runtime before it has workers; these inherit nothing that was made.
    expected = together(own.__getitems__(range(len(own))))
    loader = DataLoader(dataset, 64, num_workers=WORKERS, multiprocessing_context=context, timeout=120)
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert len(images) == 10 * EACH
    assert torch.equal(images, expected[0])
    assert torch.equal(labels, expected[1])
    made = images[-len(getattr(dataset, "synthetic", dataset)) :]
    assert len(torch.unique(made.flatten(1), dim=0)) == len(made)


@pytest.mark.parametrize("make", [synthetic, filled_up])
def test_a_random_order_brings_each_image_once(make):
    dataset = make()
    expected = sorted(_as_bytes(*together(make())))
    loader = DataLoader(dataset, 64, shuffle=True, num_workers=WORKERS, timeout=120)
    for _ in range(2):
        assert sorted(chain.from_iterable(_as_bytes(*batch) for batch in loader)) == expected


def _as_bytes(images, labels):
    return [(int(label), image.numpy().tobytes()) for image, label in zip(images, labels, strict=True)]


def test_memory_is_flat_however_many_images_are_made(write_model, tmp_path):
    write_model(tmp_path / "large", image_shape=(64, 64, 3))
    dataset = SyntheticDataset(tmp_path / "large", 2000, cache_bytes=4 * MIB)
    loader = DataLoader(dataset, 100, shuffle=True, num_workers=2, persistent_workers=True, timeout=120)
    # The pools of ONNX Runtime and of malloc grow for some epochs, as batches are of many sizes, and wander
    # by 160 MiB from then on; what is kept of each image only ever grows.
    first = [_after_an_epoch(loader) for _ in range(8)][-1]
    last = [_after_an_epoch(loader) for _ in range(20)][-3:]
    # In these twenty epochs each worker makes 60,000 images: 700 MiB of uint8, 2.7 GiB of float32.
    assert max(min(now) - then for *now, then in zip(*last, first, strict=True)) < 256 * MIB


def _after_an_epoch(loader):
    """Bytes that the parent and each worker have of their own."""
    for images, _ in loader:
        del images
    gc.collect()
    workers = [worker.pid for worker in loader._iterator._workers]
    return [psutil.Process(pid).memory_full_info().uss for pid in (os.getpid(), *workers)]
