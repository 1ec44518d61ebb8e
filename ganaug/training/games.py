"""The two games that GANs play here, and the real images they draw from.

A game deals batches: real images and the condition that both players see beside them, which
is the class (`ClassGame`) or another real image of the class (`PairGame`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ganaug.dataset import LabelledImages
from ganaug.errors import TrainingError
from ganaug.training.augment import Augmentation, Strength, draw_augmentation
from ganaug.training.networks.conditioning import Kind, to_float
from ganaug.training.networks.presets import Preset


@dataclass(frozen=True)
class Batch:
    """What one step plays with.

    Attributes:
        real: (N, C, H, W) float32 real images in [-1, 1].
        condition: (N,) int64 class positions, or (N, C, H, W) exemplars.
    """

    real: Tensor
    condition: Tensor


class Game(Protocol):
    """Deals batches and treats what the discriminator sees."""

    def deal(self, count: int, rng: torch.Generator) -> Batch:
        """Draw a batch of real images and their conditions."""

    def augment(self, batch: Batch, fake: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Treat (real, fake, condition) alike, pair by pair."""


class Reals:
    """Real images on the device, as uint8, sorted by class so that draws need no Python loop.

    Attributes:
        images: (N, C, H, W) uint8.
        class_ids: The classes that have images, ascending.
        counts: (K,) images of each.
    """

    def __init__(self, data: LabelledImages, device: str) -> None:
        order = np.argsort(data.class_ids, kind="stable")
        found, counts = np.unique(data.class_ids, return_counts=True)
        self.images = torch.from_numpy(np.ascontiguousarray(data.images[order].transpose(0, 3, 1, 2))).to(
            device
        )
        self.class_ids: tuple[int, ...] = tuple(found.tolist())
        self.counts = torch.from_numpy(counts).to(device)
        self.starts = torch.cumsum(self.counts, 0) - self.counts

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def of_class(self, position: int) -> Tensor:
        """(n, C, H, W) uint8 images of one class."""
        start = int(self.starts[position])
        return self.images[start : start + int(self.counts[position])]

    def draw_classes(self, count: int, weights: Tensor, rng: torch.Generator) -> Tensor:
        """(N,) class positions drawn with these (K,) weights."""
        return torch.multinomial(weights, count, replacement=True, generator=rng)

    def draw_rows(self, classes: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """For each class position a row, and the row of another image of the class."""
        counts = self.counts[classes]
        first = (torch.rand(len(classes), generator=rng, device=rng.device) * counts).long()
        skip = (torch.rand(len(classes), generator=rng, device=rng.device) * (counts - 1)).long()
        # Skipping 1 to n - 1 places around the class never comes back to the same image.
        second = (first + 1 + skip) % counts
        return self.starts[classes] + first, self.starts[classes] + second


class ClassGame:
    """The condition is the class."""

    def __init__(
        self, reals: Reals, augment: Strength, balance: float = 1.0, focus: int | None = None
    ) -> None:
        self.reals, self.strength = reals, augment
        self.weights = class_weights(reals, balance, least=1, focus=focus)

    def deal(self, count: int, rng: torch.Generator) -> Batch:
        """Draw a batch of real images and their class positions."""
        classes = self.reals.draw_classes(count, self.weights, rng)
        rows, _ = self.reals.draw_rows(classes, rng)
        return Batch(to_float(self.reals.images[rows]), classes)

    def augment(self, batch: Batch, fake: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Treat each real image and the fake of its class alike."""
        choice = _draw(len(fake), self.reals, self.strength, rng)
        return choice.apply(batch.real), choice.apply(fake), batch.condition


class PairGame:
    """The condition is another real image of the class.

    Both images of a pair go through one affine map before anybody sees them: the generator
    learns what changes between two images of a class, and keeps the frame it was given.
    """

    def __init__(
        self,
        reals: Reals,
        warp: Strength,
        augment: Strength,
        balance: float = 1.0,
        focus: int | None = None,
    ) -> None:
        self.reals, self.warp, self.strength = reals, warp, augment
        self.weights = class_weights(reals, balance, least=2, focus=focus)

    def deal(self, count: int, rng: torch.Generator) -> Batch:
        """Draw a batch of real images and, for each, another one of its class."""
        classes = self.reals.draw_classes(count, self.weights, rng)
        first, second = self.reals.draw_rows(classes, rng)
        choice = _draw(count, self.reals, self.warp, rng)
        real, exemplar = self.reals.images[first], self.reals.images[second]
        return Batch(choice.apply(to_float(real)), choice.apply(to_float(exemplar)))

    def augment(self, batch: Batch, fake: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Treat each real image, its fake and their exemplar alike."""
        choice = _draw(len(fake), self.reals, self.strength, rng)
        return choice.apply(batch.real), choice.apply(fake), choice.apply(batch.condition)


def make_game(kind: Kind, reals: Reals, preset: Preset, focus: int | None = None) -> Game:
    """The game that a kind of network plays; `focus` is the position of a class to stress.

    Raises:
        TrainingError: A pair GAN was asked for and no class has two images.
    """
    if kind == "class-conditional":
        return ClassGame(reals, preset.augment, preset.balance, focus)
    if int(reals.counts.max()) < 2:
        raise TrainingError(
            "a pair GAN learns from two images of one class, and no class has two; "
            "add images, or set train.recipe to cgan or dcgan"
        )
    return PairGame(reals, preset.warp, preset.augment, preset.balance, focus)


def class_weights(reals: Reals, balance: float, least: int, focus: int | None = None) -> Tensor:
    """(K,) how often each class is drawn.

    Args:
        reals: The classes and their counts.
        balance: 1 draws all classes alike, 0 as often as they have images, 0.5 by the square
            root of that.
        least: A class with fewer images is not drawn.
        focus: Position of the class that gets half of the draws; None for none.
    """
    weights = (reals.counts >= least) * reals.counts.double() ** (1.0 - balance)
    if focus is not None and weights[focus] and weights.sum() > 1:
        weights[focus] = 0.0
        weights /= 2 * weights.sum()
        weights[focus] = 0.5
    return weights / weights.sum()


def _draw(count: int, reals: Reals, strength: Strength, rng: torch.Generator) -> Augmentation:
    if strength == replace(Strength(), share=strength.share):
        return Augmentation()
    return draw_augmentation(count, *reals.size, strength, rng)
