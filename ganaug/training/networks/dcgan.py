"""dcgan: class-conditional strided convolutions, for images from 16 px.

Every resolution has one plain convolution: stride 2 on the way down, bilinear doubling on
the way up, which leaves no checkerboard and which ONNX Runtime runs fast on CPUs. The full
resolution sees few channels: a wide convolution there would cost as much as all the others
together, and dealing channels out to pixels (sub-pixel convolution) left a lasting checkerboard.
There is no normalisation: batch statistics of a few rare images would say little, and the
gradient penalties keep training stable without it.

Source:
    Radford et al. 2016, arXiv:1511.06434; projection: Miyato & Koyama 2018, arXiv:1802.05637.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from ganaug.training.networks.conditioning import NetworkSpec, ladder

SLOPE = 0.2


def channels_at(level: int, width: int) -> int:
    """Channels at `level` halvings below the image: doubling, to eight times the width at most."""
    return width << min(level, 3)


def narrow_channels(width: int) -> int:
    """Channels at the full resolution of a generator."""
    return max(width // 2, 8)


class Generator(nn.Module):
    """Latent and class embedding to the smallest map, then up one resolution at a time."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.sizes = ladder(*spec.image_shape[:2])
        top = len(self.sizes) - 1
        plan = [channels_at(level - 1, spec.width) for level in range(top, 0, -1)]
        self.embed = nn.Embedding(len(spec.class_ids), spec.z_dim)
        self.start = nn.Linear(2 * spec.z_dim, plan[0] * math.prod(self.sizes[-1]))
        self.convs = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(plan))
        # The latent is given again at each resolution as a bias per channel: details need not
        # be carried up from the smallest map.
        self.styles = nn.ModuleList(nn.Linear(2 * spec.z_dim, after) for after in plan[1:])
        self.narrow = nn.Conv2d(plan[-1], narrow_channels(spec.width), 3, padding=1)
        self.last = nn.Conv2d(narrow_channels(spec.width), spec.image_shape[2], 3, padding=1)

    def forward(self, z: Tensor, class_index: Tensor) -> Tensor:
        """(N, z_dim) and (N,) class positions to (N, C, H, W) in [-1, 1]."""
        code = torch.cat([z, self.embed(class_index)], dim=1)
        h = leaky_relu(self.start(code), SLOPE).view(z.shape[0], -1, *self.sizes[-1])
        for conv, style, size in zip(self.convs, self.styles, self.sizes[-2:0:-1], strict=True):
            h = interpolate(h, size=size, mode="bilinear", align_corners=False)
            h = leaky_relu(conv(h) + style(code)[:, :, None, None], SLOPE)
        h = leaky_relu(self.narrow(h), SLOPE)
        h = interpolate(h, size=self.sizes[0], mode="bilinear", align_corners=False)
        return torch.tanh(self.last(h))


class Discriminator(nn.Module):
    """Image and class to a score: how real, plus how well it fits the class (projection)."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        height, width, channels = spec.image_shape
        sizes = ladder(height, width)
        plan = [channels, *(channels_at(level, spec.width) for level in range(len(sizes) - 1))]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(plan)
        )
        features = 4 * spec.width
        self.head = nn.Linear(plan[-1] * math.prod(sizes[-1]), features)
        self.score = nn.Linear(features, 1)
        self.project = nn.Embedding(len(spec.class_ids), features)
        # The class counts for nothing at first: what is real is learned from all classes.
        nn.init.zeros_(self.project.weight)

    def forward(self, images: Tensor, class_index: Tensor) -> Tensor:
        """(N, C, H, W) and (N,) class positions to (N,) scores; higher means more real."""
        h = images
        for conv in self.convs:
            h = leaky_relu(conv(h), SLOPE)
        h = leaky_relu(self.head(h.flatten(1)), SLOPE)
        fits = (self.project(class_index) * h).sum(1) / math.sqrt(h.shape[1])
        score: Tensor = self.score(h).squeeze(1) + fits
        return score
