"""Images that must not be parted: exact copies, frames of one burst, crops of one photograph.

A copy of a test image in training makes every score look good. `find_duplicates` joins exact
copies at once and looks for near-duplicates in two ways (`likeness`: as wholes; `keypoints`: in
part). How alike is too alike is read off the data: pairs that cannot be duplicates, because their
classes differ, show what resemblance is worth here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganaug.dataset import Images
from ganaug.progress import Progress, silent
from ganaug.split.likeness import (
    FINE_PX,
    THUMB_PX,
    Pairs,
    Rows,
    Scores,
    alike_tiny,
    alike_whole,
    thumbnails,
    unique_pairs,
)

TINY_PX = 16
_TINY_LIKENESS = 0.995
# Expected share of false pairs among the accepted ones that is put up with: a false pair costs a
# little freedom of the split, a missed one a leak.
_FALSE_SHARE = 0.1
# Unrelated images of one class are more alike than those of two classes, which are counted.
_CLASS_FACTOR = 3.0
_LIMITS = np.arange(0.6, 0.86, 0.05)
_MIN_GREY = 0.75
_LARGE_SHARE = 0.25
_LARGE_IMAGES = 20


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        sets: (N,) int64; images of one set share a number, an image without duplicates has -1.
        exact: (N,) int64; the same for exact copies alone.
        pairs: (P, 2) int64 near-duplicate pairs that were accepted.
        limits: The resemblance asked for, per way of search.
    """

    sets: Rows
    exact: Rows
    pairs: Pairs
    limits: dict[str, float]

    @property
    def set_count(self) -> int:
        """Number of sets."""
        return len(np.unique(self.sets[self.sets >= 0]))

    @property
    def image_count(self) -> int:
        """Images that are in a set."""
        return int((self.sets >= 0).sum())


def components(count: int, pairs: Pairs) -> Rows:
    """(count,) int64 component of each row, when each of (P, 2) `pairs` joins two rows.

    Examples:
        >>> components(4, np.array([[0, 2]])).tolist()
        [0, 1, 0, 2]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(links, directed=False)
    return np.asarray(labels, np.int64)


def join_equal(keys: npt.NDArray[np.generic]) -> Pairs:
    """(P, 2) pairs that chain the rows with equal keys; empty text keys join nothing."""
    _, codes = np.unique(keys, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    is_same = codes[order][1:] == codes[order][:-1]
    if keys.dtype.kind in "UO":
        is_same &= keys[order][1:] != ""
    pairs: Pairs = np.stack([order[:-1], order[1:]], axis=1)[is_same].astype(np.int64)
    return pairs


def exact_pairs(images: Images, sha256: npt.NDArray[np.generic]) -> Pairs:
    """(P, 2) pairs of equal files or equal pixels."""
    return np.concatenate(
        [join_equal(np.asarray(sha256, dtype=object).astype(str)), join_equal(pixel_digests(images))]
    )


def pixel_digests(images: Images) -> npt.NDArray[np.str_]:
    """(N,) hash of each image's pixels."""
    return np.array(
        [
            hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).hexdigest()
            for image in images
        ],
        np.str_,
    )


