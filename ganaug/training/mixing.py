"""Mixing of pairs of training images: MixUp and CutMix, for batches on any device."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ganaug.recipe import Mixing
from ganaug.training.device import upload

MIXUP_ALPHA = 0.2
"""Both shapes of the beta distribution of MixUp's share: of the 0.1 to 0.4 that its paper finds best without long training."""
CUTMIX_ALPHA = 1.0
"""The same of CutMix: its paper's, a share that is equally likely everywhere."""
CUTMIX_PROBABILITY = 0.5
"""Share of batches that CutMix mixes: its paper's for small images."""


def mix(images: Tensor, how: Mixing, rng: np.random.Generator) -> tuple[Tensor, Tensor, float]:
    """Mix each image of a batch with another one of it.

    Args:
        images: (N, C, H, W).
        how: `none`, `mixup` or `cutmix`.
        rng: Chooses partners, shares and places.

    Returns:
        (N, C, H, W) mixed images, (N,) row of each image's partner, and the share of the image's
        own label; the rest is its partner's.

    Source:
        MixUp: Zhang et al. 2018, equation 1, arXiv:1710.09412. CutMix: Yun et al. 2019, equations
        1 and 2, arXiv:1905.04899. One share per batch, as in both papers' code.
    """
    partner = upload(rng.permutation(len(images)), str(images.device))
    if how == "mixup":
        share = float(rng.beta(MIXUP_ALPHA, MIXUP_ALPHA))
        return share * images + (1.0 - share) * images[partner], partner, share
    if how == "cutmix" and rng.random() < CUTMIX_PROBABILITY:
        height, width = images.shape[2:]
        top, bottom, left, right = _box(height, width, float(rng.beta(CUTMIX_ALPHA, CUTMIX_ALPHA)), rng)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        # Of the pixels that were left: a box over the edge is smaller than was drawn.
        return mixed, partner, 1.0 - (bottom - top) * (right - left) / (height * width)
    return images, partner, 1.0


def _box(height: int, width: int, share: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Rows and columns of a box that covers 1 - `share` of the image, centred anywhere in it."""
    side = np.sqrt(1.0 - share)
    tall, broad = round(height * side), round(width * side)
    top, left = rng.integers(height) - tall // 2, rng.integers(width) - broad // 2
    rows, columns = np.clip([top, top + tall], 0, height), np.clip([left, left + broad], 0, width)
    return int(rows[0]), int(rows[1]), int(columns[0]), int(columns[1])
