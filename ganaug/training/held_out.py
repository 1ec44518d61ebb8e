"""Grounds inside the training split: each fold of it in turn in the place of the test images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ganaug.dataset import LabelledImages
from ganaug.split.folds import assign_folds
from ganaug.training.contest import Ground

Rows = npt.NDArray[np.int64]


def held_out_in_turn(ground: Ground, folds: int, name: str) -> list[tuple[Ground, Rows]]:
    """The same ground with each fold in turn in the place of the test images.

    Synthetic images that are most like one of the held-out images are left out.

    Args:
        ground: Its test images are not looked at; how common their classes are is what held-out images are
            weighed by.
        folds: How many.
        name: Of the folder inside the ground's own that gets the fits.

    Returns:
        Per fold: the ground, and (N,) rows of the training images that are held out.
    """
    found = []
    likest = likest_real(ground.synthetic, ground.train)
    calibration = ground.calibration or ground.synthetic
    likest_known = likest_real(calibration, ground.train)
    fold_of = assign_folds(ground.train, folds, seed=0)
    for number in range(folds):
        held, kept = np.flatnonzero(fold_of == number), np.flatnonzero(fold_of != number)
        inner = replace(
            ground,
            train=ground.train.take(kept),
            synthetic=ground.synthetic.take(np.flatnonzero(~np.isin(likest, held))),
            calibration=calibration.take(np.flatnonzero(~np.isin(likest_known, held))),
            test=ground.train.take(held),
            folder=ground.folder / name / f"fold-{number}",
            used_on=ground.prevalence,
        )
        found.append((inner, held))
    return found


def likest_real(synthetic: LabelledImages, train: LabelledImages) -> Rows:
    """(S,) row of the real image of its class that each synthetic image is most like, in pixels."""
    from sklearn.neighbors import NearestNeighbors

    found = np.full(len(synthetic), -1, np.int64)
    for class_id in np.unique(synthetic.class_ids):
        made, real = (np.flatnonzero(part.class_ids == class_id) for part in (synthetic, train))
        if len(real):
            flat = [
                part.images[rows].reshape(len(rows), -1).astype(np.float32)
                for part, rows in ((synthetic, made), (train, real))
            ]
            search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(flat[1])
            found[made] = real[search.kneighbors(flat[0], return_distance=False)[:, 0]]
    return found
