"""SMOTE on pixels: new images of a small class on the line between two of its own."""

from __future__ import annotations

import numpy as np

from ganaug.dataset import ClassIds, Images, LabelledImages
from ganaug.errors import MissingExtraError

NEIGHBOURS = 5


def smote_images(train: LabelledImages, *, seed: int = 0) -> tuple[Images, ClassIds]:
    """Interpolate images until every class is as large as the largest.

    Args:
        train: Real training images. A class of one image has no neighbour and gets none; one of
            fewer than six uses all the neighbours it has.
        seed: Chooses pairs and places between them.

    Returns:
        (M, H, W, C) uint8 images and their (M,) class ids.

    Raises:
        MissingExtraError: imbalanced-learn is not installed.

    Source:
        Chawla et al. 2002, arXiv:1106.1813; imbalanced-learn's SMOTE.
    """
    try:
        from imblearn.over_sampling import SMOTE
    except ImportError as error:
        raise MissingExtraError("the arm 'smote'", "train") from error
    counts, shape = train.counts(), train.images.shape[1:]
    images, class_ids = [np.empty((0, *shape), np.uint8)], [np.empty(0, np.int64)]
    for class_id in np.flatnonzero((counts > 1) & (counts < counts.max())):
        # One class at a time, against a black image: the number of neighbours is then its own.
        own = train.images[train.class_ids == class_id].reshape(counts[class_id], -1).astype(np.float32)
        sampler = SMOTE(
            sampling_strategy={1: int(counts.max())},
            k_neighbors=int(min(NEIGHBOURS, counts[class_id] - 1)),
            random_state=seed * len(counts) + int(class_id),
        )
        found, _ = sampler.fit_resample(np.pad(own, ((0, 1), (0, 0))), [1] * len(own) + [0])
        made = np.clip(np.rint(found[len(own) + 1 :]), 0, 255).astype(np.uint8)
        images.append(made.reshape(-1, *shape))
        class_ids.append(np.full(len(made), class_id, np.int64))
    return np.concatenate(images), np.concatenate(class_ids)
