"""Cross-validation folds: what classifiers say of real images that they were not trained on.

Thresholds are set by them: a classifier is far surer of its own training images than of any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds, LabelledImages
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


def assign_folds(train: LabelledImages, folds: int, seed: int) -> ClassIds:
    """Deal training images to folds, so that each has its share of every class.

    Images of one group stay together, except in a class that is a single group: its images
    would be held out all at once.

    Args:
        train: Real training images; their `group` says what belongs together.
        folds: How many.
        seed: Chooses among equally good ways.

    Returns:
        (N,) number of the fold in which each image is held out.
    """
    units = _units(train)
    n_units = int(units.max(initial=-1)) + 1
    counts = np.zeros((n_units, len(train.class_names)), np.int64)
    np.add.at(counts, (units, train.class_ids), 1)
    load = np.zeros((folds, len(train.class_names)))
    chosen = np.zeros(n_units, np.int64)
    order = np.random.default_rng(seed).permutation(n_units)
    # The largest first: what is small evens out what they leave uneven.
    for unit in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        share = counts[unit] / np.maximum(train.counts(), 1)
        # The fold that lacks most of what the unit brings; the emptiest of equals.
        chosen[unit] = min(range(folds), key=lambda fold: (float(load[fold] @ share), load[fold].sum()))
        load[chosen[unit]] += share
    return chosen[units]


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


def _units(train: LabelledImages) -> ClassIds:
    """(N,) number of what is dealt whole: a group, or an image that has none."""
    groups = (
        train.index["group"].astype(str).to_numpy() if "group" in train.index else np.full(len(train), "")
    )
    alone = groups == ""
    for class_id in np.unique(train.class_ids):
        own = train.class_ids == class_id
        if len(np.unique(groups[own & ~alone])) == 1 and not (own & alone).any():
            alone |= own
    names = np.where(
        alone, [f"image {row}" for row in range(len(train))], [f"group {name}" for name in groups]
    )
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
