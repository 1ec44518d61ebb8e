"""Paired intervals of the difference between two arms, over classifier seeds and test images.

Two things make a measured difference uncertain: another training would give another
classifier, and another draw of test images another score. The interval covers both. Seeds are
paired between the arms; test images are resampled within class, or in whole groups.

Where images were split several times, another training is one on another split, GAN and all, and an
image that was tested in several splits is drawn once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

MEASURES = ("macro_f1", "rare_recall", "rare_average_precision")
"""What two arms are compared by; the rare classes are those that the plan wants more of."""
_CHUNK = 100
_RANKED_RESAMPLES = 500
"""Average precision costs a pass over the ranking per resample, so it gets fewer of them."""


@dataclass(frozen=True)
class Difference:
    """A measure of two arms and the paired difference between them, in shares (0..1).

    Attributes:
        before: Mean over seeds of the arm that is compared with.
        after: Mean over seeds of the other arm.
        difference: `after` less `before`.
        low: Lower end of the interval of the difference.
        high: Upper end.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """Half the interval: about the smallest difference that the data can show."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class _Resampled:
    """One measure of both arms: (2, R) as observed, (B, 2, R) with test images resampled."""

    observed: Doubles
    resamples: Doubles
    floor: float
    is_recall: bool = False


def compare(
    before: Floats,
    after: Floats,
    labels: ClassIds,
    wanted: Sequence[int],
    *,
    groups: Sequence[str] | None = None,
    splits: ClassIds | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Difference]:
    """Compare two arms on the same test images and seeds.

    The interval is a hierarchical bootstrap of the mean difference over seeds, or over splits where
    there are several. Test images are resampled within class, in units. Resampling a handful of seeds
    the same way shows too little of their spread (four seeds have only 35 different resamples), so
    what others would have given is drawn from Student's t, with the spread of the paired differences.
    Of several splits that spread holds the choice of test images too, which therefore counts twice:
    the interval is rather too wide than too narrow. It is never narrower than if one image of each class had
    turned out otherwise: that two arms agree on each of 12 images does not show that they agree.
    For recalls, which hang on the few images that the arms call differently, that image is added
    to the spread: without it arms that are alike are told apart up to 13 times in 100 at 95 %.

    Args:
        before: (S, N, K) probabilities of the arm compared with, one row per seed.
        after: (S, N, K) probabilities of the other arm, with the same seeds.
        labels: (N,) true class ids.
        wanted: Class ids over which recall and average precision are averaged.
        groups: (N,) group of each image; empty means one of its own. Groups are resampled whole.
        splits: (N,) number of the split that each image was tested in; an image that was tested in
            several stands there as often, under one group. None for one split.
        confidence: Level of the intervals.
        resamples: Bootstrap resamples; average precision takes at most 500.
        seed: Chooses the resamples.

    Returns:
        A `Difference` for each of `MEASURES` (the rare ones only where some wanted class has
        test images) and for `recall <class id>` of each wanted class with test images.

    Source:
        Bootstrap within strata and of whole groups: Davison & Hinkley 1997, chapters 3.2, 3.8.
        Splits and images as crossed factors, each resampled: Owen 2007, arXiv:0711.1146.
        One more image that differs, for paired proportions: Agresti & Min 2005, Simple improved
        confidence intervals for comparing matched proportions, Statistics in Medicine 24.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(labels, minlength=before.shape[2])
    rare = [class_id for class_id in wanted if counts[class_id]]
    units = units_of(labels, groups)
    fits = np.stack([before, after])
    found = _resample(Measures(fits, labels, rare, splits), units, resamples, rng)
    return {name: _interval(measure, confidence, rng) for name, measure in found.items()}


def units_of(labels: ClassIds, groups: Sequence[str] | None) -> npt.NDArray[np.int64]:
    """(N,) number of the unit that each image is resampled with; a unit lies in one class."""
    own = np.arange(len(labels))
    if groups is None:
        return own
    known: dict[tuple[int, object], int] = {}
    keys = [(label, group or row) for row, (label, group) in enumerate(zip(labels, groups, strict=True))]
    return np.array([known.setdefault(key, len(known)) for key in keys], np.int64)


