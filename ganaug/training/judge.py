"""The judge: how each class is doing at a few examinations, and which weights served best.

Everything is seen from the training side: the real images that the GAN learns from, those of the
training split that were held out from it, and the screening classifiers.

The score of a class is whether enough samples pass what screening will ask of them (every
classifier names the class with confidence, and the sample copies no real image), times how
diverse those samples are beside the real ones. More than enough does not count. Those
classifiers know the few images that the generator knows: a generator that learned them by heart
passes always and helps nobody. In trials on two splits of the digits, specialists chosen by the
plain share passed more often than the base, and a classifier lost two to three points of
rare-class recall by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganaug.dataset import Images, LabelledImages
from ganaug.screen.pixels import RealNeighbours, copy_distance, euclidean, flat
from ganaug.training.classifier import load_classifiers, predict
from ganaug.training.games import Reals
from ganaug.training.networks import NETWORKS
from ganaug.training.networks.conditioning import NetworkSpec, to_float, to_uint8
from ganaug.training.players import Players

SAMPLES, LEAST_SAMPLES = 256, 64
"""Samples of a class at an examination; fewer of each where there are many classes."""
ALL_SAMPLES = 2048
ENOUGH = 0.5
"""Share of samples that must pass: production makes twice what is wanted (`produce.surplus`)."""
CONFIDENT = 0.6
"""Probability that every classifier must give a sample's class; screening's own is measured later."""
NEIGHBOURS = 5
"""The sphere of a real image reaches to so many real neighbours (coverage)."""
REALS = 256
"""Real images of a class that samples are compared with in features."""
CHUNK = 256

Floats = npt.NDArray[np.float32]
Recogniser = Callable[[Images], tuple[Floats, Floats]]
"""(N, H, W, C) uint8 images to (N, K) probabilities and (N, F) features."""


@dataclass(frozen=True)
class ClassExam:
    """What an examination found for one class.

    Attributes:
        passing: Share of samples that screening would pass.
        diversity: Mean distance of two passing samples in features beside that of two real
            images, at most 1.
        score: The product, where `ENOUGH` passing counts as all.
        spread: As diversity, over all samples and without the bound.
        coverage: Share of real images with a sample as near as their own fifth neighbour.
        copies: Share of samples that are copies of real training images.
        repeats: Share of samples that are copies of one before them.
        nearness: Median distance of samples to the nearest training image over that of held-out
            real images (of the training images to each other, where none are held out).
    """

    passing: float
    diversity: float
    score: float
    spread: float
    coverage: float
    copies: float
    repeats: float
    nearness: float


class Judge:
    """Examines the moving average at a few steps, and keeps the weights that scored best.

    Args:
        recognisers: The screening classifiers; with none, pixels serve as features.
        train: The real images that the GAN learns from.
        held_out: Real training images that it does not see; may be empty.
        reals: `train` on the device.
        class_ids: The classes that are examined.
        spec: Of the generator.
        steps: Steps of the training, over which the examinations are spread.
        exams: How many there are after the one before the first step.
        seed: Chooses latents and exemplars, the same at every examination.
    """

    def __init__(
        self,
        recognisers: Sequence[Recogniser],
        train: LabelledImages,
        held_out: LabelledImages,
        reals: Reals,
        class_ids: Sequence[int],
        spec: NetworkSpec,
        *,
        steps: int,
        exams: int,
        seed: int,
    ) -> None:
        self.recognisers = list(recognisers)
        self.due = {round(steps * number / exams) for number in range(exams + 1)}
        self.threshold = copy_distance(train)
        self.desks = {
            class_id: self._desk(class_id, train, held_out, reals, spec, seed, len(class_ids))
            for class_id in class_ids
        }

    def __call__(self, players: Players) -> dict[int, ClassExam] | None:
        """Examine every class when the time has come; called before the first step and after each."""
        if players.step not in self.due:
            return None
        found = {
            class_id: self.examine(class_id, make_samples(players.average, desk.z, desk.condition))
            for class_id, desk in self.desks.items()
        }
        mean = {
            name: float(np.mean([asdict(exam)[name] for exam in found.values()]))
            for name in ClassExam.__dataclass_fields__
        }
        players.notes["curves"] += [[players.step, f"exam_{name}", value] for name, value in mean.items()]
        players.notes["exams"].append(
            {"step": players.step, **mean, "classes": {str(key): asdict(exam) for key, exam in found.items()}}
        )
        # Without classifiers nobody knows whether a sample is of its class: the last are as good.
        if self.recognisers and mean["score"] > players.notes.get("best_score", 0.0):
            players.notes["best_score"], players.notes["best_step"] = mean["score"], players.step
            players.keep()
        return found

    def examine(self, class_id: int, images: Images) -> ClassExam:
        """Examine (N, H, W, C) uint8 samples of one class."""
        desk = self.desks[class_id]
        passes = np.ones(len(images), dtype=bool)
        for recognise in self.recognisers:
            passes &= recognise(images)[0][:, class_id] > CONFIDENT
        distance, _ = desk.neighbours(images)
        passes &= distance >= self.threshold
        features = self._features(images)
        passing, scale = float(passes.mean()), max(desk.real_spread, 1e-9)
        diversity = min(1.0, spread(features[passes]) / scale)
        return ClassExam(
            passing=passing,
            diversity=diversity,
            score=min(1.0, passing / ENOUGH) * diversity,
            spread=spread(features) / scale,
            coverage=coverage(desk.real_features, features),
            copies=float((distance < self.threshold).mean()),
            repeats=repeats(images, self.threshold),
            nearness=float(np.median(distance)) / max(desk.real_nearness, 1e-9),
        )

    def _desk(
        self,
        class_id: int,
        train: LabelledImages,
        held_out: LabelledImages,
        reals: Reals,
        spec: NetworkSpec,
        seed: int,
        classes: int,
    ) -> _Desk:
        own = np.ascontiguousarray(train.images[train.class_ids == class_id])
        held = np.ascontiguousarray(held_out.images[held_out.class_ids == class_id])
        count = min(SAMPLES, max(LEAST_SAMPLES, ALL_SAMPLES // classes))
        rng = torch.Generator().manual_seed(seed)
        position = reals.class_ids.index(class_id)
        z = torch.randn(count, spec.z_dim, generator=rng).to(reals.device)
        condition = torch.full((count,), position, device=reals.device)
        if NETWORKS[spec.network].kind == "exemplar-conditional":
            exemplars = reals.of_class(position)
            rows = torch.randint(len(exemplars), (count,), generator=rng).to(reals.device)
            condition = to_float(exemplars[rows])
        features = self._features(own[:REALS])
        compared = self._features(held[:REALS]) if len(held) > NEIGHBOURS else features
        return _Desk(
            z, condition, RealNeighbours(own), spread(features), compared, _nearness(held[:REALS], own)
        )

    def _features(self, images: Images) -> Floats:
        """(N, F) what the first classifier sees in images; their pixels when there is none."""
        if self.recognisers:
            return self.recognisers[0](images)[1]
        return images.reshape(len(images), -1).astype(np.float32)


@dataclass(frozen=True)
class _Desk:
    """What one class is examined with: the same latents each time, and its real images."""

    z: Tensor
    condition: Tensor
    neighbours: RealNeighbours
    real_spread: float
    real_features: Floats
    real_nearness: float


@torch.no_grad()
def make_samples(generator: torch.nn.Module, z: Tensor, condition: Tensor) -> Images:
    """(N, H, W, C) uint8 samples of a generator core, made in chunks."""
    parts = [
        to_uint8(generator(z[start : start + CHUNK], condition[start : start + CHUNK])).permute(0, 2, 3, 1)
        for start in range(0, len(z), CHUNK)
    ]
    images: Images = torch.cat(parts).cpu().numpy()
    return images


def spread(features: Floats) -> float:
    """Mean distance between two different rows of (N, F) features; 0 for fewer than two rows.

    >>> spread(np.array([[0.0], [3.0]], np.float32))
    3.0
    """
    if len(features) < 2:
        return 0.0
    gaps = torch.nn.functional.pdist(torch.from_numpy(np.ascontiguousarray(features)))
    return float(gaps.mean())


def repeats(images: Images, threshold: float) -> float:
    """Share of (N, H, W, C) uint8 images nearer than this to one before them, in root mean square of pixels.

    >>> repeats(np.array([0, 9, 0, 0], np.uint8).reshape(4, 1, 1, 1), 0.01)
    0.5
    """
    pixels = flat(images)
    near = euclidean(pixels, pixels) < threshold * np.sqrt(pixels.shape[1])
    return float(np.tril(near, k=-1).any(axis=1).mean())


def coverage(real: Floats, synthetic: Floats, neighbours: int = NEIGHBOURS) -> float:
    """Share of real images that have a synthetic one within reach of their own neighbours.

    Args:
        real: (N, F) features of real images.
        synthetic: (M, F) features of synthetic ones.
        neighbours: A real image reaches to so many others, or to all where there are fewer.

    Returns:
        0 to 1; 0 where there are fewer than two real images.

    Source:
        Naeem et al. 2020, arXiv:2002.09797, equation 5.

    >>> real = np.array([[0.0], [1.0], [9.0], [10.0]], np.float32)
    >>> coverage(real, np.array([[0.5]], np.float32), neighbours=1)
    0.5
    """
    if len(real) < 2 or not len(synthetic):
        return 0.0
    points = torch.from_numpy(np.ascontiguousarray(real))
    among = torch.cdist(points, points)
    # The nearest of all is the image itself.
    reach = among.kthvalue(min(neighbours, len(real) - 1) + 1, dim=1).values
    nearest = torch.cdist(points, torch.from_numpy(np.ascontiguousarray(synthetic))).min(dim=1).values
    return float((nearest <= reach).float().mean())


def _nearness(held_out: Images, own: Images) -> float:
    """Median distance of held-out images to the nearest training image, or of those to each other."""
    if len(held_out):
        return float(np.median(RealNeighbours(own)(held_out)[0]))
    if len(own) < 2:
        return 0.0
    own = own[:REALS]
    gaps = [RealNeighbours(np.delete(own, row, axis=0))(own[row : row + 1])[0][0] for row in range(len(own))]
    return float(np.median(gaps))


def load_recognisers(classifiers: Path | None, device: str) -> list[Recogniser]:
    """The screening classifiers of a folder; none without one."""
    if classifiers is None:
        return []
    return [partial(predict, model) for model in load_classifiers(classifiers, device)]
