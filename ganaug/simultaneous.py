"""Many arms against one: intervals that hold for all of them at once.

Of twenty arms that do nothing, one seems to help at 95 %. The correction here is the max-T method:
the intervals are as wide as the largest of all standardised differences needs. Holm's would need
p-values and give no intervals, and it counts every arm as a throw of its own; these arms share
their opponent, their test images and mostly their data, so that their differences move together,
which resampling sees: where arms are alike, the correction costs little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds
from ganaug.intervals import Doubles, Floats, Measures, floors_of, unit_weights, units_of

_CHUNK = 100


@dataclass(frozen=True)
class Comparison:
    """One arm against the one that all are compared with, macro-F1 in shares (0..1).

    Attributes:
        arm: Its name.
        has_synthetic: Whether it takes synthetic images.
        difference: Its mean over seeds less the other's.
        low: Lower end of the interval that holds for all arms together.
        high: Upper end.
        p: Adjusted probability of a difference as large as this among as many arms that are alike.
    """

    arm: str
    has_synthetic: bool
    difference: float
    low: float
    high: float
    p: float


def compare_all(
    arms: Mapping[str, Floats],
    before: Floats,
    labels: ClassIds,
    *,
    synthetic: Sequence[str] = (),
    groups: Sequence[str] | None = None,
    splits: ClassIds | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Comparison]:
    """Compare the macro-F1 of many arms with one, on the same test images and seeds.

    As `intervals.compare` does, test images are resampled within class and in units, and what
    other seeds (or splits, where there are several) would have given is drawn from Student's t with
    the spread of the paired differences, here that of all arms together; no difference is taken to be surer than if one
    image of each class had turned out otherwise.

    Args:
        arms: (S, N, K) probabilities of each arm.
        before: (S, N, K) probabilities of the arm that they are compared with.
        labels: (N,) true class ids.
        synthetic: Names of the arms that take synthetic images.
        groups: (N,) group of each image; empty means one of its own.
        splits: (N,) number of each image's split; None for one.
        confidence: Probability that all intervals hold.
        resamples: Bootstrap resamples.
        seed: Chooses the resamples.

    Source:
        Westfall & Young 1993, Resampling-based multiple testing, single-step max-T.
    """
    if not arms:
        return []
    rng = np.random.default_rng(seed)
    units = units_of(labels, groups)
    measures = Measures(np.stack([before, *arms.values()]), labels, [], splits)
    observed, resampled = _macro_f1(measures, units, resamples, rng)
    gaps = observed[1:] - observed[0]  # (M, R)
    centres, n_runs = gaps.mean(1), gaps.shape[1]
    moved = (resampled[:, 1:] - resampled[:, :1]).mean(2)  # (B, M)
    spread = moved - moved.mean(0)
    variance = spread.var(0)
    if n_runs > 1:
        own = gaps - centres[:, None]
        normal = rng.standard_normal((resamples, n_runs)) @ own.T / np.sqrt(n_runs * (n_runs - 1))
        # One divisor for all arms makes the draws a multivariate t.
        spread = spread + normal / np.sqrt(rng.chisquare(n_runs - 1, (resamples, 1)) / (n_runs - 1))
        variance = variance + gaps.var(1, ddof=1) / n_runs
    floor = floors_of(measures.counts(units), [])["macro_f1"]
    error = np.maximum(np.sqrt(variance), floor)
    largest = (np.abs(spread) / error).max(1)
    reach = np.maximum(np.quantile(largest, confidence), _normal_quantile(confidence)) * error
    p = [
        (1 + np.sum(largest >= abs(centre) / one)) / (1 + resamples)
        for centre, one in zip(centres, error, strict=True)
    ]
    low, high = np.maximum(centres - reach, -1.0), np.minimum(centres + reach, 1.0)
    return [
        Comparison(name, name in synthetic, *map(float, numbers))
        for name, *numbers in zip(arms, centres, low, high, p, strict=True)
    ]


def _normal_quantile(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + confidence) / 2))


def _macro_f1(
    measures: Measures, units: npt.NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> tuple[Doubles, Doubles]:
    """Macro-F1 (A, R) as observed and (B, A, R) with test images resampled, the same for all arms."""
    labels = measures.labels
    units_of_class = [np.unique(units[labels == class_id]) for class_id in np.unique(labels)]
    observed = measures(np.ones((1, len(labels)), np.float32))["macro_f1"][0]
    parts = []
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        weights = unit_weights(units_of_class, int(units.max()) + 1, count, rng)[:, units]
        parts.append(measures(weights)["macro_f1"])
    return observed, np.concatenate(parts)
