"""What a graph is fed with: latents, class ids and exemplars, by the addresses of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ganaug.card import GraphCard, ModelCard
from ganaug.latents import draw, draw_at

Feed = dict[str, npt.NDArray[Any]]


def feed_of_stretch(
    card: ModelCard, graph: GraphCard, class_name: str, start: int, size: int, seed: int, truncation: float
) -> Feed:
    """What makes the images of a class from index `start` on."""
    class_id = card.class_id(class_name)
    z, exemplar = draw(seed, class_id, start, size, graph.z_dim, _exemplars(graph, class_name))
    return _feed(graph, z * np.float32(truncation), np.full(size, class_id), exemplar)


def feed_at(
    card: ModelCard,
    graph: GraphCard,
    names: Sequence[str],
    indices: npt.NDArray[np.int64],
    seed: int,
    truncation: float,
) -> Feed:
    """What makes image `indices[i]` of class `names[i]`, for each i."""
    own = np.array(names)
    z = np.empty((len(own), graph.z_dim), np.float32)
    class_ids, exemplar = np.empty(len(own), np.int64), np.empty(len(own), np.int64)
    for name in dict.fromkeys(names):
        mine = np.flatnonzero(own == name)
        class_ids[mine] = class_id = card.class_id(name)
        z[mine], exemplar[mine] = draw_at(seed, class_id, indices[mine], graph.z_dim, _exemplars(graph, name))
    return _feed(graph, z * np.float32(truncation), class_ids, exemplar)


def rows_by_graph(card: ModelCard, names: Sequence[str]) -> Iterator[tuple[GraphCard, npt.NDArray[np.int64]]]:
    """Which of the named images each graph makes: one call can make several classes."""
    graphs = {name: card.graph_for(name) for name in dict.fromkeys(names)}
    files = np.array([graphs[name].file for name in names])
    for graph in {graph.file: graph for graph in graphs.values()}.values():
        yield graph, np.flatnonzero(files == graph.file)


def _exemplars(graph: GraphCard, class_name: str) -> int:
    counts = graph.exemplar_counts
    return 1 if counts is None else counts[graph.classes.index(class_name)]


def _feed(
    graph: GraphCard,
    z: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int64],
    exemplar: npt.NDArray[np.int64],
) -> Feed:
    feed: Feed = {"z": z, "class_id": class_ids}
    return feed if graph.exemplar_counts is None else {**feed, "exemplar": exemplar}
