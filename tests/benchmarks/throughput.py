"""Images per second of a training step, beside a textbook loop with the same networks.

    python tests/benchmarks/throughput.py
    python tests/benchmarks/throughput.py --recipes strided-32 --rounds 9
    python tests/benchmarks/throughput.py --profile --recipes cgan-8

Both train the same networks from the same registry with the recipe's own batch of 64, loss
(relativistic), penalties (R1 and R2), augmentation (the same functions, drawn once a step) and
moving average, in the same process, in turns: ours, textbook, ours, textbook. `ours` is
`play_step` as a training calls it, its metrics included. `textbook` is what tutorials write:

- a DataLoader over float tensors (a Dataset of pairs for pair GANs), shuffled;
- real images and fakes go through the discriminator one after the other, each with its penalty
  on every step;
- the generator makes new fakes for its own turn, through a discriminator that is not frozen;
- Adam as torch.optim makes it without further arguments, and a Python loop for the average.

`textbook, lazy` has the penalties as seldom as the recipe has them (every second step for
convolutions), so that what remains is not theirs; where the recipe has them every step the two
are one. The numbers differ from machine to machine; nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

# First: it says how OpenMP is to wait, before torch loads.
from ganaug.config import TrainConfig
from ganaug.dataset import LabelledImages
from ganaug.training.augment import Augmentation, Strength, draw_augmentation
from ganaug.training.games import Reals, make_game
from ganaug.training.losses import LOSSES
from ganaug.training.networks import NETWORKS, NetworkSpec
from ganaug.training.networks.conditioning import to_float
from ganaug.training.networks.presets import Preset, resolve
from ganaug.training.players import Players, make_players
from ganaug.training.recorder import PLAIN
from ganaug.training.step import GRADIENT_EVERY, play_step

CELLS = {
    "cgan-8": ("cgan", (8, 8, 1)),
    "pair-8": ("pair", (8, 8, 1)),
    "strided-32": ("strided", (32, 32, 3)),
    "pair-32": ("pair", (32, 32, 3)),
    "modern-32": ("modern", (32, 32, 3)),
}
"""Recipe and image shape by the name of the cell."""
IMAGES, CLASSES = 1500, 10
LEAST_STEPS = 2
"""Steps of a turn are a multiple of it, so that each turn has its share of penalties."""
TURN_S = 0.4
"""A turn plays so long, or `LEAST_STEPS` where those take longer."""
TOP = 12
"""Rows of a profile."""

Play = Callable[[], object]
"""Plays one step."""


def main() -> None:
    """Run the cells that were asked for and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--profile", action="store_true", help="where the time of our step goes, instead")
    parser.add_argument(
        "--devices", nargs="+", choices=["cpu", "cuda"], help="all that are there, if not said"
    )
    asked = parser.parse_args()
    places = [("cpu", threads) for threads in sorted({1, os.cpu_count() or 1})]
    if torch.cuda.is_available():
        places.append(("cuda", torch.get_num_threads()))
    places = [place for place in places if place[0] in (asked.devices or ["cpu", "cuda"])]
    if asked.profile:
        for name, (device, threads) in product(asked.recipes, places):
            torch.set_num_threads(threads)
            tell(f"\n{name} on {device}, {threads} CPU thread(s), self CPU time per operator\n")
            tell(profile(name, device))
        return
    tell(f"torch {torch.__version__}, {os.cpu_count()} cores, {asked.rounds} rounds; images per second are")
    tell("medians, the ratio is the median over rounds (smallest to largest)\n")
    tell("| cell | device | threads | against | ours | theirs | ratio |")
    tell("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (device, threads) in product(asked.recipes, places):
        torch.set_num_threads(threads)
        for row in compare(name, device, asked.rounds):
            tell(f"| {name} | {device} | {threads} | {row} |")


def compare(name: str, device: str, rounds: int) -> Iterator[str]:
    """The rows of a cell."""
    data, preset = lay(name)
    plays: dict[str, Play] = {"ours": ours(data, preset, device)}
    if device == "cuda":
        plays["ours, not recorded"] = ours(data, preset, device, records=False)
        plays["ours, bf16"] = ours(data, replace(preset, precision="bf16"), device)
    plays["textbook"] = Textbook(data, replace(preset, penalty_every=1), device).play
    if preset.penalty_every > 1:
        plays["textbook, lazy"] = Textbook(data, preset, device).play
    steps = {kind: _steps_of_a_turn(play, device) for kind, play in plays.items()}
    rates: dict[str, list[float]] = {kind: [] for kind in plays}
    for _ in range(rounds):
        for kind, play in plays.items():
            seconds = _time(play, steps[kind], device)
            rates[kind].append(steps[kind] * preset.batch / seconds)
    for mine, theirs in product(plays, plays):
        if mine.startswith("ours") and theirs.startswith("textbook"):
            ratios = np.divide(rates[mine], rates[theirs])
            label = theirs if mine == "ours" else f"{theirs} ({mine})"
            yield (
                f"{label} | {np.median(rates[mine]):.0f} | {np.median(rates[theirs]):.0f} | "
                f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
            )


def lay(name: str) -> tuple[LabelledImages, Preset]:
    """Noise in the shape of the cell's images (speed does not depend on it), and the recipe's numbers."""
    recipe, shape = CELLS[name]
    rng = np.random.default_rng(0)
    class_ids = np.arange(IMAGES) % CLASSES
    index = pd.DataFrame({"path": "", "class_id": class_ids, "split": "train", "group": "", "sha256": ""})
    images = rng.integers(0, 256, (IMAGES, *shape), dtype=np.uint8)
    data = LabelledImages(images, index, tuple(map(str, range(CLASSES))))
    return data, resolve(TrainConfig(recipe=recipe), shape, IMAGES, "cpu")[2]


def make(data: LabelledImages, preset: Preset, device: str) -> tuple[Players, Reals]:
    """The networks of both sides."""
    reals = Reals(data, device)
    height, width, channels = map(int, data.images.shape[1:])
    spec = NetworkSpec(
        preset.network, (height, width, channels), reals.class_ids, preset.z_dim, preset.width,
        conditioning=preset.conditioning, unconditional_px=preset.unconditional_px,
    )  # fmt: skip
    return make_players(spec, preset, 0, device), reals


def ours(data: LabelledImages, preset: Preset, device: str, *, records: bool = True) -> Play:
    """A step as `train` plays it."""
    players, reals = make(data, preset, device)
    players.recorder.is_on &= records
    game = make_game(NETWORKS[preset.network].kind, reals, preset)
    return lambda: play_step(players, game, preset)


@dataclass
class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Each image with another one of its class, drawn anew each time."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        self.rows = [torch.nonzero(self.labels == one).flatten() for one in range(CLASSES)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        rows = self.rows[int(self.labels[row])]
        return self.images[row], self.images[rows[torch.randint(len(rows), ())]]


class Textbook:
    """The loop as a tutorial writes it."""

    def __init__(self, data: LabelledImages, preset: Preset, device: str) -> None:
        players, _ = make(data, preset, device)
        self.preset, self.device, self.step = preset, device, 0
        self.generator, self.discriminator = players.generator, players.discriminator
        self.average = copy.deepcopy(self.generator)
        self.rng = torch.Generator(device).manual_seed(0)
        images = to_float(torch.from_numpy(data.images).permute(0, 3, 1, 2)).contiguous()
        labels = torch.tensor(data.class_ids)
        self.is_pair = NETWORKS[preset.network].kind == "exemplar-conditional"
        dataset: Dataset[Any] = Pairs(images, labels) if self.is_pair else TensorDataset(images, labels)
        self.loader = DataLoader(
            dataset, batch_size=preset.batch, shuffle=True, drop_last=True, pin_memory=device == "cuda"
        )
        self.batches = self._batches()
        adam = {"lr": preset.learning_rate, "betas": preset.betas}
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), **adam)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), **adam)

    def play(self) -> None:
        """One step."""
        preset, loss = self.preset, LOSSES[self.preset.loss]
        real, condition = (one.to(self.device, non_blocking=True) for one in next(self.batches))
        if self.is_pair:
            warp = self._draw(real, preset.warp)
            real, condition = warp.apply(real), warp.apply(condition)
        augmentation = self._draw(real, preset.augment)
        seen_condition = augmentation.apply(condition) if self.is_pair else condition
        is_due = self.step % preset.penalty_every == 0
        self.step += 1

        fake = self.generator(self._latents(len(real)), condition).detach()
        seen_real = augmentation.apply(real).requires_grad_(is_due)
        seen_fake = augmentation.apply(fake).requires_grad_(is_due)
        real_logits = self.discriminator(seen_real, seen_condition)
        fake_logits = self.discriminator(seen_fake, seen_condition)
        total = loss.discriminator(real_logits, fake_logits)
        if is_due:
            weights = preset.regularizers
            total = total + preset.penalty_every * weights["r1"] * penalty(real_logits, seen_real)
            total = total + preset.penalty_every * weights["r2"] * penalty(fake_logits, seen_fake)
        self.discriminator_optimizer.zero_grad()
        total.backward()
        self.discriminator_optimizer.step()

        fake = self.generator(self._latents(len(real)), condition)
        fake_logits = self.discriminator(augmentation.apply(fake), seen_condition)
        with torch.no_grad():
            real_logits = self.discriminator(augmentation.apply(real), seen_condition)
        self.generator_optimizer.zero_grad()
        loss.generator(real_logits, fake_logits).backward()
        self.generator_optimizer.step()
        follow(self.average, self.generator, preset.ema)

    def _batches(self) -> Iterator[list[Tensor]]:
        while True:
            yield from self.loader

    def _latents(self, count: int) -> Tensor:
        return torch.randn(count, self.preset.z_dim, device=self.device)

    def _draw(self, images: Tensor, strength: Strength) -> Augmentation:
        if strength.is_nothing or not strength.share:
            return Augmentation()
        height, width = images.shape[2:]
        return draw_augmentation(len(images), height, width, strength, self.rng, strength.share)


def penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Half the squared length of the score's gradient."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the average, a parameter at a time."""
    for mine, theirs in zip(average.parameters(), network.parameters(), strict=True):
        mine.mul_(decay).add_(theirs, alpha=1 - decay)


def profile(name: str, device: str) -> str:
    """A table of the operators that take most of the time of our step."""
    play = ours(*lay(name), device)
    steps = _steps_of_a_turn(play, device)
    with torch.profiler.profile() as found:
        _time(play, steps, device)
    return str(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=TOP))


def _steps_of_a_turn(play: Play, device: str) -> int:
    """Warm up, and see how many steps fill a turn."""
    # On a GPU every kind of step is recorded by then.
    _time(play, LEAST_STEPS if device == "cpu" else GRADIENT_EVERY * (PLAIN + 1), device)
    seconds = _time(play, LEAST_STEPS, device)
    return LEAST_STEPS * max(1, round(TURN_S / seconds))


def _time(play: Play, steps: int, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        play()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def tell(text: str) -> None:
    """Print at once: the whole takes minutes."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
