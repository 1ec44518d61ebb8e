"""The two games that GANs play here, and the real images they draw from.

A game deals hands: for one step everything that is random about it, drawn at once for the
whole batch. So a step can be played in parts, on one device or several, and stays the same step.
The condition that both players see beside an image is its class (`ClassGame`) or another real
image of the class (`PairGame`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganaug.dataset import Images, LabelledImages
from ganaug.errors import TrainingError
from ganaug.training.augment import Augmentation, Strength, draw_augmentation
from ganaug.training.networks.conditioning import Kind, to_float
from ganaug.training.networks.presets import Preset

UNLABELLED = -1
"""Label of a real image whose class is not known."""
UNLABELLED_SHARE = 0.5
"""Share of the real images of a step that are unlabelled, where there are such."""


@dataclass(frozen=True)
class Hand:
    """What one step plays with; N is the batch.

    Attributes:
        real: (N, C, H, W) float32 real images in [-1, 1].
        condition: (N,) int64 class positions, or (N, C, H, W) exemplars.
        labels: (N,) int64 class positions of the real images, `UNLABELLED` where not known.
        z: (N, z_dim) latents of the fakes.
        mix: (N, 1, 1, 1) uniform in 0..1, for penalties between images.
        noise: (N, C, H, W) uniform in 0..1, for penalties around images.
        augmentation: What the discriminator's images go through.
    """

    real: Tensor
    condition: Tensor
    labels: Tensor
    z: Tensor
    mix: Tensor
    noise: Tensor
    augmentation: Augmentation

    def __len__(self) -> int:
        return len(self.real)

    def part(self, rows: slice) -> Hand:
        """The same step for some of its images."""
        parts: dict[str, Any] = {field.name: _rows(getattr(self, field.name), rows) for field in fields(self)}
        return Hand(**parts)

    def parts(self, count: int) -> list[Hand]:
        """Part into `count` hands of nearly the same size, fewer where there are fewer images."""
        edges = [round(len(self) * number / count) for number in range(count + 1)]
        return [self.part(slice(a, b)) for a, b in pairwise(edges) if a < b]

    def tensors(self) -> dict[str, Tensor]:
        """All that it is made of, by name."""
        own = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return own | {name: value for name, value in vars(self.augmentation).items() if value is not None}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Hand:
        """The same made of other tensors, named as `tensors` names them."""
        changed = vars(self.augmentation).keys() & tensors.keys()
        augmentation = replace(self.augmentation, **{name: tensors[name] for name in changed})
        own = {name: tensors[name] for name in tensors.keys() - changed}
        return replace(self, augmentation=augmentation, **own)

    def seen_condition(self) -> Tensor:
        """The condition as the discriminator sees it: an exemplar is augmented like its pair."""
        return self.augmentation.apply(self.condition) if self.condition.dim() == 4 else self.condition


class Game(Protocol):
    """Deals hands, of training images and of those held out."""

    reals: Reals

    def deal(self, count: int, rng: torch.Generator, share: float) -> Hand:
        """Draw a step; `share` of the images are augmented."""

    def deal_held_out(self, count: int, rng: torch.Generator, share: float) -> tuple[Hand, Tensor] | None:
        """Draw a hand of images that are not trained on, and training images of the same classes.

        None where none are held out.
        """


class Reals:
    """Real images on the device, as uint8 and once; drawn by class without a Python loop.

    Attributes:
        images: (N, H, W, C) uint8, in the order of the dataset.
        class_ids: The classes that have images, ascending.
        counts: (K,) images of each.
    """

    def __init__(self, data: LabelledImages, device: str) -> None:
        order = np.argsort(data.class_ids, kind="stable")
        found, counts = np.unique(data.class_ids, return_counts=True)
        self.images = torch.from_numpy(_writable(data.images)).to(device)
        self.class_ids: tuple[int, ...] = tuple(found.tolist())
        self.counts = torch.from_numpy(counts).to(device)
        self._order = torch.from_numpy(order).to(device)
        self._starts = torch.cumsum(self.counts, 0) - self.counts

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.images.shape[1]), int(self.images.shape[2])

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    def of_class(self, position: int) -> Tensor:
        """(n, C, H, W) uint8 images of one class."""
        start = int(self._starts[position])
        rows = self._order[start : start + int(self.counts[position])]
        return self.images[rows].permute(0, 3, 1, 2).contiguous()

    def take(self, rows: Tensor) -> Tensor:
        """(n, C, H, W) float32 in [-1, 1], the images at these row numbers."""
        return to_float(self.images[rows].permute(0, 3, 1, 2)).contiguous()

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
        starts = self._starts[classes]
        return self._order[starts + first], self._order[starts + second]


class ClassGame:
    """The condition is the class.

    Args:
        reals: Training images.
        preset: The numbers.
        held_out: Images that are not trained on.
        focus: Position of a class that gets half of the draws.
        unlabelled: (M, H, W, C) uint8 real images of unknown class, which take the place of a
            share of the real ones before a discriminator that also tells classes.
    """

    def __init__(
        self,
        reals: Reals,
        preset: Preset,
        held_out: Reals | None = None,
        focus: int | None = None,
        unlabelled: Images | None = None,
    ) -> None:
        self.reals, self.preset, self.held_out = reals, preset, held_out
        self.weights = class_weights(reals, preset.balance, least=1, focus=focus)
        self.unlabelled = None
        if unlabelled is not None and len(unlabelled):
            self.unlabelled = torch.from_numpy(_writable(unlabelled)).to(reals.device)

    def deal(self, count: int, rng: torch.Generator, share: float) -> Hand:
        """Draw real images, their class positions, and all else that is random."""
        classes = self.reals.draw_classes(count, self.weights, rng)
        rows, _ = self.reals.draw_rows(classes, rng)
        real, labels = self.reals.take(rows), classes
        if self.unlabelled is not None:
            real, labels = self._mix_unlabelled(real, labels, rng)
        return _finish_hand(real, classes, labels, self.reals, self.preset, rng, share)

    def _mix_unlabelled(self, real: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        assert self.unlabelled is not None
        device, count = rng.device, len(real)
        rows = torch.randint(len(self.unlabelled), (count,), generator=rng, device=device)
        chosen = torch.rand(count, generator=rng, device=device) < UNLABELLED_SHARE
        other = to_float(self.unlabelled[rows].permute(0, 3, 1, 2))
        real = torch.where(chosen.view(-1, 1, 1, 1), other, real)
        return real, torch.where(chosen, UNLABELLED, labels)

    def deal_held_out(self, count: int, rng: torch.Generator, share: float) -> tuple[Hand, Tensor] | None:
        """Draw a hand of held-out images, and training images of the same classes."""
        drawn = _draw_held_out(self.reals, self.held_out, count, rng)
        if drawn is None:
            return None
        held_out, classes = drawn
        rows, _ = self.reals.draw_rows(classes, rng)
        hand = _finish_hand(held_out, classes, classes, self.reals, self.preset, rng, share)
        return hand, self.reals.take(rows)


class PairGame:
    """The condition is another real image of the class.

    Both images of a pair go through one affine map before anybody sees them: the generator
    learns what changes between two images of a class, and keeps the frame it was given.
    """

    def __init__(
        self, reals: Reals, preset: Preset, held_out: Reals | None = None, focus: int | None = None
    ) -> None:
        self.reals, self.preset, self.held_out = reals, preset, held_out
        self.weights = class_weights(reals, preset.balance, least=2, focus=focus)

    def deal(self, count: int, rng: torch.Generator, share: float) -> Hand:
        """Draw real images and, for each, another one of its class."""
        classes = self.reals.draw_classes(count, self.weights, rng)
        first, second = self.reals.draw_rows(classes, rng)
        warp = _draw(count, self.reals, self.preset.warp, rng, self.preset.warp.share)
        real, exemplar = warp.apply(self.reals.take(first)), warp.apply(self.reals.take(second))
        return _finish_hand(real, exemplar, classes, self.reals, self.preset, rng, share)

    def deal_held_out(self, count: int, rng: torch.Generator, share: float) -> tuple[Hand, Tensor] | None:
        """Draw a hand of held-out images with exemplars, and training images of the same classes."""
        drawn = _draw_held_out(self.reals, self.held_out, count, rng)
        if drawn is None:
            return None
        held_out, classes = drawn
        first, second = self.reals.draw_rows(classes, rng)
        exemplars = self.reals.take(second)
        hand = _finish_hand(held_out, exemplars, classes, self.reals, self.preset, rng, share)
        return hand, self.reals.take(first)


def make_game(
    kind: Kind,
    reals: Reals,
    preset: Preset,
    *,
    held_out: Reals | None = None,
    focus: int | None = None,
    unlabelled: Images | None = None,
) -> Game:
    """The game that a kind of network plays; `focus` is the position of a class to stress.

    Raises:
        TrainingError: A pair GAN was asked for and no class has two images.
    """
    if kind == "class-conditional":
        return ClassGame(reals, preset, held_out, focus, unlabelled)
    if int(reals.counts.max()) < 2:
        raise TrainingError(
            "a pair GAN learns from two images of one class, and no class has two; "
            "add images, or set train.recipe to cgan or strided"
        )
    return PairGame(reals, preset, held_out, focus)


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
    if focus is not None and weights[focus] and weights.sum() > weights[focus]:
        weights[focus] = 0.0
        weights /= 2 * weights.sum()
        weights[focus] = 0.5
    return weights / weights.sum()


def hold_out(
    data: LabelledImages, share: float, seed: int, least: int = 50
) -> tuple[LabelledImages, LabelledImages, npt.NDArray[np.int64]]:
    """Keep a share of each common class from training, so that there is something to check with.

    Images of one group (see `LabelledImages.index`) and class go together.

    Args:
        data: Real training images.
        share: Share of each class that is held out, 0..1.
        seed: Chooses them.
        least: A class with fewer images is trained on whole: it has none to spare.

    Returns:
        What is trained on, what is held out, and the row numbers of the latter.
    """
    rng, rows = np.random.default_rng([seed, 7]), []
    class_ids, groups = data.class_ids, data.index["group"].to_numpy()
    for class_id in np.unique(class_ids):
        own = np.flatnonzero(class_ids == class_id)
        wanted = int(len(own) * share) if len(own) >= least else 0
        # An image without a group is a group of its own.
        names = np.array([groups[row] or f"row {row}" for row in own], dtype=object)
        for name in rng.permutation(np.unique(names)):
            if wanted <= 0:
                break
            mates = own[names == name]
            if len(mates) <= wanted:
                rows.append(mates)
                wanted -= len(mates)
    held = np.unique(np.concatenate([np.empty(0, np.int64), *rows])).astype(np.int64)
    return data.take(np.setdiff1d(np.arange(len(data)), held)), data.take(held), held


def _draw_held_out(
    reals: Reals, held_out: Reals | None, count: int, rng: torch.Generator
) -> tuple[Tensor, Tensor] | None:
    """Images, and the positions of their classes among the training images."""
    if held_out is None or not len(held_out.class_ids):
        return None
    positions = torch.tensor([reals.class_ids.index(one) for one in held_out.class_ids], device=rng.device)
    classes = held_out.draw_classes(count, class_weights(held_out, 1.0, least=1), rng)
    rows, _ = held_out.draw_rows(classes, rng)
    return held_out.take(rows), positions[classes]


def _finish_hand(
    real: Tensor,
    condition: Tensor,
    labels: Tensor,
    reals: Reals,
    preset: Preset,
    rng: torch.Generator,
    share: float,
) -> Hand:
    count, device = len(real), rng.device
    z = torch.randn(count, preset.z_dim, generator=rng, device=device)
    mix = torch.rand(count, 1, 1, 1, generator=rng, device=device)
    # Only one penalty needs an image of noise; for the others a single number stands there.
    shape = real.shape if "dragan" in preset.regularizers else mix.shape
    noise = torch.rand(shape, generator=rng, device=device)
    augmentation = _draw(count, reals, preset.augment, rng, share)
    return Hand(real, condition, labels, z, mix, noise, augmentation)


def _draw(count: int, reals: Reals, strength: Strength, rng: torch.Generator, share: float) -> Augmentation:
    if strength.is_nothing or share <= 0.0:
        return Augmentation()
    return draw_augmentation(count, *reals.size, strength, rng, share)


def _rows(value: Tensor | Augmentation, rows: slice) -> Tensor | Augmentation:
    return value.part(rows) if isinstance(value, Augmentation) else value[rows]


def _writable(images: Images) -> Images:
    """The images themselves where torch may share their memory; it refuses read-only arrays."""
    return images if images.flags.writeable and images.flags.c_contiguous else np.array(images)
