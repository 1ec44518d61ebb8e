"""Choosing the test split: whole groups, so that every class has its share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganaug.split.likeness import Rows

TRAIN, TEST, UNUSED = "train", "test", "unused"
Labels = npt.NDArray[np.object_]
_FAR = 0.5
"""How far, as a share of what is wanted of it in the test split, a class is off where another order is tried."""


def assign_groups(
    groups: Rows, class_ids: Rows, share: float, seed: int, fixed: Rows | None = None
) -> npt.NDArray[np.bool_]:
    """Choose whole groups so that every class has about `share` of its images in the test split.

    Groups of several images are laid in first, those with the rarest classes before the others,
    each when it brings the classes nearer to their share; then single groups change sides while
    that helps. Single images fill up every class exactly.

    Args:
        groups: (N,) int64 from 0; lower numbers do not come first.
        class_ids: (N,) int64.
        share: Of each class, for the test split.
        seed: Chooses among the possible splits.
        fixed: (N,) int64: 1 in the test split already, 0 in training already, -1 free; alike in a group.

    Returns:
        (N,) whether an image is in the test split.
    """
    rng = np.random.default_rng(seed)
    classes = int(class_ids.max()) + 1
    counts = np.zeros((int(groups.max()) + 1, classes), np.int64)
    np.add.at(counts, (groups, class_ids), 1)
    fate = np.full(len(counts), -1)
    if fixed is not None:
        fate[groups[fixed >= 0]] = fixed[fixed >= 0]
    is_free = fate < 0
    is_single = is_free & (counts.sum(axis=1) == 1)
    totals = counts.sum(axis=0)
    wanted = np.clip(np.rint(share * totals), np.minimum(1, totals - 1), np.maximum(totals - 1, 0))
    draw = rng.random(len(counts))
    is_chosen = (fate == 1) | _lay_groups(counts, is_free & ~is_single, draw, share)
    missing = (wanted - counts[is_chosen].sum(axis=0)).clip(0).astype(np.int64)
    single_class = counts.argmax(axis=1)
    for class_id in range(classes):
        own = np.flatnonzero(is_single & (single_class == class_id))
        is_chosen[own[np.argsort(draw[own])[: missing[class_id]]]] = True
    chosen: npt.NDArray[np.bool_] = is_chosen[groups]
    return chosen


def _lay_groups(
    counts: Rows, is_laid: npt.NDArray[np.bool_], draw: npt.NDArray[np.float64], share: float
) -> npt.NDArray[np.bool_]:
    """(G,) which of the groups `is_laid` are chosen; single images have the same share of their own."""
    totals = counts[is_laid].sum(axis=0).astype(np.float64)
    # A class that has single images besides can still stand on both sides.
    is_bound = (totals > 0) & (totals == counts.sum(axis=0))
    target, weight = share * totals, 1 / np.maximum(share * totals, 1)
    rarity = np.where(counts > 0, counts.sum(axis=0)[None], np.iinfo(np.int64).max).min(axis=1)
    laid = np.flatnonzero(is_laid)

    def loss(chosen: npt.NDArray[np.float64]) -> float:
        # Far worse than any imbalance is a class that is missing on one side.
        missing = (is_bound & ((chosen == 0) | (chosen == totals))).sum()
        return float((((chosen - target) * weight) ** 2).sum()) + 1e6 * float(missing)

    def lay(order: Rows) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        is_chosen = np.zeros(len(counts), bool)
        sums = np.zeros(counts.shape[1])
        now = loss(sums)
        for _ in range(20):
            has_moved = False
            for group in order:
                changed = sums + (-counts[group] if is_chosen[group] else counts[group])
                better = loss(changed)
                if better < now - 1e-12:
                    is_chosen[group], sums, now, has_moved = not is_chosen[group], changed, better, True
            if not has_moved:
                break
        return is_chosen, sums

    is_chosen, sums = lay(laid[np.lexsort([draw[laid], rarity[laid]])])
    if (np.abs(sums - target) * weight > _FAR).any():
        # A large group that came first may have left no way to the small ones.
        others, other_sums = lay(laid[np.lexsort([draw[laid], counts[laid].sum(axis=1)])])
        if loss(other_sums) < loss(sums):
            return others
    return is_chosen
