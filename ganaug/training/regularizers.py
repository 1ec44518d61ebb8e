"""Regularisers: gradient penalties that keep the discriminator from leaving the generator behind."""

from __future__ import annotations

import torch
from torch import Tensor


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Squared length of the score's gradient at the images.

    R1 when the images are real, R2 when they are fakes; both are needed, since without R2
    the relativistic game diverges.

    Args:
        logits: (N,) scores, computed from `images` and each from its own image only.
        images: (N, C, H, W) what the discriminator saw, with `requires_grad`; after
            augmentation, so that the gradient need not pass through the resampling.

    Returns:
        (N,) with a graph; its mean is weighted by gamma / 2.

    Source:
        Mescheder et al. 2018, arXiv:1801.04406, equations 9 and 10.

    >>> images = torch.ones(2, 1, 2, 2, requires_grad=True)
    >>> gradient_penalty(3 * images.sum(dim=(1, 2, 3)), images).tolist()
    [36.0, 36.0]
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))
