"""How alike two images are: descriptors that find candidates, and aligned correlations that judge them.

Two images of one class are alike in their coarse shapes; two frames of one burst or two crops of
one photograph also share the fine detail, in place. So every pair gets two numbers once it is
aligned: the correlation of its grey values, and that of its detail (a band of middle frequencies,
above the shape of the thing and below noise and JPEG blocks). Unrelated images of one class reach
0.9 in the first and hardly 0.5 in the second; frames of one burst reach 0.9 in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganaug.dataset import Images

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Pairs = npt.NDArray[np.int64]

THUMB_PX = 32
FINE_PX = 64
FINE_SCALE = 1.2
_COARSE_PX = 8
_MAX_SHIFT = 1 / 8
_WORTH_A_LOOK = 0.4
_CHUNK = 2048
_CONTRAST_PX = 4.0
_FLAT_LEVELS = 3.0


@dataclass(frozen=True)
class Scores:
    """How alike the images of each pair are, after alignment.

    Attributes:
        pairs: (P, 2) int64 row numbers, the smaller first.
        grey: (P,) correlation of grey values where the two overlap, -1 to 1.
        detail: (P,) correlation of fine detail where the two overlap, -1 to 1.
        is_turned: (P,) whether one was flipped or given a quarter turn to match the other.
    """

    pairs: Pairs
    grey: Floats
    detail: Floats
    is_turned: npt.NDArray[np.bool_]


def to_grey(images: Images) -> Images:
    """(n, H, W) uint8 brightness of (n, H, W, C) or (n, H, W) images."""
    if images.ndim == 3:
        return images
    if images.shape[-1] < 3:
        return np.asarray(images[..., 0])
    weighted: Images = np.asarray(images[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) + 0.5).astype(
        np.uint8
    )
    return weighted


def thumbnails(images: Images, size_px: int = THUMB_PX) -> Images:
    """(N, size_px, size_px) uint8 grey copies; memory stays flat however large N is."""
    import cv2

    small = np.empty((len(images), size_px, size_px), np.uint8)
    for rows in blocks(len(images), 4096):
        for row, image in zip(range(rows.start, rows.stop), to_grey(np.asarray(images[rows])), strict=True):
            shrinks = min(image.shape) > size_px
            small[row] = cv2.resize(
                image, (size_px, size_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            )
    return small


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices that cover `count` rows, `size` at a time."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def detail_of(grey: npt.NDArray[np.generic], scale: float | None = None) -> Floats:
    """(H, W) float32 band of middle frequencies of one (H, W) image, at equal local contrast.

    Without the equal contrast one horizon or outline would outweigh all the rest of an image, and
    any two ships at sea would be alike. Unit: about 1 where there is detail, 0 where all is flat.

    Args:
        grey: Brightness, 0 to 255.
        scale: Coarseness of the band, in px; nothing means as coarse as in a 32 px image.
    """
    import cv2

    scale = min(grey.shape) / THUMB_PX if scale is None else scale
    image = grey.astype(np.float32)
    fine = cv2.GaussianBlur(image, (0, 0), 0.6 * scale)
    band = fine - cv2.GaussianBlur(image, (0, 0), 2.0 * scale)
    contrast = np.sqrt(cv2.GaussianBlur(band**2, (0, 0), _CONTRAST_PX * scale))
    return np.asarray(band / (contrast + _FLAT_LEVELS), np.float32)


def unit(values: npt.NDArray[np.generic], floor: float = 1.0) -> Floats:
    """(N, D) float32 rows without their mean, at unit length: brightness and contrast drop out.

    Args:
        values: (N, ...) in grey levels.
        floor: Standard deviation in grey levels below which a row counts as flat; a flat row
            comes out short, so that it resembles nothing.
    """
    flat = np.asarray(values, np.float32).reshape(len(values), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.sqrt((flat**2).sum(axis=1, keepdims=True) + floor**2 * flat.shape[1] * 0.25)
    return np.asarray(flat / length, np.float32)


def poses(images: npt.NDArray[np.generic]) -> list[npt.NDArray[np.generic]]:
    """The eight flips and quarter turns of (N, S, S) images, as views."""
    turned = images.transpose(0, 2, 1)
    return [
        pose for way in (images, turned) for pose in (way, way[:, ::-1], way[:, :, ::-1], way[:, ::-1, ::-1])
    ]


def coarse(thumbs: Images) -> Floats:
    """(N, 8, 8) float32 blurred copies: what stays the same under small shifts and noise."""
    import cv2

    small = np.empty((len(thumbs), _COARSE_PX, _COARSE_PX), np.float32)
    sigma = thumbs.shape[1] / _COARSE_PX / 2.5
    for row, thumb in enumerate(thumbs):
        blurred = cv2.GaussianBlur(thumb.astype(np.float32), (0, 0), sigma)
        small[row] = cv2.resize(blurred, (_COARSE_PX, _COARSE_PX), interpolation=cv2.INTER_AREA)
    return small


def pose_free(small: Floats) -> Floats:
    """(N, 128) float32 descriptor that flips and quarter turns leave as it is.

    A flip changes only the signs of cosine coefficients, and a transposition swaps rows and
    columns of them: magnitudes, symmetrised, see neither.
    """
    from scipy.fft import dctn

    magnitude = np.abs(dctn(unit(small).reshape(small.shape), axes=(1, 2), norm="ortho"))
    swapped = magnitude.transpose(0, 2, 1)
    both = np.concatenate([magnitude + swapped, np.abs(magnitude - swapped)], axis=1) / 2
    return np.asarray(both.reshape(len(small), -1), np.float32)


def nearest_pairs(descriptors: Floats, count: int, known: int = 0) -> Pairs:
    """(P, 2) each row with its `count` nearest others; flat memory, exact, all cores.

    When the first `known` rows are given as known, each of the rest with its nearest of those.
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(count, known or len(descriptors) - 1)
    if count < 1:
        return np.empty((0, 2), np.int64)
    index = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(descriptors[: known or None])
    neighbours = index.kneighbors(descriptors[known:] if known else None, return_distance=False)
    rows = np.repeat(np.arange(known, len(descriptors)), count)
    return unique_pairs(np.stack([rows, neighbours.ravel()], axis=1))


