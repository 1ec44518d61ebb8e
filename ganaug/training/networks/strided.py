"""strided: class-conditional strided convolutions without normalisation, for images from 16 px.

Every resolution has one plain convolution: stride 2 on the way down, bilinear doubling on
the way up, which leaves no checkerboard and which ONNX Runtime runs fast on CPUs. The full
resolution sees few channels: a wide convolution there would cost as much as all the others
together, and dealing channels out to pixels (sub-pixel convolution) left a lasting checkerboard.
There is no batch normalisation: statistics of a few rare images would say little, and the
gradient penalties keep training stable without it.

Source:
    Radford et al. 2016, arXiv:1511.06434 (strided convolutions); the rest is ours.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ganaug.training.networks.conditioning import (
    NetworkSpec,
    embed_classes,
    enters_late,
    first_columns,
    join,
    ladder,
    modulation,
)
from ganaug.training.networks.heads import Head, class_plane
from ganaug.training.networks.resize import resize

SLOPE = 0.2


def channels_at(level: int, width: int) -> int:
    """Channels at `level` halvings below the image: doubling, to eight times the width at most."""
    return width << min(level, 3)


def narrow_channels(width: int) -> int:
    """Channels at the full resolution of a generator."""
    return max(width // 2, 8)


class Generator(nn.Module):
    """Latent and class vector to the smallest map, then up one resolution at a time."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.sizes = ladder(*spec.image_shape[:2])
        top, narrow = len(self.sizes) - 1, narrow_channels(spec.width)
        plan = [channels_at(level - 1, spec.width) for level in range(top, 0, -1)]
        self.embed = embed_classes(spec)
        self.start = nn.Linear(first_columns(spec, self.sizes[-1]), plan[0] * math.prod(self.sizes[-1]))
        self.convs = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(plan))
        # The latent is given again at each resolution: details need not be carried up from the
        # smallest map.
        ways = zip(plan[1:], self.sizes[-2:0:-1], strict=True)
        self.styles = nn.ModuleList(modulation(spec, after, size) for after, size in ways)
        self.narrow = nn.Conv2d(plan[-1], narrow, 3, padding=1)
        self.last = nn.Conv2d(narrow, spec.image_shape[2], 3, padding=1)
        # Images of 8 px have no resolution between the first and the last: normalisation needs this one.
        is_normed = spec.conditioning == "normalisation"
        self.narrow_style = modulation(spec, narrow, self.sizes[1]) if is_normed else None
        self.detail: nn.Conv2d | None = None
        if enters_late(spec, self.sizes[0]):
            self.detail = nn.Conv2d(narrow, narrow, 3, padding=1)
            self.detail_style = modulation(spec, narrow, self.sizes[0])

    def forward(self, z: Tensor, class_index: Tensor) -> Tensor:
        """(N, z_dim) and (N,) class positions to (N, C, H, W) in [-1, 1]."""
        code = join(z, self.embed, class_index)
        first = self.start(code[:, : self.start.in_features])
        h = leaky_relu(first, SLOPE).view(z.shape[0], -1, *self.sizes[-1])
        for conv, style, size in zip(self.convs, self.styles, self.sizes[-2:0:-1], strict=True):
            h = resize(h, size)
            h = leaky_relu(style(conv(h), code), SLOPE)
        h = self.narrow(h)
        if self.narrow_style is not None:
            h = self.narrow_style(h, code)
        h = leaky_relu(h, SLOPE)
        h = resize(h, self.sizes[0])
        if self.detail is not None:
            h = leaky_relu(self.detail_style(self.detail(h), code), SLOPE)
        return torch.tanh(self.last(h))


class Discriminator(nn.Module):
    """Image and class to a score.

    Attributes:
        feature_count: F, length of what `features` gives.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        height, width, channels = spec.image_shape
        sizes = ladder(height, width)
        self.feature_count = 4 * spec.width
        self.plane = class_plane(spec)
        seen = channels if self.plane is None else channels + 1
        plan = [seen, *(channels_at(level, spec.width) for level in range(len(sizes) - 1))]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(plan)
        )
        self.last = nn.Linear(plan[-1] * math.prod(sizes[-1]), self.feature_count)
        self.head = Head(spec, self.feature_count)

    def forward(self, images: Tensor, class_index: Tensor) -> Tensor:
        """(N, C, H, W) and (N,) class positions to (N,) scores; higher means more real."""
        score: Tensor = self.head(self.features(images, class_index), class_index)
        return score

    def features(self, images: Tensor, class_index: Tensor) -> Tensor:
        """(N, C, H, W) and (N,) class positions to (N, F), what the score is made of."""
        return self._judge(images if self.plane is None else self.plane(images, class_index))

    def classify(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K + 1) logits of the classes and, last, of "fake"."""
        return self.head.classify(self._judge(images))

    def _judge(self, h: Tensor) -> Tensor:
        for conv in self.convs:
            h = leaky_relu(conv(h), SLOPE)
        return leaky_relu(self.last(h.flatten(1)), SLOPE)
