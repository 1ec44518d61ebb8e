"""What so many test images can show: the smallest difference of recall that would be found."""

from __future__ import annotations

import math


def smallest_visible(
    test_images: int, disagreement: float = 0.0, *, confidence: float = 0.95, power: float = 0.8
) -> float:
    """Smallest gain in the recall of a class that so many of its test images show.

    Both arms are asked about the same images, so only those count that they call differently. A
    gain d is found when d is z(confidence) of its standard errors above 0, and it is with
    probability `power` when it is truly z(power) further. With a share q of images on which the
    arms differ both ways alike, the variance of the paired difference is (q + d - d²) / n, and d
    solves n d² = Z² (q + d - d²) with Z the sum of both z.

    Args:
        test_images: Test images of the class (groups of them, where they come in groups), n.
        disagreement: Share of them that one arm gets right and the other wrong beyond the gain, q.
            0 is the best case: the better arm is right wherever the other one is.
        confidence: Level of the interval that must lie above 0.
        power: Probability of finding the gain.

    Returns:
        A share, 1.0 at the most; infinite without test images.

    Source:
        Connor 1987, Sample size for testing differences in proportions for the paired-sample
        design, Biometrics 43, in the form for two-sided intervals.

    >>> round(smallest_visible(12), 2), round(smallest_visible(100), 2), round(smallest_visible(100, 0.1), 2)
    (0.4, 0.07, 0.13)
    """
    from scipy.special import ndtri

    if test_images < 1:
        return math.inf
    square = float(ndtri((1 + confidence) / 2) + ndtri(power)) ** 2
    total = test_images + square
    gain = (square + math.sqrt(square**2 + 4 * total * square * disagreement)) / (2 * total)
    return min(gain, 1.0)
