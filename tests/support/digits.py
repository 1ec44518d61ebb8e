"""Real digits, few enough for trainings of seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from ganaug.dataset import LabelledImages


def digits(each: int = 80, classes: int = 3) -> LabelledImages:
    """The first real digits of each of the classes 0, 1, 2."""
    bunch = load_digits()
    rows = np.concatenate([np.flatnonzero(bunch.target == digit)[:each] for digit in range(classes)])
    images = (bunch.images[rows] * 255 / 16).round().astype(np.uint8)[..., None]
    index = pd.DataFrame({"class_id": bunch.target[rows].astype(np.int64), "group": "", "split": "train"})
    return LabelledImages(images, index, tuple("0123456789"[:classes]))
