"""Torch datasets of a few samples, (image, label): nine cats (0) and four dogs (1)."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

CATS, DOGS = 9, 4


class Listed(Dataset):
    """A dataset of these samples, and nothing else."""

    def __init__(self, samples, **attributes):
        self.samples = samples
        vars(self).update(attributes)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


class Transformed(Listed):
    """As torchvision's: PIL images that go through `transform`, labels through `target_transform`."""

    transform = target_transform = None

    def __getitem__(self, index):
        picture, label = self.samples[index]
        label = label if self.target_transform is None else self.target_transform(label)
        return (picture if self.transform is None else self.transform(picture)), label


def pixels(number, height=8, width=8, channels=1):
    shape = (number, height, width, channels)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


LABELS = [0] * CATS + [1] * DOGS
REALS = list(pixels(len(LABELS)))
COLOURED = list(pixels(len(LABELS), channels=3))


def pictures(images=REALS):
    return [Image.fromarray(image.squeeze()) for image in images]


def tensors(images=REALS):
    return [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in images]
