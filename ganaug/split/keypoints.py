"""Overlapping crops and shifted, zoomed or turned frames, found by their keypoints.

Candidates are images that share visual words (quantised SIFT descriptors, weighted by rarity);
each is judged by fitting a similarity transform to the matched keypoints, laying one image over
the other and correlating them where they overlap.

Source:
    Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94; Sivic and Zisserman 2003,
    doi:10.1109/ICCV.2003.1238663; Fischler and Bolles 1981, doi:10.1145/358669.358692.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ganaug.cores import cores
from ganaug.dataset import Images
from ganaug.split.likeness import FINE_SCALE, Floats, Pairs, Scores, blocks, detail_of, to_grey, unique_pairs

VIEW_PX = 64
_KEYPOINTS = 32
_WORDS = 2048
_MIN_MATCHES = 5
_MIN_INLIERS = 5
_MIN_OVERLAP = 0.25
_MAX_POLISH_PX = 6.0
_CHUNK = 512


@dataclass(frozen=True)
class Keypoints:
    """The keypoints of all images, one after another.

    Attributes:
        descriptors: (M, 128) uint8 SIFT.
        places: (M, 2) float32 x and y, in px of the 64 px view.
        starts: (N + 1,) int64; image i has the rows from starts[i] to starts[i + 1].
    """

    descriptors: npt.NDArray[np.uint8]
    places: Floats
    starts: npt.NDArray[np.int64]

    def of(self, row: int) -> tuple[Floats, Floats]:
        """Unit-length descriptors (k, 128) and places (k, 2) of one image."""
        own = slice(self.starts[row], self.starts[row + 1])
        return _rooted(self.descriptors[own]), self.places[own]


def _rooted(descriptors: npt.NDArray[np.uint8]) -> Floats:
    """Square roots of descriptors that sum to one: their dot product is the Hellinger kernel."""
    values = descriptors.astype(np.float32)
    return np.asarray(np.sqrt(values / (values.sum(axis=1, keepdims=True) + 1e-6)), np.float32)


def view(image: Images) -> Images:
    """(64, 64) uint8 grey view of one (H, W) or (H, W, C) image."""
    import cv2

    grey = to_grey(image[None])[0]
    way = cv2.INTER_AREA if min(grey.shape) > VIEW_PX else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(grey, (VIEW_PX, VIEW_PX), interpolation=way), np.uint8)


def _describe(images: Images) -> list[tuple[npt.NDArray[np.uint8], Floats]]:
    import cv2

    # The low contrast threshold lets smooth images (cells, skies) have keypoints at all.
    sift: Any = cv2.SIFT_create(_KEYPOINTS, nOctaveLayers=2, contrastThreshold=0.01, edgeThreshold=20)  # type: ignore[attr-defined]
    found = []
    for image in images:
        points, descriptors = sift.detectAndCompute(view(image), None)
        points = points[:_KEYPOINTS]
        places = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
        values = np.zeros((0, 128), np.uint8) if descriptors is None else descriptors[:_KEYPOINTS]
        found.append((values.astype(np.uint8), places))
    return found


def find_keypoints(images: Images) -> Keypoints:
    """Up to 32 keypoints of each of (N, H, W[, C]) uint8 images; about 1 ms an image and core."""
    parts = list(blocks(len(images), 256))
    # OpenCV works outside Python's lock, so threads use all cores.
    with ThreadPoolExecutor(cores()) as pool:
        described = list(pool.map(lambda part: _describe(np.asarray(images[part])), parts))
    found = [one for part in described for one in part]
    starts = np.concatenate([[0], np.cumsum([len(places) for _, places in found])]).astype(np.int64)
    return Keypoints(
        np.concatenate([descriptors for descriptors, _ in found]),
        np.concatenate([places for _, places in found]),
        starts,
    )


def shared_word_pairs(points: Keypoints, neighbours: int, known: int = 0) -> Pairs:
    """(P, 2) each image with those that share most, and the rarest, visual words with it.

    When the first `known` images are given as known, each of the rest with those of them.
    """
    from scipy import sparse

    count, total = len(points.starts) - 1, len(points.descriptors)
    if total < 50 or count < 2:
        return np.empty((0, 2), np.int64)
    words = _quantise(points.descriptors)
    owners = np.repeat(np.arange(count), np.diff(points.starts))
    table = sparse.csr_matrix((np.ones(total, np.float32), (owners, words)), shape=(count, _WORDS))
    table.data = np.sqrt(table.data)
    rarity = np.log((1 + count) / (1 + np.asarray((table > 0).sum(axis=0)).ravel())).astype(np.float32)
    table = table @ sparse.diags(rarity)
    length = np.sqrt(np.asarray(table.multiply(table).sum(axis=1)).ravel()) + 1e-6
    table = (sparse.diags((1 / length).astype(np.float32)) @ table).tocsr()
    across, pairs = table[: known or count].T.tocsr(), []
    for block in blocks(count - known, _CHUNK):
        start = known + block.start
        alike = (table[start : known + block.stop] @ across).toarray()
        rows = np.arange(len(alike))
        if not known:
            alike[rows, rows + start] = 0
        for _ in range(min(neighbours, known or count - 1)):
            # A few sweeps for the maximum beat a partial sort of so long a row.
            best = alike.argmax(axis=1)
            is_any = alike[rows, best] > 0
            pairs.append(np.stack([rows + start, best], axis=1)[is_any])
            alike[rows, best] = 0
    return unique_pairs(np.concatenate(pairs))


def _quantise(descriptors: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(M,) visual word of each descriptor; the words are k-means centres of a sample."""
    from sklearn.cluster import MiniBatchKMeans

    sample = np.linspace(0, len(descriptors) - 1, min(len(descriptors), 20_000)).astype(np.int64)
    words = min(_WORDS, max(8, len(sample) // 10))
    means = MiniBatchKMeans(words, batch_size=4096, max_iter=5, n_init=1, init="random", random_state=0)
    centres = means.fit(_rooted(descriptors[sample])).cluster_centers_.astype(np.float32)
    half_square = (centres**2).sum(axis=1) / 2
    return np.concatenate(
        [
            (_rooted(descriptors[block]) @ centres.T - half_square).argmax(axis=1)
            for block in blocks(len(descriptors), 8192)
        ]
    )


def alike_in_part(
    images: Images,
    shapes_px: npt.NDArray[np.int64] | None = None,
    neighbours: int = 5,
    *,
    known: int = 0,
) -> Scores:
    """Scores of the pairs of which a part looks alike; pairs that no transform fits are left out.

    Args:
        images: (N, H, W[, C]) uint8; previews where there are some.
        shapes_px: (N, 2) height and width of the originals: previews are stretched, and the
            stretch is undone before a similarity transform is fitted.
        neighbours: Candidates per image.
        known: When given, the images after so many first ones are compared with those alone.
    """
    points = find_keypoints(images)
    pairs = shared_word_pairs(points, neighbours, known)
    # Larger images have finer detail to compare; small ones were blown up to the view.
    scale = FINE_SCALE if min(images.shape[1:3]) >= VIEW_PX else None
    shapes = np.full((len(images), 2), VIEW_PX) if shapes_px is None else shapes_px
    stretch = np.asarray(shapes[:, ::-1] / VIEW_PX, np.float32)

    def judge(block: slice) -> list[tuple[float, float]]:
        return [_judge(images, points, stretch, scale, int(left), int(right)) for left, right in pairs[block]]

    with ThreadPoolExecutor(cores()) as pool:
        scores = [score for part in pool.map(judge, blocks(len(pairs), _CHUNK)) for score in part]
    table = np.array(scores, np.float32).reshape(-1, 2)
    fits = table[:, 1] > -1
    return Scores(pairs[fits], table[fits, 0], table[fits, 1], np.zeros(int(fits.sum()), bool))


_NO_FIT = (-1.0, -1.0)


def _judge(
    images: Images, points: Keypoints, stretch: Floats, scale: float | None, left: int, right: int
) -> tuple[float, float]:
    """Correlations of grey and detail where two images overlap; -1 when no transform fits."""
    transform = _fit(points, stretch, left, right)
    if transform is None:
        return _NO_FIT
    base, moved = view(np.asarray(images[left])), view(np.asarray(images[right]))
    score = _laid_over(base, moved, transform, scale)
    if score == _NO_FIT or score[1] > 0.8 or score[0] < 0.3:
        return score
    return max(
        score, _laid_over(base, moved, _refined(base, moved, transform), scale), key=lambda pair: pair[1]
    )


def _fit(points: Keypoints, stretch: Floats, left: int, right: int) -> Floats | None:
    """(2, 3) transform from the right view to the left one, or None."""
    import cv2

    (left_words, left_at), (right_words, right_at) = points.of(left), points.of(right)
    if min(len(left_words), len(right_words)) < _MIN_MATCHES:
        return None
    likeness = left_words @ right_words.T
    best = likeness.argmax(axis=1)
    is_mutual = likeness.argmax(axis=0)[best] == np.arange(len(best))
    matched = np.flatnonzero(is_mutual & (likeness.max(axis=1) > 0.75))
    if len(matched) < _MIN_MATCHES:
        return None
    source, target = right_at[best[matched]] * stretch[right], left_at[matched] * stretch[left]
    # 2 px of the view, in px of the original.
    slack = 2.0 * float(stretch[left].mean())
    found, inliers = cv2.estimateAffinePartial2D(
        source, target, ransacReprojThreshold=slack, maxIters=300, confidence=0.99
    )
    if found is None or int(inliers.sum()) < _MIN_INLIERS:
        return None
    return _between_views(np.asarray(found, np.float32), stretch[left], stretch[right])


def _between_views(found: Floats, left: Floats, right: Floats) -> Floats | None:
    """The transform in px of the stretched views; None when it shrinks or grows beyond belief."""
    scale = float(np.hypot(found[0, 0], found[1, 0]))
    relative = scale * float(np.sqrt(right.prod() / left.prod()))
    if not 0.4 < relative < 2.5:
        return None
    whole = np.diag(1 / left) @ found @ np.diag([*right, 1.0])
    return np.asarray(whole, np.float32)


def _refined(base: Images, moved: Images, transform: Floats) -> Floats:
    """The transform after enhanced-correlation alignment, or as it was when that does not converge.

    Source:
        Evangelidis and Psarakis 2008, doi:10.1109/TPAMI.2008.113.
    """
    import cv2

    backward = cv2.invertAffineTransform(transform)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-3)
    try:
        _, better = cv2.findTransformECC(base, moved, backward.astype(np.float32), cv2.MOTION_AFFINE, stop)
    except cv2.error:
        return transform
    refined = np.asarray(cv2.invertAffineTransform(better), np.float32)
    # It may only polish: a free affine map lays any dark outline over any other.
    corners = np.array([[0, 0, 1], [VIEW_PX, 0, 1], [0, VIEW_PX, 1], [VIEW_PX, VIEW_PX, 1]], np.float32)
    moved_px = np.abs(corners @ (refined - transform).T).max()
    return refined if moved_px < _MAX_POLISH_PX else transform


def _laid_over(base: Images, moved: Images, transform: Floats, scale: float | None) -> tuple[float, float]:
    """Correlations of grey and detail where `moved`, laid over `base`, covers it."""
    import cv2

    size = (VIEW_PX, VIEW_PX)
    laid = cv2.warpAffine(moved, transform, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(np.full(base.shape, 255, np.uint8), transform, size) > 250
    if cover.mean() < _MIN_OVERLAP:
        return _NO_FIT
    return _correlation(base, laid, cover, 1.0), _correlation(
        detail_of(base, scale), detail_of(laid, scale), cover, 0.1
    )


def _correlation(
    left: npt.NDArray[np.generic],
    right: npt.NDArray[np.generic],
    cover: npt.NDArray[np.bool_],
    floor: float,
) -> float:
    first, second = left[cover].astype(np.float32), right[cover].astype(np.float32)
    first, second = first - first.mean(), second - second.mean()
    # A flat patch resembles nothing: the floor, in grey levels, keeps noise from counting.
    least = floor**2 * 0.25
    return float((first * second).mean() / np.sqrt((np.var(first) + least) * (np.var(second) + least)))
