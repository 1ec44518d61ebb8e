"""Distances between images by their pixels: root mean square differences, pixels in 0..1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds, Images, LabelledImages
from ganaug.errors import DatasetError

AUTO_SHARE = 0.35
"""`auto`: the copy distance as a share of the typical distance between real neighbours."""
AUTO_SAMPLE = 2000
"""Real images that the typical distance is taken from."""
BATCH = 512
"""Images whose nearest real ones are asked for together: flat memory, however many there are."""
NO_NEIGHBOURS = 0.02
"""The copy distance where no class has two real images."""
SHIFT_FROM_PX = 16
"""In smaller images one pixel is no small shift."""

Floats = npt.NDArray[np.float32]


def copy_distance(real: LabelledImages) -> float:
    """The distance below which two images count as copies, from the real images themselves.

    Real images of one class that are each other's nearest neighbours are the closest that
    different images come; a synthetic image much closer than they typically are is a copy.

    Args:
        real: Real training images.

    Returns:
        `AUTO_SHARE` of the median distance from a real image to its nearest neighbour of the
        same class: root mean square difference of pixels in 0..1.

    Raises:
        DatasetError: There are no real images.
    """
    rows = sampled_rows(real)
    nearest = neighbour_distances(flat(real.images[rows]), real.class_ids[rows])
    pixels = np.sqrt(np.prod(real.images.shape[1:]))
    return float(AUTO_SHARE * np.median(nearest) / pixels) if len(nearest) else NO_NEIGHBOURS


def sampled_rows(real: LabelledImages) -> ClassIds:
    """Rows of up to `AUTO_SAMPLE` real images, always the same ones.

    Raises:
        DatasetError: There are no real images.
    """
    if not len(real):
        raise DatasetError("screening needs real training images to compare with, and there are none")
    return np.random.default_rng(0).permutation(len(real))[:AUTO_SAMPLE]


def neighbour_distances(vectors: Floats, class_ids: ClassIds) -> Floats:
    """(M,) distance of each vector to its nearest neighbour of the same class, class by class.

    Args:
        vectors: (N, D); Euclidean distances are taken.
        class_ids: (N,) classes; those with a single vector give nothing.
    """
    nearest = [np.empty(0, np.float32)]
    for class_id in np.unique(class_ids):
        own = vectors[class_ids == class_id]
        if len(own) > 1:
            distances = euclidean(own, own)
            np.fill_diagonal(distances, np.inf)
            nearest.append(distances.min(axis=1))
    return np.concatenate(nearest)


def pairwise_distances(left: Images, right: Images) -> Floats:
    """(N, M) root mean square differences between two sets of uint8 images, pixels in 0..1.

    >>> black, white = np.zeros((1, 8, 8, 1), np.uint8), np.full((1, 8, 8, 1), 255, np.uint8)
    >>> pairwise_distances(black, white).tolist()
    [[1.0]]
    """
    a, b = flat(left), flat(right)
    return euclidean(a, b) / np.float32(np.sqrt(a.shape[1]))


def euclidean(a: Floats, b: Floats) -> Floats:
    """(N, M) distances between (N, D) and (M, D) vectors."""
    squares: Floats = squared(a)[:, None] + squared(b)[None, :] - 2 * (a @ b.T)
    # Rounding can take the square of a tiny distance below zero.
    return np.sqrt(np.maximum(squares, 0))


def squared(vectors: Floats) -> Floats:
    """(N,) squared lengths of (N, D) vectors."""
    squares: Floats = np.einsum("nd,nd->n", vectors, vectors)
    return squares


def flat(images: Images) -> Floats:
    """(N, D) float32 pixels in 0..1 of (N, H, W, C) uint8 images."""
    return images.reshape(len(images), int(np.prod(images.shape[1:]))).astype(np.float32) / np.float32(255)


def matched(left: Images, right: Images, y: int = 0, x: int = 0) -> Floats:
    """(N,) distances of images to others of the same number, which may lie moved.

    Args:
        left: (N, H, W, C) uint8.
        right: (N, H, W, C) uint8.
        y: Rows, -1 to 1, by which what `left` shows lies higher than in `right`.
        x: Columns, likewise.
    """
    if y or x:
        height, width = left.shape[1:3]
        left = left[:, 1:-1, 1:-1]
        right = right[:, 1 + y : height - 1 + y, 1 + x : width - 1 + x]
    size = int(np.prod(left.shape[1:]))
    gap = left.reshape(len(left), size).astype(np.float32)
    gap -= right.reshape(len(right), size)
    distances: Floats = np.sqrt(squared(gap) / np.float32(max(1, size))) / np.float32(255)
    return distances


SHIFTS = tuple((y, x) for y in (0, -1, 1) for x in (0, -1, 1))
"""(rows, columns) by which a copy may lie moved; none comes first."""


class RealNeighbours:
    """Finds the nearest real image of each synthetic one, and whether it is that image moved a little.

    By pixels alone and without any preparation; `copies.RealCopies` is the fast one.
    """

    SHORTLIST = 3
    """Real images that are compared again with small shifts; comparing all would cost nine times as much."""
    BLOCK = 8192
    """Real images whose distances are held at a time."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __call__(self, batch: Images) -> tuple[Floats, ClassIds]:
        """Nearest real images.

        Args:
            batch: (N, H, W, C) uint8.

        Returns:
            (N,) distances, root mean square of pixels in 0..1, and (N,) rows of the real images.
        """
        distances = np.empty((len(batch), 0), np.float32)
        rows = np.empty((len(batch), 0), np.int64)
        for start in range(0, len(self.images), self.BLOCK):
            block = pairwise_distances(batch, self.images[start : start + self.BLOCK])
            distances = np.concatenate([distances, block], axis=1)
            numbers = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
            rows = np.concatenate([rows, numbers], axis=1)
            order = np.argpartition(distances, min(self.SHORTLIST, distances.shape[1]) - 1, axis=1)
            order = order[:, : self.SHORTLIST]
            distances = np.take_along_axis(distances, order, axis=1)
            rows = np.take_along_axis(rows, order, axis=1)
        if min(batch.shape[1:3]) >= SHIFT_FROM_PX:
            for column in range(rows.shape[1]):
                found = self.images[rows[:, column]]
                for y, x in SHIFTS[1:]:
                    distances[:, column] = np.minimum(distances[:, column], matched(batch, found, y, x))
        best = distances.argmin(axis=1)[:, None]
        return np.take_along_axis(distances, best, 1)[:, 0], np.take_along_axis(rows, best, 1)[:, 0]
