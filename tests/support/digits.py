"""Real digits, few enough for trainings of seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from ganaug.dataset import ClassIds, Images, LabelledImages


def digits(each: int = 80, classes: int = 3) -> LabelledImages:
    """The first real digits of each of the classes 0, 1, 2."""
    bunch = load_digits()
    rows = np.concatenate([np.flatnonzero(bunch.target == digit)[:each] for digit in range(classes)])
    images = (bunch.images[rows] * 255 / 16).round().astype(np.uint8)[..., None]
    index = pd.DataFrame({"class_id": bunch.target[rows].astype(np.int64), "group": "", "split": "train"})
    return LabelledImages(images, index, tuple("0123456789"[:classes]))


RARE = (3, 5, 8)


def rare_digits(each: int = 5) -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    """All real digits, with three classes cut: training images, test images, and what was cut.

    Half of each class tests. What was cut is what an ideal generator of the rare classes would make.
    """
    bunch = load_digits()
    part = np.empty(len(bunch.target), object)
    rng = np.random.default_rng(0)
    for digit in range(10):
        rows = rng.permutation(np.flatnonzero(bunch.target == digit))
        middle = len(rows) // 2
        part[rows[:middle]], part[rows[middle:]] = "test", "train"
        if digit in RARE:
            part[rows[middle + each :]] = "cut"
    images = (bunch.images * 255 / 16).round().astype(np.uint8)[..., None]
    index = pd.DataFrame(
        {
            "path": [f"digit-{row:04d}.png" for row in range(len(images))],
            "class_id": bunch.target.astype(np.int64),
            "split": part.astype(str),
            "group": "",
        }
    )
    everything = LabelledImages(images, index, tuple("0123456789"))
    return everything.part("train"), everything.part("test"), everything.part("cut")


def as_synthetic(images: Images, class_id: int | ClassIds) -> LabelledImages:
    """Images under labels, as if generators of digits had made them."""
    index = pd.DataFrame({"class_id": np.broadcast_to(class_id, len(images)).astype(np.int64)})
    return LabelledImages(images, index, tuple("0123456789"))
