"""Whether synthetic images give test images away: copies of them, exact or nearly.

Test images are read here to protect the measurement; nothing is chosen by them. A synthetic image
nearly copies a test image where it is nearer to it than different real images come, and less than
half as far from it as from every training image of its class. So what repeats a training image that
happens to have a look-alike among the test images is no near-copy.

Look-alikes are natural, all the more where images are small and a class has many test images and
few training images. Real images, which copy nobody, tell how natural: each training image and each
test image is asked the same, with itself left out. Training images are of other groups than test
images (frames of one burst stand on one side), as all is that a generator has honestly learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds, Images, LabelledImages
from ganaug.errors import LeakError
from ganaug.screen.pixels import (
    BATCH,
    SHIFTS,
    Floats,
    copy_distance,
    pairwise_distances,
    sampled_rows,
)
from ganaug.split.duplicates import pixel_digests

FALSE_ALARMS = 0.001
"""Share of evaluations with honest images that may be stopped, were these like real ones."""
LIMITS = (1.0, 2.0)
"""Near-copies are nearer to a test image than so many times the screen's copy distance (which is 0.35
of the typical distance of real neighbours): the first finds a few where look-alikes are common, the
second finds more changed ones where they are not."""
CAUTION = (0, 1)
"""Near-copies that are added to those seen among a class's real images, at each limit: how common
look-alikes are at the second one differs from class to class, and none seen does not mean none."""
NEARER = 0.5
"""They are also nearer than this share of the distance to the nearest training image."""
BLOCK_PIXELS = 2**24
"""Pixels of real images that are held as numbers at a time: flat memory, however many there are."""
SHOWN = 5


@dataclass(frozen=True)
class ClassCopies:
    """Copies of test images among the synthetic images of a class.

    Attributes:
        class_name: The class.
        synthetic: Its synthetic images.
        exact: Those that are a test image to the last pixel, and no training image.
        near_rows: Test images, by row, that have near-copies among the others, at the more telling
            one of `LIMITS`.
        exact_rows: Test images that have exact ones.
        expected: Near-copied test images to be expected, were the synthetic images real ones.
        chance: Probability of so many, or more, if so.
    """

    class_name: str
    synthetic: int
    exact: int
    near_rows: tuple[int, ...]
    exact_rows: tuple[int, ...]
    expected: float
    chance: float


def find_copies(train: LabelledImages, test: LabelledImages, synthetic: LabelledImages) -> list[ClassCopies]:
    """Count copies of test images among synthetic ones, class by class.

    Near-copies are looked for among the test images of the same class, exact ones among all. What
    counts is how many test images are copied, not how often: one copy gives a test image away.

    Args:
        train: Real training images.
        test: The locked real test images.
        synthetic: Synthetic images; `class_id` in the index.
    """
    if not len(synthetic):
        return []
    exact = _exact_rows(train, test, synthetic)
    unit = copy_distance(train)
    natural = _natural_rates(train, test, unit)
    found = []
    for class_id in np.unique(synthetic.class_ids).tolist():
        rows = np.flatnonzero(synthetic.class_ids == class_id)
        same = exact[rows]
        gap, nearest = _gaps(synthetic.images, rows[same < 0], class_id, train, test, max(LIMITS) * unit)
        near = [np.unique(nearest[gap < limit * unit]) for limit in LIMITS]
        rates = natural[class_id]
        chances = [_chance(len(one), len(rows), rate) for one, rate in zip(near, rates, strict=True)]
        telling = int(np.argmin(chances))
        found.append(
            ClassCopies(
                synthetic.class_names[class_id],
                len(rows),
                int((same >= 0).sum()),
                tuple(near[telling].tolist()),
                tuple(np.unique(same[same >= 0]).tolist()),
                len(rows) * rates[telling],
                chances[telling],
            )
        )
    return found


def refuse_leaks(
    train: LabelledImages,
    test: LabelledImages,
    synthetic: LabelledImages,
    near_copies: Literal["refuse", "note"] = "refuse",
) -> str:
    """Refuse synthetic images that give test images away.

    Args:
        train: Real training images.
        test: The locked real test images.
        synthetic: Synthetic images; `class_id` in the index.
        near_copies: Whether too many near-copies are refused too, or told of; exact ones always are.

    Returns:
        What was looked for and found, in a sentence; empty without synthetic images.

    Raises:
        LeakError: Some are exact copies of test images and of no training image; or more are
            near-copies than real images explain, and `near_copies` is `refuse`.
        DatasetError: There are synthetic images and no training images.
    """
    found = find_copies(train, test, synthetic)
    # Look-alikes that real images explain are no evidence, and not named.
    is_chance = [one.chance >= FALSE_ALARMS / len(LIMITS) / len(found) for one in found]
    told = [
        replace(one, near_rows=()) if chance else one for one, chance in zip(found, is_chance, strict=True)
    ]
    guilty = [one for one in told if one.exact or one.near_rows]
    is_exact = any(one.exact for one in guilty)
    if is_exact or (guilty and near_copies == "refuse"):
        raise LeakError(
            [_sentence(one, test) for one in guilty],
            {one.class_name: sorted({*one.exact_rows, *one.near_rows}) for one in guilty},
            has_groups="group" in test.index and bool(test.index["group"].fillna("").ne("").any()),
            is_exact=is_exact,
        )
    if guilty:
        return (
            "Synthetic images come nearer to locked test images than real ones do, and evaluate.near_copies is "
            f"note, so that what they gain may be a leak: {'; '.join(_sentence(one, test) for one in guilty)}."
        )
    if not found:
        return ""
    return (
        f"None of the {len(synthetic):,} synthetic images is a copy of a test image, and no more of them come near "
        "one than real images do."
    )


def _exact_rows(
    train: LabelledImages, test: LabelledImages, synthetic: LabelledImages
) -> npt.NDArray[np.int64]:
    """(S,) row of the test image that each synthetic image is; -1 where it is none, or a training image too."""
    known = set(pixel_digests(train.images).tolist())
    rows = {digest: row for row, digest in enumerate(pixel_digests(test.images).tolist())}
    found = np.array(
        [
            -1 if digest in known else rows.get(digest, -1)
            for digest in pixel_digests(synthetic.images).tolist()
        ],
        np.int64,
    )
    # One colour all over is a coincidence, and gives nothing away.
    for row in np.flatnonzero(found >= 0):
        if np.ptp(synthetic.images[row]) == 0:
            found[row] = -1
    return found


def _natural_rates(
    train: LabelledImages, test: LabelledImages, unit: float
) -> Mapping[int, tuple[float, ...]]:
    """Share of real images that nearly copy another one that tests, at each of `LIMITS`, by class.

    A class of a few images tells little by itself: none is given less than all classes together.
    """
    gaps, class_ids = [], []
    for part in (train, test):
        if not len(part):
            continue
        sampled = np.sort(sampled_rows(part))
        for class_id in np.unique(part.class_ids[sampled]).tolist():
            rows = sampled[part.class_ids[sampled] == class_id]
            itself = {"itself_in_train" if part is train else "itself_in_test": rows}
            gaps.append(_gaps(part.images, rows, class_id, train, test, max(LIMITS) * unit, **itself)[0])
            class_ids.append(np.full(len(rows), class_id))
    gap, of_class = np.concatenate(gaps), np.concatenate(class_ids)
    near = np.stack([gap < limit * unit for limit in LIMITS], axis=1)
    overall = (near.sum(axis=0) + 1) / (len(near) + 1)
    rates = {}
    for class_id in range(len(train.class_names)):
        own = near[of_class == class_id]
        of_own = (own.sum(axis=0) + CAUTION) / np.maximum(1, len(own) + np.array(CAUTION))
        rates[class_id] = tuple(np.maximum(overall, of_own).tolist())
    return rates


def _gaps(
    images: Images,
    rows: ClassIds,
    class_id: int,
    train: LabelledImages,
    test: LabelledImages,
    farthest: float,
    *,
    itself_in_train: ClassIds | None = None,
    itself_in_test: ClassIds | None = None,
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """How near images come to test images of their class without coming as near to training images.

    Args:
        images: (N, H, W, C) uint8.
        rows: (R,) those of them to look at.
        class_id: Their class.
        train: Real training images.
        test: Real test images.
        farthest: Distance beyond which nothing is a near-copy.
        itself_in_train: (R,) training image that each is itself.
        itself_in_test: (R,) test image that each is itself.

    Returns:
        (R,) distance to the nearest test image, infinite where a training image is not much
        farther, and (R,) its row.
    """
    of_test, of_train = (np.flatnonzero(part.class_ids == class_id) for part in (test, train))
    gaps, nearest = np.empty(len(rows), np.float32), np.empty(len(rows), np.int64)
    for start in range(0, len(rows), BATCH):
        own = slice(start, start + BATCH)
        batch = np.asarray(images[rows[own]])
        skip = None if itself_in_test is None else itself_in_test[own]
        gap, nearest[own] = _nearest(batch, test.images, of_test, skip=skip)
        # Few are so near: only they are compared with training images too.
        at = np.flatnonzero(gap < farthest)
        skip = None if itself_in_train is None else itself_in_train[own][at]
        to_train, _ = _nearest(batch[at], train.images, of_train, skip=skip)
        gap[at[gap[at] >= NEARER * to_train]] = np.inf
        gaps[own] = gap
    return gaps, nearest


def _nearest(
    batch: Images, images: Images, rows: ClassIds, *, skip: ClassIds | None = None
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(N,) distance of each image to the nearest at `rows` of others, which may lie moved by a pixel, and its row.

    Without any the distance is infinite.
    """
    best, nearest = np.full(len(batch), np.inf, np.float32), np.full(len(batch), -1, np.int64)
    height, width = images.shape[1:3]
    block = max(1, BLOCK_PIXELS // int(np.prod(images.shape[1:])))
    for start in range(0, len(rows) if len(batch) else 0, block):
        chosen = rows[start : start + block]
        others = np.asarray(images[chosen])
        for y, x in SHIFTS:
            left, right = batch, others
            if y or x:
                left = left[:, 1:-1, 1:-1]
                right = right[:, 1 + y : height - 1 + y, 1 + x : width - 1 + x]
            distances = pairwise_distances(left, right)
            if skip is not None:
                distances[skip[:, None] == chosen] = np.inf
            column = distances.argmin(axis=1)
            closest = distances[np.arange(len(batch)), column]
            nearest = np.where(closest < best, chosen[column], nearest)
            best = np.minimum(best, closest)
    return best, nearest


def _chance(copied: int, synthetic: int, rate: float) -> float:
    from scipy.special import bdtrc

    return float(bdtrc(copied - 1, synthetic, rate))


def _sentence(found: ClassCopies, test: LabelledImages) -> str:
    """What was found in a class, with the first of the test images."""
    rows = [*found.exact_rows, *(row for row in found.near_rows if row not in found.exact_rows)]
    paths = test.index["path"].astype(str).tolist() if "path" in test.index else [""] * len(test)
    shown = ", ".join(f"{row} ({paths[row]})" if paths[row] else str(row) for row in rows[:SHOWN])
    parts = [f"{found.exact} are test images to the last pixel and no training images"] if found.exact else []
    if found.near_rows:
        parts.append(
            f"{len(found.near_rows)} test images have near-copies, where real images explain about "
            f"{found.expected:.1f}"
        )
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return (
        f"class {found.class_name!r}, {found.synthetic} synthetic images: {'; '.join(parts)}. "
        f"Rows of the test split: {shown}{more}"
    )
