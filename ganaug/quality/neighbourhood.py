"""How two sets of feature vectors lie among each other, by their nearest neighbours.

Distances are Euclidean, in float64, and held a block at a time: memory stays flat however many
vectors there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ganaug.errors import DatasetError

BLOCK = 2**21
"""Distances that are held at a time: 16 MiB."""
_ROUNDING = 1e-12
"""Squared distances below this share of the largest squared length are rounding, so 0."""

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Neighbourhood:
    """How synthetic vectors lie among real ones.

    Attributes:
        k: Neighbours that the balls reach to.
        precision: Share of synthetic vectors among the real ones: is what is made realistic?
        recall: Share of real vectors among the synthetic ones: is all that is real made?
        density: As precision, counting every real ball that holds a vector; above 1 where the
            synthetic vectors crowd where the real ones do.
        coverage: Share of real vectors that have a synthetic one near.
    """

    k: int
    precision: float
    recall: float
    density: float
    coverage: float


def compare(real: Vectors, synthetic: Vectors, k: int = 5) -> Neighbourhood:
    """Measure precision, recall, density and coverage.

    With X the N real and Y the M synthetic vectors, and r_k(v) the distance from v to the k-th
    nearest other vector of its own set:

    - precision = 1/M * #{j: some i has |Y_j - X_i| <= r_k(X_i)}
    - recall = 1/N * #{i: some j has |Y_j - X_i| <= r_k(Y_j)}
    - density = 1/(k M) * #{(i, j): |Y_j - X_i| <= r_k(X_i)}
    - coverage = 1/N * #{i: some j has |Y_j - X_i| <= r_k(X_i)}

    Args:
        real: (N, D).
        synthetic: (M, D).
        k: At least 1, and less than N and M.

    Raises:
        DatasetError: There are not more than `k` vectors in each set.

    Source:
        Precision and recall: Kynkaanniemi et al. 2019, eq. 1 and 2, arXiv:1904.06991.
        Density and coverage: Naeem et al. 2020, eq. 2 and 3, arXiv:2002.09797.

    >>> line = np.arange(6.0)[:, None]
    >>> compare(line, line, k=1)
    Neighbourhood(k=1, precision=1.0, recall=1.0, density=2.6666666666666665, coverage=1.0)
    >>> compare(line, line[:2], k=1).recall
    0.5
    """
    real_reach, synthetic_reach = _squared_reach(real, k), _squared_reach(synthetic, k)
    precise = n_inside = 0
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for start, squares in _blocks(synthetic, real):
        is_inside = squares <= real_reach
        precise += int(is_inside.any(axis=1).sum())
        n_inside += int(is_inside.sum())
        covered |= is_inside.any(axis=0)
        recalled |= (squares <= synthetic_reach[start : start + len(squares), None]).any(axis=0)
    return Neighbourhood(
        k,
        precision=precise / len(synthetic),
        recall=float(recalled.mean()),
        density=n_inside / (k * len(synthetic)),
        coverage=float(covered.mean()),
    )


def kth_distances(vectors: Vectors, k: int) -> Floats:
    """Distance from each vector to its k-th nearest other one.

    Args:
        vectors: (N, D).
        k: 1 is the nearest; less than N.

    Returns:
        (N,) distances.

    Raises:
        DatasetError: There are not more than `k` vectors, or `k` is below 1.

    >>> kth_distances(np.array([[0.0], [1.0], [3.0]]), 1).tolist()
    [1.0, 1.0, 2.0]
    """
    reach: Floats = np.sqrt(_squared_reach(vectors, k))
    return reach


def nearest_distances(vectors: Vectors, others: Vectors) -> Floats:
    """Distance from each vector to the nearest of others.

    Args:
        vectors: (N, D).
        others: (M, D).

    Returns:
        (N,) distances; NaN where there are no others.

    >>> nearest_distances(np.array([[0.0], [5.0]]), np.array([[1.0], [3.0]])).tolist()
    [1.0, 2.0]
    """
    nearest = np.full(len(vectors), np.nan)
    if len(others):
        for start, squares in _blocks(vectors, others):
            nearest[start : start + len(squares)] = np.sqrt(squares.min(axis=1))
    return nearest


def _squared_reach(vectors: Vectors, k: int) -> Floats:
    if not 1 <= k < len(vectors):
        raise DatasetError(
            f"the {k}-th nearest neighbour was asked for among {len(vectors)} vectors; k goes from 1 to one "
            "less than there are. Take a smaller k, or more images."
        )
    reach = np.empty(len(vectors))
    for start, squares in _blocks(vectors, vectors):
        rows = np.arange(len(squares))
        squares[rows, start + rows] = np.inf
        reach[start : start + len(squares)] = np.partition(squares, k - 1, axis=1)[:, k - 1]
    return reach


def _blocks(left: Vectors, right: Vectors) -> Iterator[tuple[int, Floats]]:
    """Yield the first row of each block of `left`, and its (n, M) squared distances to `right`."""
    # Around their centre, so that the difference of large squares loses no digits.
    centre = right.mean(axis=0, dtype=np.float64)
    a, b = left - centre, right - centre
    a_squares, b_squares = np.einsum("nd,nd->n", a, a), np.einsum("nd,nd->n", b, b)
    zero = _ROUNDING * max(a_squares.max(initial=0.0), b_squares.max(initial=0.0))
    size = max(1, BLOCK // len(right))
    for start in range(0, len(left), size):
        stop = start + size
        squares: Floats = a[start:stop] @ b.T
        squares *= -2.0
        squares += a_squares[start:stop, None]
        squares += b_squares
        squares[squares <= zero] = 0.0
        yield start, squares
