"""Realism: whether an image lies where the real images of its class lie, in a classifier's features."""

from __future__ import annotations

import numpy as np

from ganaug.dataset import ClassIds
from ganaug.screen.folds import Fold
from ganaug.screen.looks import Bools, Floats
from ganaug.screen.pixels import euclidean, neighbour_distances

NEAREST = 1e-6
"""Least distance, as a share of the typical one: the same image twice has a realism of a million."""


def typical_distances(features: Floats, class_ids: ClassIds, n_classes: int) -> tuple[Floats, float]:
    """Distance in features from a real image to its nearest neighbour of the same class.

    Args:
        features: (N, F) of real images.
        class_ids: (N,) their classes.
        n_classes: Number of classes, K.

    Returns:
        (K,) medians, and the median over all images, which stands for a class with fewer than
        two; 1 where no class has two.
    """
    each = [
        neighbour_distances(features[class_ids == k], class_ids[class_ids == k]) for k in range(n_classes)
    ]
    every = np.concatenate(each)
    overall = max(float(np.median(every)), 1e-9) if len(every) else 1.0
    typical = np.array([np.median(own) if len(own) else overall for own in each], np.float32)
    return np.maximum(typical, np.float32(1e-9)), overall


def realism(nearest: Floats, typical: Floats | float) -> Floats:
    """Typical distance between real neighbours over the distance to the nearest real image.

    Args:
        nearest: (N,) distance in features to the nearest real image of the class.
        typical: That of real neighbours of the class.

    >>> realism(np.array([0.5, 2.0], np.float32), 1.0).tolist()
    [2.0, 0.5]

    Source:
        The idea of Naeem et al. 2020, arXiv:2002.09797 (density), and of the realism score of
        Kynkaanniemi et al. 2019, arXiv:1904.06991, section 5: distances between real
        neighbours say how far from them a real image can lie.
    """
    ratio: Floats = np.asarray(typical / np.maximum(nearest, NEAREST * np.asarray(typical)), np.float32)
    return ratio


def held_out_realism(fold: Fold, n_classes: int) -> tuple[Floats, Floats, Bools]:
    """How the real images that a fold held out lie beside those that it trained on.

    Args:
        fold: Features of a classifier, and which images it was trained without.
        n_classes: Number of classes, K.

    Returns:
        Of each of the H held-out images: (H,) its realism; (H,) its distance to the nearest
        real image of its class, over what is typical of all classes; and (H,) whether it has
        these: the classifier was trained on its class.
    """
    seen = ~fold.held_out
    typical, overall = typical_distances(fold.features[seen], fold.class_ids[seen], n_classes)
    features, class_ids = fold.features[fold.held_out], fold.class_ids[fold.held_out]
    nearest, is_known = np.zeros(len(class_ids), np.float32), np.zeros(len(class_ids), bool)
    for class_id in np.unique(class_ids):
        trained_on = fold.features[seen & (fold.class_ids == class_id)]
        rows = np.flatnonzero(class_ids == class_id)
        if len(trained_on):
            nearest[rows], is_known[rows] = euclidean(features[rows], trained_on).min(axis=1), True
    return realism(nearest, typical[class_ids]), nearest / np.float32(overall), is_known
