"""Losses: how the discriminator's scores reward the two players.

Every loss takes `(real_logits, fake_logits)`, both (N,), where higher means more real, and
both its sides are minimised. A new loss is one pair of functions and one entry in `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """What each player minimises, and where the discriminator's opinion changes.

    Attributes:
        generator: The generator's loss.
        discriminator: The discriminator's loss.
        threshold: A score above it calls an image real; None where only the difference
            between real and fake scores means anything, and their midpoint serves.
    """

    generator: LossFunction
    discriminator: LossFunction
    threshold: float | None = 0.0


def logistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Cross-entropy of telling real from fake.

    Args:
        real_logits: (N,) log odds of being real; higher means more real.
        fake_logits: (N,) the same for fakes.

    Returns:
        Scalar; 2 ln 2 for a discriminator without an opinion.

    Source:
        Goodfellow et al. 2014, arXiv:1406.2661, equation 1.
    """
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def minimax_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:  # noqa: ARG001
    """The generator's side of the minimax game, log(1 - D(G(z))).

    Its gradient vanishes where the discriminator is sure: it is here to be studied.

    Args:
        real_logits: Not used.
        fake_logits: (N,) scores of fakes; higher means more real.

    Returns:
        Scalar; -ln 2 for a discriminator without an opinion.

    Source:
        Goodfellow et al. 2014, arXiv:1406.2661, equation 1.
    """
    return -softplus(fake_logits).mean()


def non_saturating_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:  # noqa: ARG001
    """Maximise log D(G(z)): the same fixed point as minimax, with a gradient when losing.

    Args:
        real_logits: Not used.
        fake_logits: (N,) scores of fakes; higher means more real.

    Returns:
        Scalar; ln 2 for a discriminator without an opinion.

    Source:
        Goodfellow et al. 2014, arXiv:1406.2661, section 3.
    """
    return softplus(-fake_logits).mean()


def least_squares_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Bring scores of real images to 1 and of fakes to -1.

    Args:
        real_logits: (N,) scores of real images.
        fake_logits: (N,) scores of fakes.

    Returns:
        Scalar; 0 when every image has its target.

    Source:
        Mao et al. 2017, arXiv:1611.04076, equation 8 (a = -1, b = 1, c = 0), scaled by 1/2.
    """
    return ((real_logits - 1).square().mean() + (fake_logits + 1).square().mean()) / 2


def least_squares_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:  # noqa: ARG001
    """Bring scores of fakes to those of real images, 1.

    Args:
        real_logits: Not used.
        fake_logits: (N,) scores of fakes; higher means more real.

    Returns:
        Scalar; 0 when every fake scores 1.

    Source:
        Mao et al. 2017, arXiv:1611.04076, equation 9 (b = c = 1), scaled by 1/2.
    """
    return (fake_logits - 1).square().mean() / 2


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Real images above 1, fakes below -1, and no reward for more.

    Args:
        real_logits: (N,) scores of real images.
        fake_logits: (N,) scores of fakes.

    Returns:
        Scalar; 2 for a discriminator without an opinion.

    Source:
        Lim & Ye 2017, arXiv:1705.02894.
    """
    return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()


def critic_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:  # noqa: ARG001
    """Raise the scores of fakes, however high they are; of the hinge and the Wasserstein game.

    Args:
        real_logits: Not used.
        fake_logits: (N,) scores of fakes; higher means more real.

    Returns:
        Scalar.

    Source:
        Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.
    """
    return -fake_logits.mean()


def wasserstein_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Minus the estimated earth mover's distance; needs a bound on the critic's slope.

    Args:
        real_logits: (N,) scores of real images.
        fake_logits: (N,) scores of fakes.

    Returns:
        Scalar.

    Source:
        Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.
    """
    return fake_logits.mean() - real_logits.mean()


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
    "minimax": Loss(minimax_generator_loss, logistic_discriminator_loss),
    "non-saturating": Loss(non_saturating_generator_loss, logistic_discriminator_loss),
    "least-squares": Loss(least_squares_generator_loss, least_squares_discriminator_loss),
    "hinge": Loss(critic_generator_loss, hinge_discriminator_loss),
    "wasserstein": Loss(critic_generator_loss, wasserstein_discriminator_loss, threshold=None),
    # Each fake is judged against one real image of its own class, so a generator that drops
    # a part of the data keeps losing there: no collapse by fooling one global threshold.
    "relativistic": Loss(relativistic_generator_loss, relativistic_discriminator_loss, threshold=None),
}


def aggregate_mean(losses: Tensor) -> Tensor:
    """The mean of (M,) losses before M discriminators."""
    return losses.mean()


def aggregate_hardest(losses: Tensor) -> Tensor:
    """The loss before the discriminator that is hardest to fool: the min of M scores.

    Source:
        Durugkar et al. 2017, arXiv:1611.01673, section 3.1 (GMAN-max in its sign).
    """
    return losses.max()


def aggregate_softmax(losses: Tensor) -> Tensor:
    """(M,) losses weighted by their softmax: the harder to fool, the heavier.

    Source:
        Durugkar et al. 2017, arXiv:1611.01673, section 3.2, with lambda = 1.

    >>> import torch
    >>> round(aggregate_softmax(torch.tensor([0.0, 10.0])).item(), 2)
    10.0
    """
    # The weights are no way to lower the loss: no gradient flows through them.
    return (torch.softmax(losses.detach(), dim=0) * losses).sum()


AGGREGATES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": aggregate_mean,
    "min": aggregate_hardest,
    "softmax": aggregate_softmax,
}
"""How the generator's losses before several discriminators become one."""
