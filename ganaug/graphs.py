"""A model's graphs as sessions of ONNX Runtime, once they are what the card says."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ganaug.card import GraphCard, ModelCard, graph_metadata, read_graph
from ganaug.errors import GanaugError, ModelError
from ganaug.feeds import Feed
from ganaug.latents import draw
from ganaug.runtime import (
    CUDA,
    BoundCall,
    check_ports,
    half_precision,
    open_session,
    run_into,
    runtime_errors,
)

if TYPE_CHECKING:
    # Not at run time: it brings pandas, which making images does without.
    from ganaug.dataset import Images

MAX_FP16_LEVELS = 1
"""Grey levels by which an image may change in fp16, as by export."""
_COMPARED = 64


class Graphs:
    """The graphs of a model, opened when they are first called, in each process anew.

    They can be pickled and used in forked workers. A graph's hash is checked each time it is
    opened, and the bytes that were checked are those that run.

    Attributes:
        folder: The model folder.
        card: What the model is.
    """

    def __init__(
        self,
        folder: Path,
        card: ModelCard,
        *,
        device: str,
        threads: int,
        gpu: int,
        precision: str,
        tensorrt: bool,
        cuda_graph: bool,
    ) -> None:
        self.folder, self.card = folder, card
        self._gpu, self._precision = gpu, precision
        self._options: dict[str, Any] = {"device": device, "threads": threads, "gpu": gpu}
        self._fast: dict[str, Any] = {"tensorrt": tensorrt, "cuda_graph": cuda_graph}
        self._sessions: dict[tuple[int, str], Any] = {}
        self._locks: dict[int, threading.Lock] = {}
        self._calls: dict[tuple[str, int], BoundCall] = {}

    def open(self, graph: GraphCard) -> Any:
        """The graph's session in this process.

        Raises:
            ModelError: It is missing, damaged, swapped or not one of ganaug's; or fp16 changes its images.
            DeviceError: `cuda` was asked for and is not there.
        """
        # By process: a session of the parent must not be used in a forked child, and one with
        # several threads must not be freed there either, which would wait for ever.
        process = os.getpid()
        key = (process, graph.file)
        if key not in self._sessions:
            with self._locks.setdefault(process, threading.Lock()):
                if key not in self._sessions:
                    self._sessions[key] = self._checked(graph)
        return self._sessions[key]

    def is_on_gpu(self, graph: GraphCard) -> bool:
        """Whether ONNX Runtime runs it on a GPU, which `auto` leaves to what is there."""
        return CUDA in self.open(graph).get_providers()

    def call(self, graph: GraphCard, feed: Feed) -> Images:
        """Run a graph; safe in several threads.

        Returns:
            (N, H, W, C) uint8.

        Raises:
            ModelError: It fails, or gives something else.
            DeviceError: `cuda` was asked for and is not there.
        """
        shape = (len(feed["z"]), *self.card.image_shape)
        with self._named(graph, feed):
            images = self._run(graph, feed, shape)
        if images.shape != shape:
            raise ModelError(
                f"{self.folder / graph.file} gave images of shape {images.shape}, its card says {shape}. Export it again."
            )
        return images

    def call_into(self, graph: GraphCard, feed: Feed, address: int) -> None:
        """The same into memory of the caller's, where the graph runs.

        Raises:
            ModelError: It fails.
            DeviceError: `cuda` was asked for and is not there.
        """
        shape = (len(feed["z"]), *self.card.image_shape)
        device = "cuda" if self.is_on_gpu(graph) else "cpu"
        with self._named(graph, feed):
            run_into(self.open(graph), feed, address, shape, device=device, gpu=self._gpu)

    def _run(self, graph: GraphCard, feed: Feed, shape: tuple[int, ...]) -> Images:
        session = self.open(graph)
        if not self.is_on_gpu(graph):
            images: Images = session.run(None, feed)[0]
            return images
        # Buffers of its own for each shape; one thread at a time.
        key = (graph.file, shape[0])
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            if key not in self._calls:
                self._calls[key] = BoundCall(session, feed, shape, gpu=self._gpu)
            return self._calls[key](feed)

    @contextlib.contextmanager
    def _named(self, graph: GraphCard, feed: Feed) -> Iterator[None]:
        try:
            yield
        except GanaugError:
            raise
        except runtime_errors() as error:
            classes = ", ".join(self.card.class_names[class_id] for class_id in np.unique(feed["class_id"]))
            raise ModelError(f"{self.folder / graph.file} failed on class {classes!r}: {error}") from error

    def _checked(self, graph: GraphCard) -> Any:
        name = str(self.folder / graph.file)
        content = read_graph(self.folder, graph)
        if self._precision == "fp32":
            session = open_session(content, name=name, **self._options, **self._fast)
        else:
            half = half_precision(content, name)
            # By a session of its own: one whose calls are recorded takes no other shapes.
            _compare(content, half, self.card, graph, name, self._options)
            session = open_session(half, name=name, **self._options, **self._fast)
        inputs: dict[str, tuple[str, tuple[int, ...]]] = {
            "z": ("tensor(float)", (graph.z_dim,)),
            "class_id": ("tensor(int64)", ()),
        }
        if graph.exemplar_counts is not None:
            inputs["exemplar"] = ("tensor(int64)", ())
        check_ports(name, "inputs", session.get_inputs(), inputs)
        check_ports(
            name, "outputs", session.get_outputs(), {"image": ("tensor(uint8)", self.card.image_shape)}
        )
        _check_metadata(session, self.card, graph, name)
        return session

    def __getstate__(self) -> dict[str, Any]:
        # Sessions and locks do not pickle; the other process opens its own.
        return {**vars(self), "_sessions": {}, "_locks": {}, "_calls": {}}


def _check_metadata(session: Any, card: ModelCard, graph: GraphCard, name: str) -> None:
    said = session.get_modelmeta().custom_metadata_map
    wanted = graph_metadata(
        kind=graph.kind,
        class_ids=[card.class_id(class_name) for class_name in graph.classes],
        classes=graph.classes,
        z_dim=graph.z_dim,
        exemplar_counts=graph.exemplar_counts,
        image_shape=card.image_shape,
    )
    wrong = {key: said.get(key) for key, value in wanted.items() if said.get(key) != value}
    if wrong:
        raise ModelError(
            f"{name} says of itself {wrong}, its card { ({key: wanted[key] for key in wrong}) }: "
            "graph and card do not belong together. Export the model again."
        )


def _compare(
    content: bytes, half: bytes, card: ModelCard, graph: GraphCard, name: str, options: dict[str, Any]
) -> None:
    z, exemplar = draw(0, card.class_id(graph.classes[0]), 0, _COMPARED, graph.z_dim)
    class_ids = [card.class_id(graph.classes[i % len(graph.classes)]) for i in range(_COMPARED)]
    feed: dict[str, Any] = {"z": z, "class_id": np.array(class_ids), "exemplar": exemplar}
    images = []
    for graph_bytes in (half, content):
        session = open_session(graph_bytes, name=name, **options)
        images.append(session.run(None, {port.name: feed[port.name] for port in session.get_inputs()})[0])
    levels = np.abs(images[0].astype(int) - images[1].astype(int)).max()
    if levels > MAX_FP16_LEVELS:
        raise ModelError(
            f"{name} in fp16 makes images that differ by up to {levels} grey levels, more than "
            f"{MAX_FP16_LEVELS}; use --precision fp32"
        )
