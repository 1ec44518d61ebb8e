"""vanilla: the first GAN, rectifier perceptrons against maxout perceptrons; for small images.

Two changes: a tanh at the end, since pixels are in [-1, 1], and no dropout in the discriminator,
whose draws a resumed training could not repeat. Maxout takes 2 pieces instead of 5, for speed.

Source:
    Goodfellow et al. 2014, arXiv:1406.2661; maxout: Goodfellow et al. 2013, arXiv:1302.4389.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from ganaug.training.networks.conditioning import (
    NetworkSpec,
    embed_classes,
    first_columns,
    join,
    modulation,
)
from ganaug.training.networks.heads import Head, class_vector

PIECES = 2
"""Linear functions of which a maxout unit takes the largest."""


class Generator(nn.Module):
    """Latent, and class vector unless conditioning is "none", to an image; two hidden layers."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        height, width, channels = spec.image_shape
        self.shape = (channels, height, width)
        self.embed = embed_classes(spec)
        self.first = nn.Linear(first_columns(spec), spec.width)
        self.second = nn.Linear(spec.width, spec.width)
        self.last = nn.Linear(spec.width, math.prod(self.shape))
        self.norm = modulation(spec, spec.width) if spec.conditioning == "normalisation" else None

    def forward(self, z: Tensor, class_index: Tensor) -> Tensor:
        """(N, z_dim) and (N,) class positions to (N, C, H, W) in [-1, 1]."""
        code = join(z, self.embed, class_index)
        h = self.second(relu(self.first(code[:, : self.first.in_features])))
        if self.norm is not None:
            h = self.norm(h, code)
        return torch.tanh(self.last(relu(h))).view(-1, *self.shape)


class Discriminator(nn.Module):
    """Image, and class unless conditioning is "none", to a score; two maxout layers.

    Attributes:
        feature_count: F, length of what `features` gives.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.feature_count = spec.width
        self.beside = class_vector(spec)
        inputs = math.prod(spec.image_shape) + (0 if self.beside is None else spec.z_dim)
        self.layers = nn.Sequential(Maxout(inputs, spec.width), Maxout(spec.width, spec.width))
        self.head = Head(spec, spec.width)

    def forward(self, images: Tensor, class_index: Tensor) -> Tensor:
        """(N, C, H, W) and (N,) class positions to (N,) scores; higher means more real."""
        score: Tensor = self.head(self.features(images, class_index), class_index)
        return score

    def features(self, images: Tensor, class_index: Tensor) -> Tensor:
        """(N, C, H, W) and (N,) class positions to (N, F), what the score is made of."""
        pixels = images.flatten(1)
        if self.beside is not None:
            pixels = torch.cat([pixels, self.beside(class_index)], dim=1)
        features: Tensor = self.layers(pixels)
        return features

    def classify(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K + 1) logits of the classes and, last, of "fake"."""
        return self.head.classify(self.layers(images.flatten(1)))


class Maxout(nn.Module):
    """Units that each take the largest of `PIECES` linear functions."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.after = after
        self.linear = nn.Linear(before, PIECES * after)

    def forward(self, h: Tensor) -> Tensor:
        """(N, before) to (N, after)."""
        pieces: Tensor = self.linear(h).view(-1, self.after, PIECES)
        return pieces.amax(dim=2)
