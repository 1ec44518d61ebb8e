"""cgan: class-conditional multi-layer perceptrons, for images below 16 px.

Source:
    Mirza & Osindero 2014, arXiv:1411.1784, with the projection discriminator of
    Miyato & Koyama 2018, arXiv:1802.05637.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ganaug.training.networks.conditioning import NetworkSpec

SLOPE = 0.2


class Generator(nn.Module):
    """Latent and class embedding to an image, through three hidden layers."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        height, width, channels = spec.image_shape
        self.shape = (channels, height, width)
        self.embed = nn.Embedding(len(spec.class_ids), spec.z_dim)
        self.first = nn.Linear(2 * spec.z_dim, spec.width)
        self.hidden = nn.ModuleList(nn.Linear(spec.width, spec.width) for _ in range(2))
        self.last = nn.Linear(spec.width, math.prod(self.shape))

    def forward(self, z: Tensor, class_index: Tensor) -> Tensor:
        """(N, z_dim) and (N,) class positions to (N, C, H, W) in [-1, 1]."""
        h = leaky_relu(self.first(torch.cat([z, self.embed(class_index)], dim=1)), SLOPE)
        for layer in self.hidden:
            h = (h + leaky_relu(layer(h), SLOPE)) * math.sqrt(0.5)
        return torch.tanh(self.last(h)).view(-1, *self.shape)


class Discriminator(nn.Module):
    """Image and class to a score: how real, plus how well it fits the class (projection)."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        pixels = math.prod(spec.image_shape)
        self.first = nn.Linear(pixels, spec.width)
        self.hidden = nn.ModuleList(nn.Linear(spec.width, spec.width) for _ in range(2))
        self.score = nn.Linear(spec.width, 1)
        self.project = nn.Embedding(len(spec.class_ids), spec.width)
        # The class counts for nothing at first: what is real is learned from all classes.
        nn.init.zeros_(self.project.weight)

    def forward(self, images: Tensor, class_index: Tensor) -> Tensor:
        """(N, C, H, W) and (N,) class positions to (N,) scores; higher means more real."""
        h = leaky_relu(self.first(images.flatten(1)), SLOPE)
        for layer in self.hidden:
            h = (h + leaky_relu(layer(h), SLOPE)) * math.sqrt(0.5)
        fits = (self.project(class_index) * h).sum(1) / math.sqrt(h.shape[1])
        score: Tensor = self.score(h).squeeze(1) + fits
        return score
