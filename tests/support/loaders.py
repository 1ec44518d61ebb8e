"""Datasets for loaders, at the top of a module so that workers of every kind can import them."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
from torch.utils.data import Dataset, get_worker_info


class Black(Dataset):
    """Black images of class 3 through a pipeline: a hash of what comes out, with the process it is from."""

    def __init__(self, pipeline: Any, count: int, image_shape: tuple[int, ...] = (8, 8, 1)) -> None:
        self.pipeline, self.count, self.image_shape = pipeline, count, image_shape

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> tuple[str, int]:
        if row >= self.count:
            raise IndexError(row)
        image = self.pipeline(image=np.zeros(self.image_shape, np.uint8), label="3")["image"]
        return hashlib.sha256(image.tobytes()).hexdigest(), os.getpid()


class Numbers(Dataset):
    """Brightness that a pipeline gives to a grey image: shows what it draws."""

    def __init__(self, pipeline: Any, count: int) -> None:
        self.pipeline, self.count = pipeline, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> float:
        image = self.pipeline(image=np.full((1, 1, 3), 0.5, np.float32))["image"]
        return float(image[0, 0, 0])


def seed_all_alike(worker_id: int) -> None:
    """What a user may do in `worker_init_fn`: the same seed in each worker."""
    get_worker_info().dataset.pipeline.set_random_seed(0)
