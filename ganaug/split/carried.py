"""Data that grow: the split of what was there before is carried over, so that the lock holds.

An image that was tested on once is never trained on, however the data grow: a GAN that goes on from
weights of last night, and all that was chosen by then, would know it otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ganaug.config import SplitConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import RunFolderError
from ganaug.split.assign import TEST, TRAIN, UNUSED, Labels, assign_groups
from ganaug.split.likeness import Rows


@dataclass(frozen=True)
class Carried:
    """The sides of an earlier split.

    Attributes:
        sides: The side (`train`, `test`, `unused`) of each image by its SHA-256.
    """

    sides: dict[str, str]

    @classmethod
    def load(cls, path: Path) -> Carried:
        """Read a `split.parquet`, or a copy of one.

        Raises:
            RunFolderError: It is damaged.
        """
        try:
            table = pd.read_parquet(path, columns=["sha256", "split"]).astype(str)
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(
                f"{path} is damaged ({error}), so nobody knows what was tested on: restore it, or begin a new series"
            ) from error
        # Of copies that stand on several sides, the one that tests counts.
        table = table.sort_values("split", key=lambda sides: sides.eq(TEST), kind="stable")
        return cls(dict(zip(table["sha256"], table["split"], strict=True)))

    def sides_of(self, data: LabelledImages) -> Labels:
        """(N,) the side of each image; empty where it is new."""
        return np.array([self.sides.get(sha256, "") for sha256 in data.index["sha256"]], object)


def carry(
    carried: Carried, data: LabelledImages, groups: Rows, config: SplitConfig
) -> tuple[Labels, int, list[str]]:
    """Give images that are known their side again, and new ones that of their group, or a new one.

    Args:
        carried: The earlier split.
        data: The images as they are now.
        groups: (N,) int64 number of each image's group.
        config: Share and seed for what is new.

    Returns:
        (N,) the sides; how many earlier training images leave, because what is new shows that they are
        of one group with test images; and warnings.
    """
    before = carried.sides_of(data)
    is_known, was_test = before != "", before == TEST
    with_test = np.isin(groups, groups[was_test])
    is_leak = with_test & is_known & ~was_test
    with_training = np.isin(groups, groups[is_known & ~was_test])
    fixed = np.where(with_test, 1, np.where(with_training, 0, -1))
    is_test = assign_groups(groups, data.class_ids, config.test_share, config.seed, fixed)
    side = np.where(is_test, TEST, TRAIN).astype(object)
    side[is_leak] = UNUSED
    # Those that were kept out of training for the same reason before are no news.
    leaks = int((is_leak & (before == TRAIN)).sum())
    if not leaks:
        return side, 0, []
    return (
        side,
        leaks,
        [
            f"{leaks} image(s) that trained before are copies or near-copies of test images, or of their group, "
            "as what is new shows, and leave training"
        ],
    )
