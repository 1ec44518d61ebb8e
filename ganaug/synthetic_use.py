"""How synthetic images are used: what share of a class's draws they take."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ganaug.dataset import ClassIds
from ganaug.recipe import Doubles

SyntheticUse = Literal["none", "share", "fill", "first", "only", "own"]
"""`own`: as a user's own arm does."""


def share_draws(
    draws: Doubles, real_ids: ClassIds, fake_ids: ClassIds, use: SyntheticUse, share: float, n_classes: int
) -> Doubles:
    """Give each class's synthetic images their part of its draws; classes keep their total.

    A synthetic image is never drawn more often than a real one of its class, unless the class is
    to be synthetic alone.

    Args:
        draws: (R,) draw probabilities of the other images.
        real_ids: (R,) their class ids.
        fake_ids: (S,) class ids of the synthetic images.
        use: `share` takes `share`; `fill` and `first` what the class lacks to the largest one;
            `only` all.
        share: That share.
        n_classes: K.

    Returns:
        (R + S,) draw probabilities.
    """
    real = np.bincount(real_ids, minlength=n_classes)
    fake = np.bincount(fake_ids, minlength=n_classes)
    if use == "only":
        share_of = (fake > 0).astype(np.float64)
    else:
        asked = np.full(n_classes, share) if use == "share" else 1.0 - real / max(real.max(), 1)
        share_of = np.where(fake > 0, np.minimum(asked, fake / np.maximum(real + fake, 1)), 0.0)
    total = np.bincount(real_ids, weights=draws, minlength=n_classes)
    each_fake = total * share_of / np.maximum(fake, 1)
    return np.concatenate([draws * (1.0 - share_of[real_ids]), each_fake[fake_ids]])


def only_real(draws: Doubles, n_synthetic: int) -> Doubles:
    """(R + S,) draw probabilities that leave the synthetic images, which stand last, out."""
    return np.concatenate([draws, np.zeros(n_synthetic)])
