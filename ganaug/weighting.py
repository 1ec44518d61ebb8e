"""How much each class counts in the loss, from its number of training images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds

Doubles = npt.NDArray[np.float64]


def inverse_count(counts: ClassIds) -> Doubles:
    """(K,) weights 1 / n; 0 for a class without images.

    >>> inverse_count(np.array([4, 2, 0])).tolist()
    [0.25, 0.5, 0.0]
    """
    return np.where(counts > 0, 1.0 / np.maximum(counts, 1), 0.0)


def effective_number(counts: ClassIds, beta: float = 0.999) -> Doubles:
    """(K,) weights (1 - β) / (1 - β^n), one over the effective number of images of the class.

    The n-th image of a class adds β^(n-1) of a new one, since it may look like those before it:
    β = 0 weighs all classes alike, β towards 1 weighs them by 1 / n.

    Args:
        counts: (K,) training images per class, n.
        beta: β.

    Source:
        Cui et al. 2019, equation 2 and theorem 1, arXiv:1901.05555.

    >>> effective_number(np.array([1, 2]), beta=0.5).round(3).tolist()
    [1.0, 0.667]
    """
    n = np.maximum(counts, 1).astype(np.float64)
    return np.where(counts > 0, (1.0 - beta) / (1.0 - beta**n), 0.0)


def log_priors(counts: ClassIds, tau: float = 1.0) -> Doubles:
    """(K,) offsets τ log π of the logits, π the class's share of the training images.

    A network that minimises the cross entropy of its logits plus these has, without them, the
    logits of a world in which all classes are equally common. A class without images counts as
    one with half an image.

    Args:
        counts: (K,) training images per class.
        tau: τ; 1 is consistent for the balanced error.

    Source:
        Menon et al. 2021, equation 10, arXiv:2007.07314.

    >>> np.exp(log_priors(np.array([3, 1]))).tolist()
    [0.75, 0.25]
    """
    at_least = np.maximum(counts, 0.5)
    offsets: Doubles = tau * np.log(at_least / at_least.sum())
    return offsets
