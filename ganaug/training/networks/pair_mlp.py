"""pair_mlp: an exemplar and a latent to another image of its class; perceptrons, below 16 px.

Trained on pairs from all classes it learns how images of one class differ from each other,
and carries that over to classes of which there are only a few.

Source:
    The idea of learning within-class variation from pairs is that of data augmentation GANs,
    Antoniou et al. 2017, arXiv:1711.04340; the networks and the loss are ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ganaug.training.networks.conditioning import NetworkSpec

SLOPE = 0.2


class Generator(nn.Module):
    """Exemplar and latent to another image of the class; before training, a copy."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        pixels = math.prod(spec.image_shape)
        self.first = nn.Linear(pixels + spec.z_dim, spec.width)
        self.hidden = nn.ModuleList(nn.Linear(spec.width, spec.width) for _ in range(2))
        self.last = nn.Linear(spec.width, pixels)
        # How much of the exemplar is kept is learned, from all of it.
        self.keep = nn.Parameter(torch.ones(()))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, z: Tensor, exemplar: Tensor) -> Tensor:
        """(N, z_dim) and (N, C, H, W) real images to (N, C, H, W), all in [-1, 1]."""
        h = leaky_relu(self.first(torch.cat([exemplar.flatten(1), z], dim=1)), SLOPE)
        for layer in self.hidden:
            h = (h + leaky_relu(layer(h), SLOPE)) * math.sqrt(0.5)
        # 0.95: the inverse of tanh is infinite at pure black and white.
        copy = torch.atanh(0.95 * exemplar)
        return torch.tanh(self.last(h).view_as(exemplar) + self.keep * copy)


class Discriminator(nn.Module):
    """Two images to a score: are they two different real images of one class? It sees no label.

    Attributes:
        feature_count: F, length of what `features` gives.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.feature_count = spec.width
        pixels = math.prod(spec.image_shape)
        self.first = nn.Linear(3 * pixels, spec.width)
        self.hidden = nn.ModuleList(nn.Linear(spec.width, spec.width) for _ in range(2))
        self.score = nn.Linear(spec.width, 1)

    def forward(self, images: Tensor, exemplar: Tensor) -> Tensor:
        """(N, C, H, W) judged images and the exemplars before them to (N,) scores."""
        score: Tensor = self.score(self.features(images, exemplar)).squeeze(1)
        return score

    def features(self, images: Tensor, exemplar: Tensor) -> Tensor:
        """(N, C, H, W) judged images and the exemplars before them to (N, F)."""
        # The difference is given too: that two images are the same is then easy to see.
        both = torch.cat([exemplar, images, images - exemplar], dim=1).flatten(1)
        h = leaky_relu(self.first(both), SLOPE)
        for layer in self.hidden:
            h = (h + leaky_relu(layer(h), SLOPE)) * math.sqrt(0.5)
        return h