def unique_pairs(pairs: Pairs) -> Pairs:
    """Each pair once, the smaller row first, none with itself."""
    ordered = np.sort(pairs.astype(np.int64), axis=1)
    return np.unique(ordered[ordered[:, 0] < ordered[:, 1]], axis=0)


def alike_whole(thumbs: Images, fine: Images | None = None, neighbours: int = 5, *, known: int = 0) -> Scores:
    """Scores of the pairs that look alike as wholes: bursts, copies, flips, resized ones.

    Args:
        thumbs: (N, 32, 32) uint8.
        fine: (N, 64, 64) uint8, sharper copies where there are some: pairs that look alike at
            32 px are judged again there, for round cells are alike in all but fine detail.
        neighbours: Candidates per image and descriptor.
        known: When given, the images after so many first ones are compared with those alone.
    """
    small = coarse(thumbs)
    plain = unit(small)
    pairs = unique_pairs(
        np.concatenate(
            [nearest_pairs(plain, neighbours, known), nearest_pairs(pose_free(small), neighbours, known)]
        )
    )
    pose = _best_pose(small, plain, pairs)
    scores = _judge(thumbs, pairs, pose, None)
    if fine is not None:
        again = np.flatnonzero((scores.detail >= _WORTH_A_LOOK) & (scores.grey >= _WORTH_A_LOOK))
        closer = _judge(fine, pairs[again], pose[again], FINE_SCALE)
        scores.grey[again], scores.detail[again] = (
            closer.grey,
            np.minimum(scores.detail[again], closer.detail),
        )
    return scores