def unit_weights(
    units_of_class: list[npt.NDArray[np.int64]], n_units: int, count: int, rng: np.random.Generator
) -> Floats:
    """(count, U) times that each unit is drawn, as many draws per class as it has units."""
    weights = np.zeros((count, n_units), np.float32)
    for units in units_of_class:
        drawn = rng.integers(len(units), size=(count, len(units)))
        flat = (drawn + np.arange(count)[:, None] * len(units)).ravel()
        weights[:, units] = np.bincount(flat, minlength=count * len(units)).reshape(count, -1)
    return weights


def _resample(
    measures: Measures, units: npt.NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> dict[str, _Resampled]:
    """Every measure of both arms, as observed and under resampled images."""
    labels, rare = measures.labels, measures.rare
    units_of_class = [np.unique(units[labels == class_id]) for class_id in np.unique(labels)]
    observed = measures(np.ones((1, len(labels)), np.float32))
    parts: dict[str, list[Doubles]] = {name: [] for name in observed}
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        weights = unit_weights(units_of_class, int(units.max()) + 1, count, rng)[:, units]
        for name, value in measures(weights, ranked=start < _RANKED_RESAMPLES).items():
            parts[name].append(value)
    floors = floors_of(measures.counts(units), rare)
    return {
        name: _Resampled(values[0], np.concatenate(parts[name]), floors[name], "recall" in name)
        for name, values in observed.items()
    }


def floors_of(counts: npt.NDArray[np.int64], rare: list[int]) -> dict[str, float]:
    """Standard error of each measure if one image of each class turned, either way."""
    present = counts[counts > 0]
    floors = {"macro_f1": float(np.sqrt(np.sum(1.0 / present**2.0))) / len(present)}
    floors |= {f"recall {class_id}": 1.0 / counts[class_id] for class_id in rare}
    if rare:
        floor = float(np.sqrt(np.sum(1.0 / counts[rare] ** 2.0))) / len(rare)
        floors |= {"rare_recall": floor, "rare_average_precision": floor}
    return floors


class Measures:
    """Every measure of A arms under image weights: of each seed, or of each split where there are several.

    Args:
        fits: (A, S, N, K) probabilities, one row per arm and seed.
        labels: (N,) true class ids.
        rare: Class ids over which recall and average precision are averaged; all have test images.
        splits: (N,) number of each image's split; None for one.
    """

    def __init__(
        self, fits: Floats, labels: ClassIds, rare: list[int], splits: ClassIds | None = None
    ) -> None:
        self.labels, self.rare, self.shape = labels, rare, fits.shape[:2]
        self.parts: list[tuple[npt.NDArray[np.int64], _Counter, _Ranker]] = []
        numbers = np.zeros(len(labels), np.int64) if splits is None else splits
        flat = fits.reshape(-1, *fits.shape[2:])
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            own, truth = flat[:, rows], labels[rows]
            counter = _Counter(own.argmax(2), truth, fits.shape[3], rare)
            self.parts.append((rows, counter, _Ranker(own, truth, rare)))

    def counts(self, units: npt.NDArray[np.int64]) -> ClassIds:
        """(K,) test images of each class; one that was tested in several splits counts once."""
        rows = np.unique(units, return_index=True)[1] if len(self.parts) > 1 else np.arange(len(self.labels))
        return np.bincount(self.labels[rows], minlength=int(self.labels.max()) + 1).astype(np.int64)

    def __call__(self, weights: Floats, *, ranked: bool = True) -> dict[str, Doubles]:
        """(B, A, R) of each measure for (B, N) weights; R is seeds, or splits where there are several."""
        found = []
        for rows, counter, ranker in self.parts:
            own = np.ascontiguousarray(weights[:, rows])
            values = counter(own) | (ranker(own) if ranked else {})
            found.append({name: value.reshape(-1, *self.shape) for name, value in values.items()})
        if len(found) == 1:
            return found[0]
        return {name: np.stack([part[name].mean(2) for part in found], axis=2) for name in found[0]}


class _Counter:
    """Macro-F1 and recalls of F fits under image weights, from confusion counts."""

    def __init__(self, predicted: ClassIds, labels: ClassIds, n_classes: int, rare: list[int]) -> None:
        from scipy.sparse import csr_array

        n_fits, n_images = predicted.shape
        self.shape, self.rare = (n_fits, n_classes), rare
        rows = np.tile(np.arange(n_images), n_fits)
        offset = np.repeat(np.arange(n_fits) * n_classes, n_images)
        size = (n_images, n_fits * n_classes)
        guessed = predicted.ravel() + offset
        self.predicted = csr_array((np.ones(len(rows), np.float32), (rows, guessed)), shape=size)
        is_hit = (predicted == labels).ravel()
        self.hits = csr_array(
            (np.ones(int(is_hit.sum()), np.float32), (rows[is_hit], guessed[is_hit])), shape=size
        )
        self.truth = csr_array(
            (np.ones(n_images, np.float32), (np.arange(n_images), labels)), shape=(n_images, n_classes)
        )
        self.present = np.bincount(labels, minlength=n_classes) > 0

    def __call__(self, weights: Floats) -> dict[str, Doubles]:
        """(B, F) of each measure for (B, N) weights."""
        predicted = (weights @ self.predicted).reshape(-1, *self.shape)
        hits = (weights @ self.hits).reshape(-1, *self.shape)
        truth = (weights @ self.truth)[:, None, :]
        f1 = 2 * hits / np.maximum(predicted + truth, 1e-9)
        recall = hits / np.maximum(truth, 1e-9)
        found = {"macro_f1": f1[..., self.present].mean(2, dtype=np.float64)}
        if self.rare:
            found["rare_recall"] = recall[..., self.rare].mean(2, dtype=np.float64)
        return found | {
            f"recall {class_id}": recall[..., class_id].astype(np.float64) for class_id in self.rare
        }


class _Ranker:
    """Mean average precision over the rare classes of F fits under image weights."""

    def __init__(self, fits: Floats, labels: ClassIds, rare: list[int]) -> None:
        self.rare = rare
        self.orders = [
            [np.argsort(-fit[:, class_id], kind="stable") for class_id in rare] if rare else []
            for fit in fits
        ]
        self.labels = labels

    def __call__(self, weights: Floats) -> dict[str, Doubles]:
        """(B, F) mean average precision for (B, N) weights; nothing without rare classes."""
        if not self.rare:
            return {}
        means = [
            np.mean(
                [
                    self._one(weights, order, class_id)
                    for order, class_id in zip(orders, self.rare, strict=True)
                ],
                axis=0,
            )
            for orders in self.orders
        ]
        return {"rare_average_precision": np.stack(means, axis=1)}

    def _one(self, weights: Floats, order: npt.NDArray[np.int64], class_id: int) -> Doubles:
        places = np.flatnonzero(self.labels[order] == class_id)
        # What ranks below the last image of the class changes no precision.
        ranked = weights[:, order[: places[-1] + 1]]
        starts = np.concatenate([[0], places[:-1] + 1])
        seen = np.cumsum(np.add.reduceat(ranked, starts, axis=1), axis=1)
        own = ranked[:, places]
        hits = np.cumsum(own, axis=1)
        total = np.maximum(hits[:, -1], 1e-9)
        precision: Doubles = (own * hits / np.maximum(seen, 1e-9)).sum(1, dtype=np.float64) / total
        return precision


def _interval(measure: _Resampled, confidence: float, rng: np.random.Generator) -> Difference:
    """The interval of one measure; how is told at `compare`."""
    from scipy.special import ndtri

    gaps = (measure.resamples[:, 1] - measure.resamples[:, 0]).mean(1)  # (B,)
    observed = measure.observed[1] - measure.observed[0]  # (S,)
    n_seeds = len(observed)
    spread = gaps - gaps.mean()
    if n_seeds > 1:
        error = float(observed.std(ddof=1)) / np.sqrt(n_seeds)
        spread = spread + error * rng.standard_t(n_seeds - 1, size=len(gaps))
    if measure.is_recall:
        spread = spread + measure.floor * rng.standard_normal(len(gaps))
    tail = (1 + confidence) / 2
    low, high = np.quantile(spread, [1 - tail, tail])
    floor = float(ndtri(tail)) * measure.floor
    centre = float(observed.mean())
    return Difference(
        before=float(measure.observed[0].mean()),
        after=float(measure.observed[1].mean()),
        difference=centre,
        # Of a handful of images the quantiles of t reach further than a share can change.
        low=max(-1.0, centre + min(float(low), -floor)),
        high=min(1.0, centre + max(float(high), floor)),
    )
