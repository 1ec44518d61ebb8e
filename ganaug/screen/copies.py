"""Copies of real images, found by code and proved by pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds, Images
from ganaug.screen.codes import ROUNDING
from ganaug.screen.kept import nearness
from ganaug.screen.looks import Codes
from ganaug.screen.pixels import SHIFTS, Floats, matched

SHORTLIST = 4
"""Real images, nearest by code, that an image may be a copy of."""
BLOCK = 8192
"""Real images whose codes are compared at a time."""


class RealCopies:
    """Finds the real image that each synthetic one is nearest to, and whether it is that one moved a little.

    The nearest by code is always compared pixel by pixel; the next ones only where the codes are so
    near that it can be a copy. From 16 px on, those moved by a pixel are compared where the codes
    are nearer than those of real neighbours are.
    """

    def __init__(
        self, images: Images, codes: Codes, step: float, min_distance: float, typical_code: float
    ) -> None:
        """Prepare.

        Args:
            images: (N, H, W, C) uint8 real images.
            codes: (N, S, CODE_BYTES), theirs, as they are and moved (`codes.shifted_codes`).
            step: Length of a difference of pixels in 0..1 that one code unit stands for.
            min_distance: What is nearer, in root mean square of pixels, is a copy.
            typical_code: Distance of codes between real neighbours, in code units.
        """
        self.images, self._codes = images, codes
        self._plain = codes[:, 0].astype(np.float32)
        pixels = float(np.prod(images.shape[1:]))
        limits = np.full(codes.shape[1], typical_code)
        # No two codes are farther apart than their images, but for rounding. For moved images
        # there is no such bound: what came in at the edge is unknown.
        limits[0] = min_distance * np.sqrt(pixels) / step + ROUNDING
        self._possible = np.where(min_distance > 0, limits**2, -1.0)

    def __call__(self, batch: Images, codes: Codes) -> tuple[Floats, ClassIds]:
        """Nearest real images.

        Args:
            batch: (N, H, W, C) uint8.
            codes: (N, CODE_BYTES) int8, theirs.

        Returns:
            (N,) distances, root mean square of pixels in 0..1, and (N,) rows of the real
            images: the least of those compared. For what is no copy it is an upper bound of
            the least of all, and near it: at most the distance to the nearest by code.
        """
        if not len(batch):
            return np.empty(0, np.float32), np.empty(0, np.int64)
        shortlist = self._shortlist(codes)
        nearest = shortlist[:, 0].copy()
        distance = matched(batch, self.images[nearest])
        gaps = self._codes[shortlist].astype(np.float32) - codes[:, None, None]
        squares = np.einsum("nksd,nksd->nks", gaps, gaps)
        possible = squares < self._possible
        possible[:, 0, 0] = False
        if squares.shape[2] > 1:
            # Of the ways in which a real image can lie moved, the two that the codes speak for.
            moved = squares[:, :, 1:]
            possible[:, :, 1:] &= moved <= np.partition(moved, 1, axis=2)[:, :, 1:2]
        for column, number in np.ndindex(possible.shape[1:]):
            at = np.flatnonzero(possible[:, column, number])
            if len(at):
                found = shortlist[at, column]
                gap = matched(batch[at], self.images[found], *SHIFTS[number])
                closer = gap < distance[at]
                distance[at[closer]], nearest[at[closer]] = gap[closer], found[closer]
        return distance, nearest

    def _shortlist(self, codes: Codes) -> npt.NDArray[np.int64]:
        """(N, SHORTLIST) rows of the real images that are nearest by code, the nearest first."""
        wanted = codes.astype(np.float32)
        best = np.empty((len(codes), 0), np.float32)
        rows = np.empty((len(codes), 0), np.int64)
        for start in range(0, len(self._plain), BLOCK):
            near = nearness(wanted, self._plain[start : start + BLOCK])
            every = np.arange(len(codes))
            for _ in range(min(SHORTLIST, near.shape[1])):
                column = near.argmax(axis=1)
                best = np.column_stack([best, near[every, column]])
                rows = np.column_stack([rows, column + start])
                near[every, column] = -np.inf
            order = np.argsort(-best, axis=1, kind="stable")[:, :SHORTLIST]
            best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
        return rows
