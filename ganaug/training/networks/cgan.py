"""cgan: class-conditional multi-layer perceptrons, for images below 16 px.

Source:
    Mirza & Osindero 2014, arXiv:1411.1784; the residual layers are ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ganaug.training.networks.conditioning import (
    NetworkSpec,
    embed_classes,
    first_columns,
    join,
    modulation,
)
from ganaug.training.networks.heads import Head, class_vector

SLOPE = 0.2


class Generator(nn.Module):
    """Latent and class vector to an image, through three hidden layers."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        height, width, channels = spec.image_shape
        self.shape = (channels, height, width)
        self.embed = embed_classes(spec)
        self.first = nn.Linear(first_columns(spec), spec.width)
        self.hidden = nn.ModuleList(nn.Linear(spec.width, spec.width) for _ in range(2))
        self.last = nn.Linear(spec.width, math.prod(self.shape))
        self.norms = nn.ModuleList()
        if spec.conditioning == "normalisation":
            self.norms.extend(modulation(spec, spec.width) for _ in self.hidden)

    def forward(self, z: Tensor, class_index: Tensor) -> Tensor:
        """(N, z_dim) and (N,) class positions to (N, C, H, W) in [-1, 1]."""
        code = join(z, self.embed, class_index)
        h = leaky_relu(self.first(code[:, : self.first.in_features]), SLOPE)
        for number, layer in enumerate(self.hidden):
            step = layer(h)
            if self.norms:
                step = self.norms[number](step, code)
            h = (h + leaky_relu(step, SLOPE)) * math.sqrt(0.5)
        return torch.tanh(self.last(h)).view(-1, *self.shape)


class Discriminator(nn.Module):
    """Image and class to a score.

    Attributes:
        feature_count: F, length of what `features` gives.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.feature_count = spec.width
        self.beside = class_vector(spec)
        inputs = math.prod(spec.image_shape) + (0 if self.beside is None else spec.z_dim)
        self.first = nn.Linear(inputs, spec.width)
        self.hidden = nn.ModuleList(nn.Linear(spec.width, spec.width) for _ in range(2))
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
        return self._judge(pixels)

    def classify(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K + 1) logits of the classes and, last, of "fake"."""
        return self.head.classify(self._judge(images.flatten(1)))

    def _judge(self, pixels: Tensor) -> Tensor:
        h = leaky_relu(self.first(pixels), SLOPE)
        for layer in self.hidden:
            h = (h + leaky_relu(layer(h), SLOPE)) * math.sqrt(0.5)
        return h
