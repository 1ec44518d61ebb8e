"""Which unlabelled images may be trained on: none that shows what the locked test split shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ganaug.dataset import Images, LabelledImages
from ganaug.errors import DatasetError
from ganaug.progress import Progress, silent
from ganaug.split.duplicates import near_duplicates_of, pixel_digests
from ganaug.split.likeness import Rows, blocks

# Unlabelled images compared with the test images at a time; bounds memory whatever their number.
_BLOCK = 4096


@dataclass(frozen=True)
class Sifted:
    """Unlabelled images, sifted.

    Attributes:
        rows: (M,) int64 rows of those that may be trained on.
        dropped: Reason to number of those that may not, or need not.
    """

    rows: Rows
    dropped: dict[str, int]

    @property
    def note(self) -> str:
        """What was found, in words."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        return f"{len(self.rows)} unlabelled images are of use; left out: {reasons}"


def sift_unlabelled(
    unlabelled: LabelledImages,
    data: LabelledImages,
    limits: Mapping[str, float],
    *,
    previews: tuple[Images | None, Images | None] = (None, None),
    progress: Progress = silent,
) -> Sifted:
    """Drop unlabelled images that are copies or near-duplicates of test images, or copies of training images.

    What left training as a copy of a test image, or of its group, counts as a test image.

    Args:
        unlabelled: The images in question.
        data: The parted labelled images, of the same shape.
        limits: Resemblance that makes a near-duplicate, per way of search, as the labelled images
            asked for it; empty when near-duplicates are not searched for.
        previews: (N, 96, 96) uint8 grey of `unlabelled` and of `data`, when the originals are larger.
        progress: Told of the images compared.

    Raises:
        DatasetError: No unlabelled image is left.
    """
    side = data.index["split"].to_numpy(object)
    is_train = side == "train"
    is_test = ~is_train & data.index["group"].isin(data.index["group"][side == "test"]).to_numpy(bool)
    hashes = [
        (one.index["sha256"].to_numpy(object).astype(str), pixel_digests(one.images))
        for one in (unlabelled, data)
    ]
    # Equal files are equal images, and so are equal pixels in files of two kinds.
    is_test_copy, is_train_copy = (
        np.logical_or.reduce([np.isin(own, known[part]) for own, known in zip(*hashes, strict=True)])
        for part in (is_test, is_train)
    )
    is_near = np.zeros(len(unlabelled), bool)
    rest = np.flatnonzero(~is_test_copy & ~is_train_copy)
    if limits:
        test = _views(data, previews[1], np.flatnonzero(is_test))
        for block in blocks(len(rest), max(_BLOCK, len(test[0]))):
            others = _views(unlabelled, previews[0], rest[block])
            is_near[rest[block]] = near_duplicates_of(test, others, limits)
            progress(block.stop, len(rest))
    rows = np.flatnonzero(~is_test_copy & ~is_near & ~is_train_copy)
    dropped = {
        "copies of test images": int(is_test_copy.sum()),
        "near-duplicates of test images": int(is_near.sum()),
        "copies of training images": int((is_train_copy & ~is_test_copy).sum()),
    }
    sifted = Sifted(rows, dropped)
    if not len(rows):
        raise DatasetError(
            f"{sifted.note}. Give images in data.unlabelled that are not in the labelled data, or leave that "
            "setting out."
        )
    return sifted


def _views(data: LabelledImages, previews: Images | None, rows: Rows) -> tuple[Images, Rows]:
    """What is searched, copied into memory, and the (n, 2) sizes of the originals in px."""
    shapes_px = data.index[["height", "width"]].to_numpy(np.int64)[rows]
    return np.asarray((data.images if previews is None else previews)[rows]), shapes_px
