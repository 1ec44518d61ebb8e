"""Distances between real and synthetic images, on features of a classifier trained on real ones.

The field's usual features come from a network trained on ImageNet: weights to download, made
for photographs. These are of the classifier that the images are for. So numbers compare models
on one dataset and one classifier, and nothing beyond.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from ganaug.dataset import Images
from ganaug.training.classifier import FEATURES, Classifier

BATCH = 512
SUBSET, SUBSETS = 1000, 100
"""Images per subset of the kernel distance, and how many subsets."""


class ClassifierFeatures(nn.Module):
    """A classifier's features, as torchmetrics takes them for its `feature=`.

    Args:
        classifier: Stays in evaluation mode, whatever mode this is put in.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.num_features = FEATURES
        self.classifier = classifier.eval()

    def train(self, mode: bool = True) -> ClassifierFeatures:  # noqa: ARG002
        """Stay in evaluation mode: features must not depend on what else is in the batch."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to (N, 128) float32."""
        features: Tensor = self.classifier(images.float() / 127.5 - 1.0)[1]
        return features


def frechet_distance(real: Images, synthetic: Images, extractor: nn.Module) -> float | None:
    """Distance between two Gaussians that have the features' means and covariances.

    d = |m_r - m_s|^2 + tr(C_r + C_s - 2 (C_r C_s)^(1/2)), each C with N - 1 in its denominator.

    Args:
        real: (N, H, W, C) uint8.
        synthetic: (M, H, W, C) uint8.
        extractor: Maps (B, C, H, W) uint8 to (B, D) features; has `num_features`, D.

    Returns:
        The distance; None with fewer than 2 images on a side.

    Source:
        Heusel et al. 2017, eq. 6, arXiv:1706.08500.
    """
    if min(len(real), len(synthetic)) < 2:
        return None
    metric = FrechetInceptionDistance(feature=extractor)
    _feed(metric, real, synthetic, extractor)
    return max(0.0, float(metric.compute()))


def kernel_distance(real: Images, synthetic: Images, extractor: nn.Module, *, seed: int = 0) -> float | None:
    """Squared maximum mean discrepancy of the features, unbiased, so that it may be below 0.

    d = mean k(x, x') + mean k(y, y') - 2 mean k(x, y) over pairs of different images, with
    k(a, b) = (a.b / D + 1)^3; the mean over subsets of the smaller set's size, at most 1000.

    Args:
        real: (N, H, W, C) uint8.
        synthetic: (M, H, W, C) uint8.
        extractor: Maps (B, C, H, W) uint8 to (B, D) features.
        seed: Chooses the subsets.

    Returns:
        The distance; None with fewer than 2 images on a side.

    Source:
        Binkowski et al. 2018, section 4, arXiv:1801.01401.
    """
    fewest = min(len(real), len(synthetic))
    if fewest < 2:
        return None
    # Where a subset holds all of both sets, every other one is the same.
    subsets = 1 if len(real) == len(synthetic) <= SUBSET else SUBSETS
    with warnings.catch_warnings():
        # It always tells that it keeps all features in memory: 0.5 KB an image here.
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all", UserWarning)
        metric = KernelInceptionDistance(
            feature=extractor, subsets=subsets, subset_size=min(SUBSET, fewest), degree=3, coef=1.0
        )
    _feed(metric, real, synthetic, extractor)
    # It draws its subsets with torch's global generator, on the CPU.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, _ = metric.compute()
    return float(mean)


def _feed(metric: Any, real: Images, synthetic: Images, extractor: nn.Module) -> None:
    weight = next(extractor.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    metric.to(device)
    for images, is_real in ((real, True), (synthetic, False)):
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.array(images[start : start + BATCH])).permute(0, 3, 1, 2)
            metric.update(batch.to(device), real=is_real)
