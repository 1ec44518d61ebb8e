"""How common classes are where a classifier will be used, which its training images need not tell.

Where classes were cut for a trial (`split.keep`, `split.long_tail`), or training images were collected by class,
a rare class's precision among them says little: it falls with every common image that is taken for the class.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds

Doubles = npt.NDArray[np.float64]


def image_weights(class_ids: ClassIds, prevalence: ClassIds | Doubles) -> Doubles:
    """What each image counts for, so that its class is as common as it will be.

    Args:
        class_ids: (N,) the images' classes.
        prevalence: (K,) how common each class will be, in any unit.

    Returns:
        (N,) weights, whose sum over a class is its prevalence.

    >>> image_weights(np.array([0, 0, 0, 0, 1]), np.array([10, 10])).tolist()
    [2.5, 2.5, 2.5, 2.5, 10.0]
    """
    counts = np.bincount(class_ids, minlength=len(prevalence))
    weights: Doubles = (np.asarray(prevalence, np.float64) / np.maximum(counts, 1))[class_ids]
    return weights
