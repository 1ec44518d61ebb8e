"""What every network has that is trained by an arm's recipe."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """A classifier that `training.classifier.fit` trains; an interface without weights of its own.

    Attributes:
        image_shape: (height, width, channels) of its images.
        n_classes: Number of classes, K.
        feature_count: Number of features, F.
        memory_format: How its weights lie in memory while it is trained.
        is_recorded: Whether each pass runs the same kernels and draws nothing, so that a GPU may record it.
        precision: Of its maps while it is trained on a GPU that computes in it; weights are float32.
    """

    image_shape: tuple[int, int, int]
    n_classes: int
    feature_count: int
    memory_format: torch.memory_format = torch.channels_last
    is_recorded: bool = True
    precision: torch.dtype = torch.float32

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) float in [-1, 1] to (N, K) logits and (N, F) features."""
        raise NotImplementedError
