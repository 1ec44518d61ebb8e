"""Thresholds: what is added to a trained classifier's log-probabilities before it decides.

A classifier knows its few training images of a rare class by heart and gives unseen ones of it too little
probability, also where draws or losses were balanced (Ye 2020). Post-hoc logit adjustment (Menon 2021,
section 4.1) adds a multiple of the log of what each class lacks to the largest. The multiple is chosen on
images that the classifier was not trained on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds
from ganaug.prevalence import Doubles, image_weights

Floats = npt.NDArray[np.float32]

MULTIPLES = np.arange(0, 25) / 16
"""What competes: 0 leaves the classifier alone, 1 is the whole log of the ratio of two classes' sizes."""
SHARPNESS = 3
"""Power of the probabilities that are counted: labels were smoothed, so that a sure guess is about 0.9. Chosen
on splits of the digits from 100 on."""
_LEAST = 1e-9
"""Below it a probability is taken for it: a classifier's zero is no certainty."""


def class_offsets(counts: ClassIds) -> Floats:
    """(K,) log of how many times the largest class has the images of each; 0 for a class that has none.

    >>> np.exp(class_offsets(np.array([8, 1, 0]))).round().tolist()
    [1.0, 8.0, 1.0]
    """
    known = np.maximum(counts, 1)
    return np.where(counts > 0, np.log(known.max() / known), 0.0).astype(np.float32)


def move(probability: Floats, offsets: Floats) -> Floats:
    """(N, K) probabilities after `offsets` (K,) were added to their logarithms.

    >>> move(np.array([[0.75, 0.25]], np.float32), np.log(np.array([1, 3], np.float32))).tolist()
    [[0.5, 0.5]]
    """
    logits = np.log(np.maximum(probability, _LEAST)) + offsets
    grown = np.exp(logits - logits.max(1, keepdims=True))
    moved: Floats = (grown / grown.sum(1, keepdims=True)).astype(np.float32)
    return moved


def choose_multiple(
    class_ids: ClassIds, probability: Floats, offsets: Floats, prevalence: ClassIds | Doubles
) -> float:
    """The multiple of the offsets with the best macro-F1 on images that the classifier has not seen.

    An image counts for each class by its sharpened probability, not for the likeliest alone: of five images
    of a class, one that changes sides would decide all.

    Args:
        class_ids: (N,) their true classes.
        probability: (N, K) what it says of them.
        offsets: (K,) as `class_offsets` gives them.
        prevalence: (K,) how common each class is where the classifier will be used, in any unit: a rare
            class's precision falls with every common image that is taken for it. A class with 0 is
            left out.

    Returns:
        One of `MULTIPLES`; 0 without images.
    """
    n_classes, weights = len(offsets), image_weights(class_ids, prevalence)
    shares = np.bincount(class_ids, weights=weights, minlength=n_classes)
    judged = shares > 0
    if not judged.any():
        return 0.0
    rows, found = np.arange(len(class_ids)), []
    for multiple in MULTIPLES:
        guesses = move(probability, np.float32(multiple) * offsets) ** SHARPNESS
        guesses /= guesses.sum(1, keepdims=True)
        hits = np.bincount(class_ids, weights=weights * guesses[rows, class_ids], minlength=n_classes)
        found.append(float((2 * hits[judged] / (shares + weights @ guesses)[judged]).mean()))
    return float(MULTIPLES[np.argmax(found)])
