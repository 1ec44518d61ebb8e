"""Cross-validation folds: what classifiers say of real images that they were not trained on.

Thresholds are set by them: a classifier is far surer of its own training images than of any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds
from ganaug.errors import ModelError

MOST_SAMPLED = 5000
"""Training images of which a fold keeps logits and features."""

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Fold:
    """One classifier of a cross-validation, and what it sees in sampled training images.

    Attributes:
        class_ids: (N,) their classes.
        held_out: (N,) whether the classifier was trained without the image.
        logits: (N, K) its logits.
        features: (N, F) its features.
    """

    class_ids: ClassIds
    held_out: Bools
    logits: Floats
    features: Floats

    def save(self, path: Path) -> None:
        """Write it, beside and then in place; logits and features as half-precision numbers."""
        beside = path.with_suffix(".partial")
        with beside.open("wb") as file:
            np.savez(
                file,
                class_ids=self.class_ids,
                held_out=self.held_out,
                logits=self.logits.astype(np.float16),
                features=self.features.astype(np.float16),
            )
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Fold:
        """Read it.

        Raises:
            ModelError: The file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(
                    arrays["class_ids"].astype(np.int64),
                    arrays["held_out"].astype(bool),
                    arrays["logits"].astype(np.float32),
                    arrays["features"].astype(np.float32),
                )
        except Exception as error:
            raise ModelError(
                f"{path} holds no cross-validation fold ({error}); train the classifiers again: delete "
                f"{path.parent} and run `ganaug train`"
            ) from error


def sample_rows(class_ids: ClassIds, most: int = MOST_SAMPLED) -> ClassIds:
    """Rows of up to `most` images: all of the rare classes, equally many of the others.

    >>> np.bincount(np.repeat([0, 1, 2], [50, 3, 20])[sample_rows(np.repeat([0, 1, 2], [50, 3, 20]), 23)])
    array([10,  3, 10])
    """
    counts = np.bincount(class_ids)
    limits = np.arange(1, counts.max(initial=1) + 1)
    totals = np.minimum(counts[None, :], limits[:, None]).sum(axis=1)
    limit = limits[max(0, int(np.searchsorted(totals, most, side="right")) - 1)]
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(np.flatnonzero(class_ids == k))[:limit] for k in np.flatnonzero(counts)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))
