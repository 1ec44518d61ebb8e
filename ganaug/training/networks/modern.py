"""modern: residual networks without normalisation, for images from 16 px.

One stage of bottleneck blocks per resolution, bilinear resampling between them; a learned map,
scaled by the code, is where the generator starts. Blocks add nothing at first, and their other
convolutions start smaller the more blocks there are, which takes the place of normalisation.

Source:
    Huang et al. 2024, arXiv:2501.05441 (R3GAN), with plain convolutions instead of grouped
    ones; initial weights: Zhang et al. 2019, arXiv:1901.09321 (Fixup).
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
STAGES: dict[int, tuple[float, int]] = {
    8: (4.0, 2),
    16: (2.0, 2),
    32: (1.0, 1),
    64: (1.0, 1),
    128: (0.5, 1),
    256: (0.25, 1),
}
"""By the longer side in px up to which it holds: channels of a map in widths, and its blocks.
Fewer where there are many pixels: those cost the most."""
CHANNELS = (8, 512)
"""Fewest and most channels of a map."""


class Generator(nn.Module):
    """Latent and class vector to the smallest map, then up one resolution at a time."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.sizes = ladder(*spec.image_shape[:2])[::-1]
        plan = [channels_at(size, spec.width) for size in self.sizes]
        blocks = count_blocks(self.sizes)
        self.embed = embed_classes(spec)
        self.map = nn.Parameter(torch.randn(1, plan[0], *self.sizes[0]))
        self.start = nn.Linear(first_columns(spec, self.sizes[0]), plan[0])
        self.widths = nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in pairwise(plan))
        self.stages = nn.ModuleList(
            stage(channels, size, blocks) for channels, size in zip(plan, self.sizes, strict=True)
        )
        is_normed = spec.conditioning == "normalisation"
        self.styles = nn.ModuleDict(
            {
                str(level): modulation(spec, plan[level], size)
                for level, size in enumerate(self.sizes)
                if is_normed or enters_late(spec, size)
            }
        )
        self.last = nn.Conv2d(plan[-1], spec.image_shape[2], 1)
        draw_weights(1.0, self.start, *self.widths, self.last)

    def forward(self, z: Tensor, class_index: Tensor) -> Tensor:
        """(N, z_dim) and (N,) class positions to (N, C, H, W) in [-1, 1]."""
        code = join(z, self.embed, class_index)
        h = self.map * self.start(code[:, : self.start.in_features])[:, :, None, None]
        for level, (blocks, size) in enumerate(zip(self.stages, self.sizes, strict=True)):
            if level > 0:
                h = resize(self.widths[level - 1](h), size)
            if str(level) in self.styles:
                h = self.styles[str(level)](h, code)
            h = blocks(h)
        return torch.tanh(self.last(h))


class Discriminator(nn.Module):
    """Image and class to a score.

    Attributes:
        feature_count: F, length of what `features` gives.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        height, width, channels = spec.image_shape
        self.sizes = ladder(height, width)
        plan = [channels_at(size, spec.width) for size in self.sizes]
        blocks = count_blocks(self.sizes)
        self.feature_count = 4 * spec.width
        self.plane = class_plane(spec)
        self.first = nn.Conv2d(channels if self.plane is None else channels + 1, plan[0], 1)
        self.stages = nn.ModuleList(
            stage(count, size, blocks) for count, size in zip(plan, self.sizes, strict=True)
        )
        self.widths = nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in pairwise(plan))
        self.last = nn.Conv2d(plan[-1], self.feature_count, self.sizes[-1])
        self.head = Head(spec, self.feature_count)
        draw_weights(1.0, self.first, *self.widths, self.last)

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

    def _judge(self, images: Tensor) -> Tensor:
        h = self.stages[0](self.first(images))
        ways = zip(self.widths, self.stages[1:], self.sizes[1:], strict=True)
        for change, blocks, size in ways:
            h = blocks(change(resize(h, size)))
        return leaky_relu(self.last(h), SLOPE).flatten(1)


class Block(nn.Module):
    """A bottleneck that adds to its input: 1x1 to half the channels, 3x3, 1x1 back."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 2, 1)
        self.mix = nn.Conv2d(channels // 2, channels // 2, 3, padding=1)
        self.restore = nn.Conv2d(channels // 2, channels, 1, bias=False)
        # Fixup: with three layers to a block, L blocks together change the output by one step's
        # worth when all layers but the last are scaled by L^(-1/4).
        gain = math.sqrt(2.0 / (1.0 + SLOPE**2)) * blocks**-0.25
        draw_weights(gain, self.reduce, self.mix)
        nn.init.zeros_(self.restore.weight)

    def forward(self, h: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        inner = leaky_relu(self.reduce(h), SLOPE)
        change: Tensor = self.restore(leaky_relu(self.mix(inner), SLOPE))
        return h + change


def stage(channels: int, size: tuple[int, int], blocks: int) -> nn.Sequential:
    """The blocks of one resolution, of a network that has `blocks` in all."""
    return nn.Sequential(*(Block(channels, blocks) for _ in range(_row(size)[1])))


def draw_weights(gain: float, *layers: nn.Module) -> None:
    """Draw weights that keep the size of what comes in, times `gain`; biases start at 0."""
    for layer in layers:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.bias is not None
        nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
        nn.init.zeros_(layer.bias)


def channels_at(size: tuple[int, int], width: int) -> int:
    """Channels of a map of this (height, width).

    >>> channels_at((4, 4), 32), channels_at((32, 20), 32), channels_at((256, 256), 32)
    (128, 32, 8)
    """
    fewest, most = CHANNELS
    # Even: a bottleneck halves them.
    return 2 * math.ceil(min(max(_row(size)[0] * width, fewest), most) / 2)


def count_blocks(sizes: list[tuple[int, int]]) -> int:
    """Residual blocks of a network with one stage per size."""
    return sum(_row(size)[1] for size in sizes)


def _row(size: tuple[int, int]) -> tuple[float, int]:
    return STAGES[min(px for px in STAGES if px >= max(size))]
