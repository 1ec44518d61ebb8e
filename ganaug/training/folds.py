"""Classifiers that each do without some real images, so that screening is measured on unseen ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ganaug.arms import ARMS
from ganaug.dataset import LabelledImages
from ganaug.progress import Progress, silent
from ganaug.screen.folds import Fold, sample_rows
from ganaug.split.folds import assign_folds
from ganaug.training.classifier import auto_steps, fit, predict


def fold_file(number: int) -> str:
    """Name of a fold's file.

    >>> fold_file(0)
    'fold-0.npz'
    """
    return f"fold-{number}.npz"


def train_fold(
    train: LabelledImages,
    number: int,
    folds: int,
    path: Path,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress = silent,
    steps: int | None = None,
) -> None:
    """Train one classifier of the cross-validation, and keep what it sees in the images.

    It is trained as the screening classifiers are. The classifier itself is not kept.

    Args:
        train: Real training images.
        number: Which fold is held out.
        folds: How many there are.
        path: The file to write; one that exists is left as it is.
        seed: Chooses the folds, and with the number all that is random.
        device: `cpu` or `cuda`.
        progress: Told of the images trained on.
        steps: Training steps; None chooses by the number of images.
    """
    if path.exists():
        return
    fold_of = assign_folds(train, folds, seed)
    seen = train.take(np.flatnonzero(fold_of != number))
    model = fit(
        ARMS["oversampling+albumentations"].recipe(seen),
        len(train.class_names),
        # Beside the screening classifiers' seeds, and as far from the arena's.
        seed=1_000_003 * (seed + 1) + 500_000 + number,
        steps=steps or auto_steps(len(seen)),
        device=device,
        progress=progress,
    )
    rows = sample_rows(train.class_ids)
    probabilities, features = predict(model, train.images[rows])
    # Logits but for a constant, which no use of them depends on.
    logits = np.log(np.maximum(probabilities, np.float32(1e-30)))
    Fold(train.class_ids[rows], fold_of[rows] == number, logits, features).save(path)
