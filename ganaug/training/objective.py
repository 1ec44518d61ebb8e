"""The loss of the arms' classifiers: cross entropy as a recipe asks for it."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    partners: Tensor,
    shares: Tensor | None,
    *,
    weights: Tensor,
    offsets: Tensor,
    smoothing: float,
) -> Tensor:
    """Mean cross entropy of mixed labels, each class with its weight, logits with their offsets.

    With s(y) the label y smoothed: s * w(a) * CE(f + o, s(a)) + (1 - s) * w(b) * CE(f + o, s(b)),
    where an image is of class a and what was mixed into it of class b.

    Args:
        logits: (N, K), f.
        labels: (N,) class ids, a.
        partners: (N,) class ids of what was mixed in, b.
        shares: (2,) share of the own label, s, and the rest; None for images that are not mixed.
        weights: (K,) weight of each class, w.
        offsets: (K,) added to the logits, o; at test time they are not.
        smoothing: Share of each label that is spread over all classes.

    Returns:
        Scalar.

    Source:
        Offsets: Menon et al. 2021, equation 10, arXiv:2007.07314. Mixed labels: Zhang et al. 2018,
        arXiv:1710.09412. Smoothed labels: Szegedy et al. 2016, section 7, arXiv:1512.00567.
    """
    adjusted = logits + offsets

    def one(targets: Tensor) -> Tensor:
        losses = cross_entropy(adjusted, targets, reduction="none", label_smoothing=smoothing)
        return (losses * weights[targets]).mean()

    return one(labels) if shares is None else shares[0] * one(labels) + shares[1] * one(partners)
