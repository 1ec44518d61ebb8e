"""Rows of a table before the GANs: each feature as its place in the distribution, from -1 to 1.

A row of d features is to the networks an image of one pixel with d channels, and never uint8:
256 levels are plenty for a pixel and too few for a price. Everything else is as with images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from ganaug.dataset import ClassIds, LabelledImages
from ganaug.training.games import Reals
from ganaug.training.networks import NETWORKS
from ganaug.training.networks.conditioning import ConditionalGenerator, ExemplarGenerator, NetworkSpec

MOST_KNOTS = 10_000
"""Rows of each class that the distribution of a feature is taken from."""

Table = npt.NDArray[np.float64]


class Ranks:
    """Each feature's place in its distribution, and back: robust against outliers and any scale.

    Every class weighs the same in the distribution, however few rows it has: otherwise a rare
    class that lies far from the others would be squeezed into the last thousandth of the scale,
    and the least error of a generator would carry its samples over to the others.

    A value that comes more than once owns a stretch of the scale: zeros, counts and categories
    come back exactly. Values that come once are joined by straight lines. What comes back lies
    between the smallest and the largest value, and is whole where all values of the feature are.

    Args:
        rows: (N, d) finite values.
        class_ids: (N,) classes of the rows.
        seed: Chooses the rows where a class has more than `MOST_KNOTS`.
    """

    def __init__(self, rows: Table, class_ids: ClassIds, seed: int = 0) -> None:
        chosen = _thinned(class_ids, np.random.default_rng(seed))
        _, positions, counts = np.unique(class_ids[chosen], return_inverse=True, return_counts=True)
        weights = 1.0 / (len(counts) * counts[positions])
        self.features = [_Feature(column, weights) for column in rows[chosen].T]
        self.is_whole = np.array([bool((column == np.rint(column)).all()) for column in rows.T])

    def places(self, rows: Table) -> npt.NDArray[np.float32]:
        """(N, d) values to (N, d) places in [-1, 1]."""
        columns = [feature.place(column) for feature, column in zip(self.features, rows.T, strict=True)]
        return np.stack(columns, axis=1).astype(np.float32)

    def values(self, places: npt.NDArray[np.float32]) -> Table:
        """(N, d) places in [-1, 1] to (N, d) values."""
        columns = [feature.value(column) for feature, column in zip(self.features, places.T, strict=True)]
        values: Table = np.stack(columns, axis=1)
        return np.where(self.is_whole, np.rint(values), values)


class _Feature:
    """The weighted distribution of one feature, as knots between places and values."""

    def __init__(self, column: Table, weights: Table) -> None:
        self.known, positions, counts = np.unique(column, return_inverse=True, return_counts=True)
        upper = np.cumsum(np.bincount(positions, weights))
        lower = np.concatenate([[0.0], upper[:-1]])
        self.middles, is_tie = (lower + upper) / 2, counts > 1
        places = np.concatenate([self.middles[~is_tie], lower[is_tie], upper[is_tie]])
        values = np.concatenate([self.known[~is_tie], self.known[is_tie], self.known[is_tie]])
        order = np.lexsort((values, places))
        self.knot_places, self.knot_values = places[order], values[order]

    def place(self, column: Table) -> Table:
        places: Table = 2.0 * np.interp(column, self.known, self.middles) - 1.0
        return places

    def value(self, places: npt.NDArray[np.float32]) -> Table:
        shares = (places.astype(np.float64) + 1.0) / 2.0
        values: Table = np.interp(shares, self.knot_places, self.knot_values)
        return values


class RowReals(Reals):
    """Real rows on the device, as float32 places; drawn by class like real images.

    Args:
        places: (N, d) float32 in [-1, 1].
        class_ids: (N,) classes of the rows.
        device: Where they go.
    """

    def __init__(self, places: npt.NDArray[np.float32], class_ids: ClassIds, device: str) -> None:
        index = pd.DataFrame({"class_id": class_ids})
        # The order by class is that of images; the pixels are put in afterwards, as float32.
        super().__init__(LabelledImages(np.empty((len(places), 1, 1, 1), np.uint8), index, ()), device)
        self.images = torch.from_numpy(places)[:, None, None, :].to(device)

    def take(self, rows: Tensor) -> Tensor:
        """(n, d, 1, 1) float32 in [-1, 1], the rows at these row numbers."""
        return self.images[rows].permute(0, 3, 1, 2).contiguous()


class RowExemplars(ExemplarGenerator):
    """An exemplar-conditional generator whose exemplars are rows: all of each class, as float32."""

    def forward(self, z: Tensor, class_id: Tensor, exemplar: Tensor) -> Tensor:  # type: ignore[override]
        """(N, z_dim), (N,) class ids and (N,) numbers of exemplars to (N, d, 1, 1) in [-1, 1]."""
        rows: Tensor = self.core(z, self.exemplars[self.starts[self.positions[class_id]] + exemplar])
        return rows


def finish_row_generator(spec: NetworkSpec, core: nn.Module, reals: RowReals) -> ConditionalGenerator:
    """Put the class ids, and a pair GAN's exemplars, before a trained core.

    Args:
        spec: The core's.
        core: The trained generator's average; moved to the CPU.
        reals: Where the exemplars come from.
    """
    core = core.cpu()
    if NETWORKS[spec.network].kind == "class-conditional":
        return ConditionalGenerator(spec, core).eval()
    exemplars = [reals.of_class(position).cpu() for position in range(len(spec.class_ids))]
    generator = RowExemplars(replace(spec, exemplar_counts=tuple(map(len, exemplars))), core)
    generator.exemplars = torch.cat(exemplars)
    return generator.eval()


def _thinned(class_ids: ClassIds, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Row numbers of all classes, at most `MOST_KNOTS` of each."""
    own: Sequence[npt.NDArray[np.int64]] = [
        np.flatnonzero(class_ids == class_id) for class_id in np.unique(class_ids)
    ]
    kept = [rows if len(rows) <= MOST_KNOTS else rng.choice(rows, MOST_KNOTS, replace=False) for rows in own]
    return np.concatenate(kept)
