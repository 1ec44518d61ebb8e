"""Losses: how the discriminator's scores reward the two players.

Every loss takes `(real_logits, fake_logits)`, both (N,), where higher means more real, and
both its sides are minimised. A new loss is one pair of functions and one entry in `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """What each player minimises."""

    generator: LossFunction
    discriminator: LossFunction


def relativistic_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Reward fakes that score above the real image they are paired with.

    Args:
        real_logits: (N,) scores of real images; higher means more real.
        fake_logits: (N,) scores of fakes, same classes in the same order.

    Returns:
        Scalar; ln 2 when the two score alike.

    Source:
        Jolicoeur-Martineau 2018, arXiv:1807.00734, as paired in Huang et al. 2024,
        arXiv:2501.05441, equation 2.

    >>> import torch
    >>> round(relativistic_generator_loss(torch.zeros(3), torch.zeros(3)).item(), 4)
    0.6931
    """
    return softplus(real_logits - fake_logits).mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Reward real images that score above the fake they are paired with.

    Args:
        real_logits: (N,) scores of real images; higher means more real.
        fake_logits: (N,) scores of fakes, same classes in the same order.

    Returns:
        Scalar; ln 2 when the two score alike.

    Source:
        Jolicoeur-Martineau 2018, arXiv:1807.00734, as paired in Huang et al. 2024,
        arXiv:2501.05441, equation 2.
    """
    return softplus(fake_logits - real_logits).mean()


LOSSES: dict[str, Loss] = {
    # Each fake is judged against one real image of its own class, so a generator that drops
    # a part of the data keeps losing there: no collapse by fooling one global threshold.
    "relativistic": Loss(relativistic_generator_loss, relativistic_discriminator_loss),
}