def find_duplicates(
    images: Images,
    class_ids: Rows,
    sha256: npt.NDArray[np.generic],
    *,
    previews: Images | None = None,
    shapes_px: Rows | None = None,
    near: bool = True,
    progress: Progress = silent,
) -> Duplicates:
    """Join exact copies and, if wanted, near-duplicates into sets.

    Args:
        images: (N, H, W, C) uint8.
        class_ids: (N,) int64.
        sha256: (N,) hash of each encoded file.
        previews: (N, 96, 96) uint8 grey larger copies, when the originals are larger than `images`.
        shapes_px: (N, 2) height and width of the originals.
        near: Search for near-duplicates as well.
        progress: Told of the images compared.
    """
    count = len(images)
    copies = exact_pairs(images, sha256)
    accepted, limits = np.empty((0, 2), np.int64), dict[str, float]()
    # Of exact copies one is searched with: the others would fill its list of neighbours.
    rows = np.unique(components(count, copies), return_index=True)[1]
    if near and len(rows) > 2:
        views = (images if previews is None else previews)[rows]
        labels = class_ids[rows]
        chosen = []
        for way, scores in _alike(views, None if shapes_px is None else shapes_px[rows]):
            progress(len(rows) // 2, count)
            limits[way], pairs = _accepted(scores, labels, is_tiny=min(views.shape[1:3]) < TINY_PX)
            chosen.append(pairs)
        accepted = rows[_without_chains(_joined(chosen), labels)]
    progress(count, count)
    return Duplicates(
        _in_sets(components(count, np.concatenate([copies, accepted]))),
        _in_sets(components(count, copies)),
        accepted,
        limits,
    )


def near_duplicates_of(
    known: tuple[Images, Rows], others: tuple[Images, Rows], limits: Mapping[str, float]
) -> npt.NDArray[np.bool_]:
    """Which images are near-duplicates of known ones.

    Args:
        known: (N, H, W[, C]) uint8, previews where there are some, and the (N, 2) height and width
            of their originals.
        others: The same for (M, H, W[, C]) images.
        limits: The resemblance asked for, per way of search, as `find_duplicates` found it.

    Returns:
        (M,) whether one of `others` is a near-duplicate of any of `known`.
    """
    count = len(known[0])
    views, shapes_px = np.concatenate([known[0], others[0]]), np.concatenate([known[1], others[1]])
    is_near = np.zeros(len(views), bool)
    for way, scores in _alike(views, shapes_px, known=count):
        is_near[scores.pairs[_passes(scores, limits[way])]] = True
    return is_near[count:]


def _alike(views: Images, shapes_px: Rows | None, known: int = 0) -> Iterator[tuple[str, Scores]]:
    """Pairs worth judging, way by way; with `known`, of an image and one of the first so many."""
    from ganaug.split.keypoints import alike_in_part

    if min(views.shape[1:3]) < TINY_PX:
        yield "whole", alike_tiny(views, known=known)
        return
    fine = thumbnails(views, FINE_PX) if min(views.shape[1:3]) >= FINE_PX else None
    yield "whole", alike_whole(thumbnails(views, THUMB_PX), fine, known=known)
    yield "part", alike_in_part(views, shapes_px, known=known)


def _in_sets(labels: Rows) -> Rows:
    """Components of one image become -1, the others are numbered from 0."""
    is_shared = np.bincount(labels)[labels] > 1
    sets = np.full(len(labels), -1, np.int64)
    sets[is_shared] = np.unique(labels[is_shared], return_inverse=True)[1]
    return sets


def _accepted(scores: Scores, class_ids: Rows, *, is_tiny: bool) -> tuple[float, Scores]:
    """The limit that the data ask for, and the pairs that reach it."""
    if is_tiny:
        reaches = scores.grey >= _TINY_LIKENESS
        return _TINY_LIKENESS, _take(scores, reaches)
    limit = _limit(scores, class_ids)
    return limit, _take(scores, _passes(scores, limit))


def _limit(scores: Scores, class_ids: Rows) -> float:
    """Lowest detail correlation at which few of the accepted pairs are expected to be unrelated.

    Two counts tell how many unrelated pairs pass a limit. Pairs of two classes are unrelated, and
    the others pass by chance as often, per candidate, up to a factor. And of pairs that are alike
    by chance (round cells) as many match turned or flipped as upright, while frames of one burst
    match upright. Known groups are not asked: one slide photographed twice is two groups, and its
    copies are what is looked for.
    """
    left, right = scores.pairs.T
    is_unrelated = class_ids[left] != class_ids[right]
    ratio = min(1.0, (~is_unrelated).sum() / max(1, is_unrelated.sum()) * _CLASS_FACTOR)
    for limit in _LIMITS:
        passes = _passes(scores, limit)
        accepted = passes & ~is_unrelated
        by_class = (passes & is_unrelated).sum() * ratio
        by_pose = (accepted & scores.is_turned).sum()
        if max(by_class, by_pose) <= _FALSE_SHARE * accepted.sum():
            return float(limit)
    return float(_LIMITS[-1])


def _passes(scores: Scores, limit: float) -> npt.NDArray[np.bool_]:
    # Contrast and light may differ between frames, the scene's coarse light and dark may not.
    passes: npt.NDArray[np.bool_] = (scores.detail >= limit) & (scores.grey >= _MIN_GREY)
    return passes


def _take(scores: Scores, chosen: npt.NDArray[np.bool_]) -> Scores:
    return Scores(scores.pairs[chosen], scores.grey[chosen], scores.detail[chosen], scores.is_turned[chosen])


def _joined(parts: list[Scores]) -> Scores:
    return Scores(
        np.concatenate([part.pairs for part in parts]),
        np.concatenate([part.grey for part in parts]),
        np.concatenate([part.detail for part in parts]),
        np.concatenate([part.is_turned for part in parts]),
    )


def _without_chains(scores: Scores, class_ids: Rows) -> Pairs:
    """The pairs, less the weak ones of sets that hold most of a class: those are chains.

    A set that swallows a quarter of a class is cut at higher limits until it falls apart; where it
    holds together at 0.85 its images really are one another's copies, and it stays.
    """
    is_kept = np.ones(len(scores.pairs), bool)
    for limit in _LIMITS:
        labels = components(len(class_ids), scores.pairs[is_kept])
        large = [number for number, _, _ in large_sets(labels, class_ids)]
        if not large:
            break
        is_kept &= ~np.isin(labels[scores.pairs[:, 0]], large) | (scores.detail >= limit)
    return unique_pairs(scores.pairs[is_kept])


def large_sets(sets: Rows, class_ids: Rows) -> list[tuple[int, int, int]]:
    """Sets that hold more than a quarter of some class of at least 20 images.

    Args:
        sets: (N,) number of each image's set; -1: of none.
        class_ids: (N,) classes of the images.

    Returns:
        Of each the set, the class and how many images of the class it holds.

    >>> large_sets(np.array([0] * 6 + [-1] * 14), np.zeros(20, np.int64))
    [(0, 0, 6)]
    """
    counts, inside = np.bincount(class_ids), sets >= 0
    keys, sizes = np.unique(sets[inside] * len(counts) + class_ids[inside], return_counts=True)
    numbers, classes = np.divmod(keys, len(counts))
    is_large = (sizes > _LARGE_SHARE * counts[classes]) & (counts[classes] >= _LARGE_IMAGES)
    return [
        (int(one), int(two), int(size))
        for one, two, size in zip(numbers[is_large], classes[is_large], sizes[is_large], strict=True)
    ]
