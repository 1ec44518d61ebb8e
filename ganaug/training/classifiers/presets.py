"""The classifiers that come with ganaug."""

from __future__ import annotations

from typing import Protocol

import torch

from ganaug.training.classifier import Classifier
from ganaug.training.classifiers.network import Network
from ganaug.training.classifiers.resnet import ResNet32


class Preset(Protocol):
    """Builds a network for images of one size."""

    def __call__(self, image_shape: tuple[int, int, int], n_classes: int, *, rng: torch.Generator) -> Network:
        """For (height, width, channels) and K classes, with initial weights from `rng`."""


PRESETS: dict[str, Preset] = {"small-cnn": Classifier, "resnet-32": ResNet32}
"""By name in the settings; a new one is tested by the contract tests."""
