"""dcgan: strided and transposed convolutions with batch normalisation, for images from 16 px.

No fully connected hidden layers, ReLU and LeakyReLU, initial weights from N(0, 0.02). Scores
depend on the other images of the batch, and the generator has running statistics.

Source:
    Radford et al. 2016, arXiv:1511.06434. Sides that are not powers of two are cropped after
    each doubling; the class enters as the spec's conditioning says.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

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
from ganaug.training.networks.strided import SLOPE, channels_at, narrow_channels

DEVIATION = 0.02
"""Of the initial weights."""


class Generator(nn.Module):
    """Latent and class vector to the smallest map, then doubled until it is the image."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.sizes = ladder(*spec.image_shape[:2])
        top, channels = len(self.sizes) - 1, spec.image_shape[2]
        # Where the class waits for the full resolution, that one needs a layer to meet it in.
        is_late = enters_late(spec, self.sizes[0])
        end = narrow_channels(spec.width) if is_late else channels
        plan = [*(channels_at(level - 1, spec.width) for level in range(top, 0, -1)), end]
        self.embed = embed_classes(spec)
        self.start = nn.ConvTranspose2d(first_columns(spec, self.sizes[-1]), plan[0], self.sizes[-1])
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(plan)
        )
        normed = plan if is_late else plan[:-1]
        ways = zip(normed, self.sizes[::-1], strict=False)
        self.norms = nn.ModuleList(BatchNorm(spec, count, size) for count, size in ways)
        self.last = nn.Conv2d(end, channels, 3, padding=1) if is_late else None
        initialise(self.start, *self.convs, *([] if self.last is None else [self.last]))

    def forward(self, z: Tensor, class_index: Tensor) -> Tensor:
        """(N, z_dim) and (N,) class positions to (N, C, H, W) in [-1, 1]."""
        code = join(z, self.embed, class_index)
        h = self.start(code[:, : self.start.in_channels, None, None])
        for number, (conv, (height, width)) in enumerate(zip(self.convs, self.sizes[-2::-1], strict=True)):
            h = conv(relu(self.norms[number](h, code)))[:, :, :height, :width]
        if self.last is not None:
            h = self.last(relu(self.norms[-1](h, code)))
        return torch.tanh(h)


class Discriminator(nn.Module):
    """Image and class to a score, which depends on the batch.

    Attributes:
        feature_count: F, length of what `features` gives.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        height, width, channels = spec.image_shape
        levels = len(ladder(height, width)) - 1
        self.feature_count = 4 * spec.width
        self.plane = class_plane(spec)
        seen = channels if self.plane is None else channels + 1
        plan = [seen, *(channels_at(level, spec.width) for level in range(levels))]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(plan)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(count) for count in plan[2:])
        self.last = nn.Conv2d(plan[-1], self.feature_count, (height >> levels, width >> levels))
        self.head = Head(spec, self.feature_count)
        initialise(*self.convs, self.last, self.head.score)

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
        for number, conv in enumerate(self.convs):
            h = conv(h)
            if number > 0:
                h = self.norms[number - 1](h)
            h = leaky_relu(h, SLOPE)
        return leaky_relu(self.last(h), SLOPE).flatten(1)


class BatchNorm(nn.Module):
    """Batch normalisation of a generator's map, and the class where it enters here."""

    def __init__(self, spec: NetworkSpec, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        is_conditional = spec.conditioning == "normalisation"
        norm = nn.BatchNorm2d(channels, affine=not is_conditional)
        self.norm = modulation(spec, channels, size, norm) if is_conditional else norm
        is_late = enters_late(spec, size) and not is_conditional
        self.style = modulation(spec, channels, size) if is_late else None

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        """(N, C, H, W) and (N, columns) to (N, C, H, W)."""
        h = self.norm(h) if isinstance(self.norm, nn.BatchNorm2d) else self.norm(h, code)
        return h if self.style is None else self.style(h, code)


def initialise(*layers: nn.Module) -> None:
    """Draw the layers' weights from N(0, 0.02), as the paper does; biases start at 0."""
    for layer in layers:
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
        nn.init.normal_(layer.weight, std=DEVIATION)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
