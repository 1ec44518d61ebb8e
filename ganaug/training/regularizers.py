"""Regularisers: what keeps the discriminator from leaving the generator behind.

Each is a function of a `Sight`, which holds what the discriminator just saw, and returns a
scalar that is added to its loss with a weight. A new one is one function and one entry in
`REGULARIZERS`. Spectral norm is the exception: it changes the layers themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.nn.utils import parametrizations

SPECTRAL_NORM = "spectral-norm"


@dataclass
class Sight:
    """One look of a discriminator at a batch, and what a regulariser may ask of it.

    Attributes:
        discriminator: `discriminator(images, condition)` to (N,) or (M, N) scores.
        seen: (2N, C, H, W) real images, then fakes; `requires_grad` on penalty steps.
        condition: The conditions of `seen`, (2N, ...).
        logits: (M, 2N) their scores.
        mix: (N, 1, 1, 1) uniform in 0..1, where interpolates lie.
        noise: (N, C, H, W) uniform in 0..1.
        anchors: (2,) running means of real and fake scores.
    """

    discriminator: nn.Module
    seen: Tensor
    condition: Tensor
    logits: Tensor
    mix: Tensor
    noise: Tensor
    anchors: Tensor

    @cached_property
    def slopes(self) -> Tensor:
        """(2N,) squared length of the scores' gradients, summed over discriminators."""
        rows = [squared_gradient(row, self.seen) for row in self.logits]
        return torch.stack(rows).sum(0)

    @property
    def real(self) -> Tensor:
        """(N, C, H, W) real images."""
        return self.seen.detach().chunk(2)[0]

    @property
    def fake(self) -> Tensor:
        """(N, C, H, W) fakes."""
        return self.seen.detach().chunk(2)[1]

    def slopes_at(self, images: Tensor) -> Tensor:
        """(M * N,) lengths of the scores' gradients at other images, with the reals' conditions."""
        images = images.detach().requires_grad_()
        logits = self.discriminator(images, self.condition.chunk(2)[0]).view(-1, len(images))
        return torch.cat([(squared_gradient(row, images) + 1e-12).sqrt() for row in logits])


Regularizer = Callable[[Sight], Tensor]


def squared_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """Squared length of the score's gradient at the images.

    Args:
        logits: (N,) scores, computed from `images`.
        images: (N, C, H, W) what the discriminator saw, with `requires_grad`; after
            augmentation, so that the gradient need not pass through the resampling.

    Returns:
        (N,) with a graph.

    >>> images = torch.ones(2, 1, 2, 2, requires_grad=True)
    >>> squared_gradient(3 * images.sum(dim=(1, 2, 3)), images).tolist()
    [36.0, 36.0]
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def r1(sight: Sight) -> Tensor:
    """Half the squared gradient at real images.

    Source:
        Mescheder et al. 2018, arXiv:1801.04406, equation 9.
    """
    return sight.slopes.chunk(2)[0].mean() / 2


def r2(sight: Sight) -> Tensor:
    """Half the squared gradient at fakes; without it the relativistic game diverges.

    Source:
        Mescheder et al. 2018, arXiv:1801.04406, equation 10.
    """
    return sight.slopes.chunk(2)[1].mean() / 2


def wgan_gp(sight: Sight) -> Tensor:
    """Squared distance of the gradient's length from 1, between real images and fakes.

    Source:
        Gulrajani et al. 2017, arXiv:1704.00028, equation 3.
    """
    between = sight.mix * sight.real + (1 - sight.mix) * sight.fake
    return (sight.slopes_at(between) - 1).square().mean()


def dragan(sight: Sight) -> Tensor:
    """Squared distance of the gradient's length from 1, around real images.

    Source:
        Kodali et al. 2017, arXiv:1705.07215, equation 3: noise of half the data's deviation.
    """
    # `std` over the batch tells how far apart real images are.
    around = sight.real + sight.mix * 0.5 * sight.real.std() * (2 * sight.noise - 1)
    return (sight.slopes_at(around) - 1).square().mean()


def lecam(sight: Sight) -> Tensor:
    """Keep real scores near the running mean of fake ones, and fake ones near the real.

    Source:
        Tseng et al. 2021, arXiv:2104.03310, equation 5; one-sided, since a gap that shrinks
        does no harm.
    """
    real_logits, fake_logits = sight.logits.chunk(2, dim=1)
    real_anchor, fake_anchor = sight.anchors
    return relu(real_logits - fake_anchor).square().mean() + relu(real_anchor - fake_logits).square().mean()


REGULARIZERS: dict[str, Regularizer] = {
    "r1": r1,
    "r2": r2,
    "wgan-gp": wgan_gp,
    "dragan": dragan,
    "lecam": lecam,
}
NEED_SLOPES = frozenset({"r1", "r2"})
"""Those that ask for the gradient at what the discriminator saw anyway."""
LAZY = frozenset({"r1", "r2", "wgan-gp", "dragan"})
"""Those that cost a second backward pass, and may come only every few steps."""
ANCHOR_DECAY = 0.99
"""Decay per step of the running means of the scores (LeCam)."""


def apply_spectral_norm(discriminator: nn.Module) -> None:
    """Divide every layer's weight by its largest singular value, for good.

    Draws the power iteration's first vectors from torch's global generator.

    Source:
        Miyato et al. 2018, arXiv:1802.05957.
    """
    for module in list(discriminator.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            parametrizations.spectral_norm(module)
