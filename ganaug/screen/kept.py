"""What was kept so far of a class: which images would be copies of it, which clusters are full."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ganaug.screen.looks import CODE_BYTES, Bools, Codes, Floats
from ganaug.screen.threads import one_faiss_thread

BLOCK = 4096
"""Codes compared one by one; then they move into the inverted file, all at once."""
GROWTH = 8
"""The inverted file is made anew each time that it would hold so many times more codes."""
LISTS = 4.0
"""Its lists, times the root of the number of codes that it is made from."""
PROBES = 8
"""Lists looked into for each image; `tests/screen/test_kept.py` measures what is found."""
TRAINED_ON = 32
"""Codes per list that its centres are found from."""
ROUNDS = 8
"""Rounds of k-means for the centres."""
START = 16
"""Images that every cluster may hold before its quota counts."""


class KeptCodes:
    """Codes of the images kept, and the question whether another image copies one of them.

    The newest (up to `BLOCK`) are compared exactly, older ones through an inverted file that
    is filled and made anew at fixed numbers of kept images: an answer depends on what was kept
    before and in which order, never on batches. 32 bytes per kept image, and what the lists
    keep free to grow: 40 to 64 in all.

    Source:
        Inverted files: Jegou, Douze, Schmid 2011, doi:10.1109/TPAMI.2010.57, section IV,
        without its product quantiser: codes of 24 bytes are stored as they are.
    """

    def __init__(self, threshold: float) -> None:
        """Begin with nothing kept.

        Args:
            threshold: Codes nearer than this, in code units, are of copies; 0 for none.
        """
        self.threshold = threshold
        self.count = 0
        self._recent = np.empty((BLOCK, CODE_BYTES), np.int8)
        self._filed: Any = None
        self._filed_from = 0

    def near(self, codes: Codes) -> Bools:
        """(N,) whether each of (N, CODE_BYTES) codes is that of a copy of something kept."""
        found = near_any(codes, self._recent[: self.count % BLOCK], self.threshold)
        if self._filed is not None and len(codes):
            rows = np.flatnonzero(~found)
            with one_faiss_thread():
                squares, _ = self._filed.search(codes[rows].astype(np.float32), 1)
            found[rows] = squares[:, 0] < self.threshold**2
        return found

    def add(self, codes: Codes) -> None:
        """Keep (N, CODE_BYTES) codes, in order."""
        if self.threshold <= 0:
            return
        while len(codes):
            start = self.count % BLOCK
            part = codes[: BLOCK - start]
            self._recent[start : start + len(part)] = part
            self.count += len(part)
            codes = codes[len(part) :]
            if self.count % BLOCK == 0:
                self._file()

    @property
    def room(self) -> int:
        """Codes that can be kept before older ones move into the inverted file."""
        return BLOCK - self.count % BLOCK

    def _file(self) -> None:
        """Move the recent codes into the inverted file; make it anew when it has grown enough."""
        with one_faiss_thread():
            if self.count >= GROWTH * self._filed_from:
                # At 4,096 codes, 32,768, 262,144 and so on.
                self._filed_from = self.count
                self._filed = _inverted_file([*_codes_in(self._filed), self._recent])
            else:
                self._filed.add(self._recent.astype(np.float32))


class Quota:
    """Keeps any cluster of a class from taking more than its share, times a factor.

    A cluster that holds share s of the real images may hold max(16, factor s n) of the first n
    images kept.
    """

    def __init__(self, shares: npt.NDArray[np.float64], factor: float) -> None:
        """Begin with nothing kept.

        Args:
            shares: (K,) share of each cluster among the real images.
            factor: How many times that is allowed; 0 allows everything.
        """
        self._allowed = (shares * factor).tolist() if factor else [1.0] * len(shares)
        self._counts = [0] * len(shares)
        self._total = 0

    def has_room(self, cluster: int) -> bool:
        """Whether one more image of a cluster may be kept now."""
        return self._counts[cluster] + 1 <= max(START, self._allowed[cluster] * (self._total + 1))

    def add(self, cluster: int, number: int = 1) -> None:
        """Count images of a cluster as kept."""
        self._counts[cluster] += number
        self._total += number


def near_any(codes: Codes, others: Codes, threshold: float) -> Bools:
    """(N,) whether any of the other codes is nearer than a threshold, in code units.

    Whole numbers in single precision: exact, and so the same in any batch.
    """
    if not len(others) or not len(codes):
        return np.zeros(len(codes), dtype=bool)
    a, b = codes.astype(np.float32), others.astype(np.float32)
    closest = nearness(a, b).max(axis=1)
    return np.asarray(np.einsum("nd,nd->n", a, a) - 2 * closest < threshold**2)


def near_pairs(codes: Codes, threshold: float) -> dict[int, list[int]]:
    """Of each code that is nearer than a threshold to earlier ones of the same batch, those earlier ones.

    >>> codes = np.zeros((3, CODE_BYTES), np.int8)
    >>> codes[1] = 9
    >>> near_pairs(codes, 1.0)
    {2: [0]}
    """
    a = codes.astype(np.float32)
    squares = np.einsum("nd,nd->n", a, a)[:, None] - 2 * nearness(a, a)
    pairs: dict[int, list[int]] = {}
    for later, before in np.argwhere(np.tril(squares < threshold**2, -1)).tolist():
        pairs.setdefault(later, []).append(before)
    return pairs


def nearness(a: Floats, b: Floats) -> Floats:
    """(N, M) a·b - b²/2: largest where b is nearest; a² minus twice that is the squared distance."""
    near: Floats = a @ b.T
    near -= np.einsum("nd,nd->n", b, b) / np.float32(2)
    return near


def _inverted_file(blocks: list[Codes]) -> Any:
    import faiss

    count = sum(map(len, blocks))
    lists = round(LISTS * count**0.5)
    filed = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatL2(CODE_BYTES), CODE_BYTES, lists, faiss.ScalarQuantizer.QT_8bit_direct_signed
    )
    # Distances to the codes themselves, not to what is left of them beside their centre.
    filed.by_residual = False
    filed.cp.seed, filed.cp.niter, filed.cp.min_points_per_centroid = 1, ROUNDS, 1
    filed.cp.max_points_per_centroid = TRAINED_ON
    sample = np.concatenate([block[:: max(1, count // (lists * TRAINED_ON))] for block in blocks])
    filed.train(sample.astype(np.float32))
    filed.nprobe = PROBES
    for block in blocks:
        filed.add(block.astype(np.float32))
    return filed


def _codes_in(filed: Any) -> list[Codes]:
    """The codes in an inverted file, block by block: it holds the only copy."""
    starts = range(0, 0 if filed is None else filed.ntotal, BLOCK)
    return [filed.reconstruct_n(start, BLOCK).astype(np.int8) for start in starts]
