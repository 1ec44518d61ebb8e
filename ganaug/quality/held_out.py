"""Real images to measure a generator on, other than the locked test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, RunFolderError
from ganaug.plan import BalancePlan
from ganaug.run import RunFolder

UNSEEN_FILE = "held_out.npy"
"""Left by training where it kept images back: int row numbers into the training split."""
FOLD_SHARE = 1 / 3

Rows = npt.NDArray[np.int64]


def fold_rows(train: LabelledImages, seed: int = 0) -> Rows:
    """Choose held-out rows: up to a third of each class, whole groups, the same for the same seed.

    Args:
        train: Training images; `group` in the index, if anything belongs together.
        seed: Chooses the groups.

    Returns:
        Row numbers, in order. A class of one image, or of one group, stays in training whole.

    Raises:
        DatasetError: No image can be held out.
    """
    counts = train.counts()
    wanted = np.where(counts > 1, np.ceil(counts * FOLD_SHARE), 0)
    groups = np.arange(len(train))
    if "group" in train.index:
        given = train.index["group"].fillna("").astype(str).to_numpy(object)
        groups = pd.factorize(np.where(given == "", [f"row {row}" for row in groups], given))[0]
    members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    chosen, held = list[Rows](), np.zeros(len(counts))
    for group in np.random.default_rng(seed).permutation(len(members)):
        rows = members[group]
        more = np.bincount(train.class_ids[rows], minlength=len(counts))
        if (held + more <= wanted).all():
            chosen.append(rows)
            held += more
    if not chosen:
        raise DatasetError(
            "no group of training images is small enough to be held out; measure on the test split "
            "(--held-out test), or name groups more finely"
        )
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def unseen_rows(run: RunFolder, train: LabelledImages, plan: BalancePlan) -> Rows | None:
    """Rows of the training split that no generator of their class trained on; None when none was kept back.

    Raises:
        RunFolderError: `held_out.npy` holds no row numbers of the training split.
    """
    base = _read_rows(run.path("train", "base") / UNSEEN_FILE, len(train))
    unseen = np.isin(np.arange(len(train)), [] if base is None else base)
    has_any = base is not None
    for row in plan.wanted:
        own = _read_rows(run.path("train", row.part) / UNSEEN_FILE, len(train)) if row.trains_own else None
        if own is not None:
            is_class, is_kept = train.class_ids == row.class_id, np.isin(np.arange(len(train)), own)
            # A class's generator goes on from the base: it has seen what either has.
            unseen = np.where(is_class, is_kept if base is None else unseen & is_kept, unseen)
            has_any = True
    return np.flatnonzero(unseen) if has_any and unseen.any() else None


def _read_rows(path: Path, n_rows: int) -> Rows | None:
    if not path.is_file():
        return None
    try:
        rows = np.load(path, allow_pickle=False)
        is_right = rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer)
    except (ValueError, OSError, EOFError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}); run `ganaug train` again") from error
    if not is_right or (len(rows) and not 0 <= rows.min() <= rows.max() < n_rows):
        raise RunFolderError(
            f"{path} holds no row numbers of the {n_rows} training images; delete it, or run `ganaug train` again"
        )
    found: Rows = rows.astype(np.int64)
    return found
