"""ResNet-32 for small images: three stages of five blocks, 16, 32 and 64 channels.

Source:
    He et al. 2015, section 4.2, arXiv:1512.03385; shortcuts without weights (option A).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ganaug.training.classifiers.network import Network

BLOCKS, WIDTHS = 5, (16, 32, 64)


def _convolution(channels: int, out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)


class Block(nn.Module):
    """Two convolutions beside a shortcut that drops places and adds empty channels (option A)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, out - channels
        self.residual = nn.Sequential(
            _convolution(channels, out, stride),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            _convolution(out, out),
            nn.BatchNorm2d(out),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        before = self.new_channels // 2
        shortcut = maps[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            shortcut = pad(shortcut, (0, 0, 0, 0, before, self.new_channels - before))
        return torch.relu(shortcut + self.residual(maps))


class ResNet32(Network):
    """A residual network of 32 layers; at 8 px its last maps are of 2 x 2.

    Args:
        image_shape: (height, width, channels) of its images.
        n_classes: Number of classes, K.
        rng: Where initial weights come from; None leaves torch's, for weights that are loaded.
    """

    # Eight that share a GPU play twice as many steps a second so (docs/throughput.md).
    precision = torch.bfloat16

    def __init__(
        self, image_shape: tuple[int, int, int], n_classes: int, *, rng: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.image_shape, self.n_classes, self.feature_count = image_shape, n_classes, WIDTHS[-1]
        layers: list[nn.Module] = [
            _convolution(image_shape[2], WIDTHS[0]),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(),
        ]
        channels = WIDTHS[0]
        for width in WIDTHS:
            for number in range(BLOCKS):
                stride = 2 if number == 0 and width != WIDTHS[0] else 1
                layers.append(Block(channels, width, stride))
                channels = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels, n_classes)
        if rng is not None:
            self._initialise(rng)

    def _initialise(self, rng: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
        # Small last weights: the first steps are those of a classifier without an opinion.
        nn.init.normal_(self.head.weight, std=0.01, generator=rng)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Classify.

        Args:
            images: (N, C, H, W) float in [-1, 1].

        Returns:
            (N, K) logits and (N, 64) features, means over the last maps.
        """
        features = self.body(images).mean((2, 3))
        return self.head(features), features