def _best_pose(small: Floats, plain: Floats, pairs: Pairs) -> Rows:
    """(P,) number of the pose of each pair's second image in which it is nearest to the first."""
    turned = [unit(pose) for pose in poses(small)]
    best = np.empty(len(pairs), np.int64)
    for block in blocks(len(pairs), 16384):
        left, right = pairs[block].T
        best[block] = np.stack([(plain[left] * pose[right]).sum(axis=1) for pose in turned]).argmax(axis=0)
    return best


def _judge(views: Images, pairs: Pairs, pose: Rows, scale: float | None) -> Scores:
    """Scores of pairs in the given pose, each at the shift that suits it."""
    used = np.unique(pairs)
    detail = np.zeros(views.shape, np.float16)
    for row in used:
        detail[row] = detail_of(views[row], scale)
    grey_score, detail_score = np.empty(len(pairs), np.float32), np.empty(len(pairs), np.float32)
    for number in range(8):
        rows = np.flatnonzero(pose == number)
        for block in blocks(len(rows), _CHUNK):
            chosen = rows[block]
            left, right = pairs[chosen].T
            grey_score[chosen], detail_score[chosen] = _shifted_match(
                views[left],
                poses(views[right])[number],
                detail[left].astype(np.float32),
                poses(detail[right])[number].astype(np.float32),
            )
    return Scores(pairs, grey_score, detail_score, pose > 0)


def _shifted_match(
    left: npt.NDArray[np.generic], right: npt.NDArray[np.generic], left_detail: Floats, right_detail: Floats
) -> tuple[Floats, Floats]:
    """Correlations of grey and of detail of (P, S, S) pairs at the shift where detail agrees best."""
    size = left.shape[1]
    down, across = _best_shift(left_detail, right_detail)
    grey, detail = np.empty(len(left), np.float32), np.empty(len(left), np.float32)
    for dy, dx in set(zip(down.tolist(), across.tolist(), strict=True)):
        rows = np.flatnonzero((down == dy) & (across == dx))
        here = (rows, *_overlap(dy, dx, size))
        there = (rows, *_overlap(-dy, -dx, size))
        # Indexing with an array first and slices after keeps (rows, height, width).
        grey[rows] = (unit(left[here]) * unit(right[there])).sum(axis=1)
        detail[rows] = (unit(left_detail[here], 0.1) * unit(right_detail[there], 0.1)).sum(axis=1)
    return grey, detail


def _overlap(dy: int, dx: int, size: int) -> tuple[slice, slice]:
    return slice(max(dy, 0), size + min(dy, 0)), slice(max(dx, 0), size + min(dx, 0))


def _best_shift(left: Floats, right: Floats) -> tuple[Rows, Rows]:
    """Shift (down, across) in px, at most an eighth, that brings `right` onto `left`."""
    from scipy.fft import irfft2, rfft2

    size = left.shape[1]
    window = np.sqrt(np.outer(np.hanning(size + 2)[1:-1], np.hanning(size + 2)[1:-1])).astype(np.float32)
    surface = irfft2(
        rfft2(left * window, workers=-1) * np.conj(rfft2(right * window, workers=-1)),
        s=(size, size),
        workers=-1,
    )
    reach = int(size * _MAX_SHIFT)
    allowed = np.r_[0 : reach + 1, size - reach : size]
    best = surface[:, allowed][:, :, allowed].reshape(len(left), -1).argmax(axis=1)
    shifts = np.where(allowed > size // 2, allowed - size, allowed)
    return shifts[best // len(allowed)], shifts[best % len(allowed)]


def alike_tiny(images: Images, neighbours: int = 5, *, known: int = 0) -> Scores:
    """Scores of the most alike pairs of images too small to hold detail: all pixels, in place.

    Both scores are the same correlation: under 16 px there is no band between shape and noise.
    """
    pixels = to_grey(images).reshape(len(images), -1)
    flat = unit(pixels)
    pairs = nearest_pairs(flat, neighbours, known)
    score = np.empty(len(pairs), np.float32)
    for block in blocks(len(pairs), 65536):
        left, right = pairs[block].T
        score[block] = (flat[left] * flat[right]).sum(axis=1)
    return Scores(pairs, score, score, np.zeros(len(pairs), bool))
