"""pair_unet: an exemplar and a latent to another image of its class; convolutions, from 16 px.

The exemplar goes down a strided encoder and comes up a decoder that sees the encoder's maps
of each size, as in a U-Net; the latent enters at the smallest map and as a bias at each size.

Source:
    Antoniou et al. 2017, arXiv:1711.04340 (pairs); Ronneberger et al. 2015, arXiv:1505.04597
    (U-Net); the networks and the loss are ours.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ganaug.training.networks.conditioning import NetworkSpec, ladder
from ganaug.training.networks.resize import resize
from ganaug.training.networks.strided import SLOPE, channels_at, narrow_channels


class Generator(nn.Module):
    """Exemplar and latent to another image of the class; before training, a copy."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        height, width, channels = spec.image_shape
        self.sizes = ladder(height, width)
        plan = [channels, *(channels_at(level, spec.width) for level in range(len(self.sizes) - 1))]
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(plan)
        )
        smallest = math.prod(self.sizes[-1])
        self.encode = nn.Linear(plan[-1] * smallest, 4 * spec.width)
        self.decode = nn.Linear(4 * spec.width + spec.z_dim, plan[-1] * smallest)
        ups = [(2 * plan[level], plan[level - 1]) for level in range(len(plan) - 1, 1, -1)]
        self.up = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in ups)
        self.styles = nn.ModuleList(nn.Linear(spec.z_dim, after) for _, after in ups)
        self.narrow = nn.Conv2d(2 * spec.width, narrow_channels(spec.width), 3, padding=1)
        self.last = nn.Conv2d(narrow_channels(spec.width), channels, 3, padding=1)
        # How much of the exemplar is kept is learned, from all of it.
        self.keep = nn.Parameter(torch.ones(()))
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, z: Tensor, exemplar: Tensor) -> Tensor:
        """(N, z_dim) and (N, C, H, W) real images to (N, C, H, W), all in [-1, 1]."""
        h, maps = exemplar, []
        for conv in self.down:
            h = leaky_relu(conv(h), SLOPE)
            maps.append(h)
        code = leaky_relu(self.encode(h.flatten(1)), SLOPE)
        h = leaky_relu(self.decode(torch.cat([code, z], dim=1)), SLOPE).view_as(h)
        ways = zip(self.up, self.styles, maps[:0:-1], self.sizes[-2:0:-1], strict=True)
        for conv, style, seen, size in ways:
            h = resize(torch.cat([h, seen], dim=1), size)
            h = leaky_relu(conv(h) + style(z)[:, :, None, None], SLOPE)
        h = leaky_relu(self.narrow(torch.cat([h, maps[0]], dim=1)), SLOPE)
        change = self.last(resize(h, self.sizes[0]))
        # 0.95: the inverse of tanh is infinite at pure black and white.
        return torch.tanh(change + self.keep * torch.atanh(0.95 * exemplar))


class Discriminator(nn.Module):
    """Two images to a score: are they two different real images of one class? It sees no label.

    Attributes:
        feature_count: F, length of what `features` gives.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.feature_count = 4 * spec.width
        height, width, channels = spec.image_shape
        sizes = ladder(height, width)
        plan = [3 * channels, *(channels_at(level, spec.width) for level in range(len(sizes) - 1))]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(plan)
        )
        self.head = nn.Linear(plan[-1] * math.prod(sizes[-1]), 4 * spec.width)
        self.score = nn.Linear(4 * spec.width, 1)

    def forward(self, images: Tensor, exemplar: Tensor) -> Tensor:
        """(N, C, H, W) judged images and the exemplars before them to (N,) scores."""
        score: Tensor = self.score(self.features(images, exemplar)).squeeze(1)
        return score

    def features(self, images: Tensor, exemplar: Tensor) -> Tensor:
        """(N, C, H, W) judged images and the exemplars before them to (N, F)."""
        # The difference is given too: that two images are the same is then easy to see.
        h = torch.cat([exemplar, images, images - exemplar], dim=1)
        for conv in self.convs:
            h = leaky_relu(conv(h), SLOPE)
        return leaky_relu(self.head(h.flatten(1)), SLOPE)
