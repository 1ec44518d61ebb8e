"""Folds of training images for cross-validation: every class in each, groups whole."""

from __future__ import annotations

import numpy as np

from ganaug.dataset import ClassIds, LabelledImages


def assign_folds(train: LabelledImages, folds: int, seed: int) -> ClassIds:
    """Deal training images to folds, so that each has its share of every class.

    Images of one group stay together, except in a class that is a single group: its images
    would be held out all at once.

    Args:
        train: Real training images; their `group` says what belongs together.
        folds: How many.
        seed: Chooses among equally good ways.

    Returns:
        (N,) number of the fold in which each image is held out.
    """
    units = _units(train)
    n_units = int(units.max(initial=-1)) + 1
    counts = np.zeros((n_units, len(train.class_names)), np.int64)
    np.add.at(counts, (units, train.class_ids), 1)
    load = np.zeros((folds, len(train.class_names)))
    chosen = np.zeros(n_units, np.int64)
    order = np.random.default_rng(seed).permutation(n_units)
    # The largest first: what is small evens out what they leave uneven.
    for unit in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        share = counts[unit] / np.maximum(train.counts(), 1)
        # The fold that lacks most of what the unit brings; the emptiest of equals.
        chosen[unit] = min(range(folds), key=lambda fold: (float(load[fold] @ share), load[fold].sum()))
        load[chosen[unit]] += share
    return chosen[units]


def _units(train: LabelledImages) -> ClassIds:
    """(N,) number of what is dealt whole: a group, or an image that has none."""
    groups = (
        train.index["group"].astype(str).to_numpy() if "group" in train.index else np.full(len(train), "")
    )
    alone = groups == ""
    for class_id in np.unique(train.class_ids):
        own = train.class_ids == class_id
        if len(np.unique(groups[own & ~alone])) == 1 and not (own & alone).any():
            alone |= own
    names = np.where(
        alone, [f"image {row}" for row in range(len(train))], [f"group {name}" for name in groups]
    )
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
