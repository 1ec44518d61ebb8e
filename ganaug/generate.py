"""Generator: class names and a seed in, uint8 images out, with ONNX Runtime alone."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ganaug import store
from ganaug.card import GraphCard, ModelCard, graph_metadata, read_graph
from ganaug.errors import ModelError, SettingsError, UnknownClassError
from ganaug.latents import draw
from ganaug.runtime import CUDA, BoundCall, check_ports, half_precision, open_session, runtime_errors

if TYPE_CHECKING:
    # Not at run time: it brings pandas, which making images does without.
    from ganaug.dataset import Images

BATCH = 64
MAX_FP16_LEVELS = 1
"""Grey levels by which an image may change in fp16, as by export."""
MAX_PIXELS_PER_CALL = 2**20
"""Images of 256 px go 16 at a time: a call's maps in memory stay below some hundred MB."""


class Generator:
    """A model that makes images of classes; any sample can be made again by its index.

    Sessions of ONNX Runtime are opened at the first use, in each process anew, so that a
    generator can be pickled and used in forked workers. A graph's hash is checked each time
    it is opened, and the bytes that were checked are those that run.

    Attributes:
        folder: The model folder.
        card: What the model is.
        device: `auto`, `cpu` or `cuda`.
        threads: Threads of one call of ONNX Runtime; 0 means one per core.
        batch: Images per call in `sample`. The last call of a class is filled up to it, so
            that an image does not depend on how many were asked for with it.
        gpu: Number of the GPU, where there is one.
        precision: `fp32`, or `fp16` for arithmetic that a GPU does twice as fast.
        tensorrt: Run through TensorRT.
        cuda_graph: On a GPU, record the first call of a batch size and replay it. For one batch size
            alone; networks that have to go to the CPU in between cannot be recorded.
    """

    def __init__(
        self,
        folder: Path,
        card: ModelCard,
        *,
        device: str = "auto",
        threads: int = 1,
        batch: int = BATCH,
        gpu: int = 0,
        precision: str = "fp32",
        tensorrt: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        if device not in {"auto", "cpu", "cuda"} or threads < 0 or batch < 1:
            raise SettingsError(
                [
                    f"Generator: device {device!r}, threads {threads}, batch {batch}; "
                    "device is auto, cpu or cuda, threads at least 0, batch at least 1"
                ]
            )
        self.folder, self.card = folder, card
        self.device, self.threads, self.batch = device, threads, batch
        self.gpu, self.precision, self.tensorrt, self.cuda_graph = gpu, precision, tensorrt, cuda_graph
        self._sessions: dict[tuple[int, str], Any] = {}
        self._locks: dict[int, threading.Lock] = {}
        self._calls: dict[tuple[str, int], BoundCall] = {}

    @classmethod
    def open(
        cls,
        model: Path | str,
        *,
        device: str = "auto",
        threads: int = 1,
        batch: int = BATCH,
        gpu: int = 0,
        precision: str = "fp32",
        tensorrt: bool = False,
        cuda_graph: bool = False,
    ) -> Self:
        """Open a model by folder or by name.

        Args:
            model: A model folder; or a name in the store, `digits`, `digits@3` or
                `exported/digits`. What the working directory does not have is looked for
                among the models that come with ganaug.
            device: `auto` takes the GPU if there is one that works; `cpu`; `cuda`.
            threads: Threads of one call of ONNX Runtime; 0 means one per core.
            batch: Images per call in `sample`.
            gpu: Number of the GPU, where there is one.
            precision: `fp32` or `fp16`.
            tensorrt: Run through TensorRT.
            cuda_graph: On a GPU, record the first call and replay it.

        Raises:
            ModelError: There is no such model, or its card is damaged.
        """
        folder = store.resolve(model)
        return cls(
            folder,
            ModelCard.load(folder),
            device=device,
            threads=threads,
            batch=batch,
            gpu=gpu,
            precision=precision,
            tensorrt=tensorrt,
            cuda_graph=cuda_graph,
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that it can make, in the order of their ids."""
        return self.card.makes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.card.image_shape

    def model_sha256(self, class_name: str) -> str:
        """Hash of the graph that makes a class.

        Raises:
            UnknownClassError: No graph makes it.
        """
        return self.card.graph_for(class_name).sha256

    def sample(
        self,
        classes: str | Sequence[str],
        count: int | Sequence[int] = 16,
        *,
        seed: int = 0,
        start: int = 0,
        truncation: float = 1.0,
    ) -> Images:
        """Make images of one class, or of several, one class after the other.

        Args:
            classes: A class name, or several; a name that comes again goes on where it ended.
            count: Images of each class; one number, or one for each of `classes`.
            seed: With model, class, index and truncation it determines every image.
            start: Index of the first image of each class.
            truncation: Scale of the latents; below 1 images are more typical, less varied.

        Returns:
            (N, H, W, C) uint8.

        Raises:
            UnknownClassError: A class that the model cannot make.
            ModelError: A graph that is missing, damaged or not one of ganaug's.
            DeviceError: `cuda` was asked for and is not there.
            SettingsError: A count, seed or start that cannot be used.
        """
        names = [classes] if isinstance(classes, str) else list(classes)
        counts = [int(count)] * len(names) if isinstance(count, (int, np.integer)) else list(count)
        self._check(names, counts, truncation)
        images = np.empty((sum(counts), *self.image_shape), np.uint8)
        nexts, row = Counter(dict.fromkeys(names, start)), 0
        size = self.batch_size(self.batch)
        for name, number in zip(names, counts, strict=True):
            for done in range(0, number, size):
                part = min(size, number - done)
                made = self.make_batch(name, nexts[name] + done, seed=seed, truncation=truncation, size=size)
                images[row : row + part] = made[:part]
                row += part
            nexts[name] += number
        return images

    def batch_size(self, wanted: int) -> int:
        """Images per call: what is wanted, less for large images."""
        height, width, _ = self.image_shape
        return max(1, min(wanted, MAX_PIXELS_PER_CALL // (height * width)))

    def make_batch(
        self, class_name: str, start: int, *, seed: int, truncation: float = 1.0, size: int = BATCH
    ) -> Images:
        """Make `size` images of a class in one call of ONNX Runtime; safe in several threads.

        Returns:
            (size, H, W, C) uint8, the images at `start` and after it.

        Raises:
            UnknownClassError: The model cannot make the class.
            ModelError: Its graph is missing, damaged or not one of ganaug's.
            DeviceError: `cuda` was asked for and is not there.
        """
        graph = self.card.graph_for(class_name)
        class_id = self.card.class_id(class_name)
        counts = graph.exemplar_counts
        exemplars = 1 if counts is None else counts[graph.classes.index(class_name)]
        z, exemplar = draw(seed, class_id, start, size, graph.z_dim, exemplars)
        feed: dict[str, Any] = {
            "z": z * np.float32(truncation),
            "class_id": np.full(size, class_id, np.int64),
        }
        if counts is not None:
            feed["exemplar"] = exemplar
        session = self._session(graph)
        try:
            images: Images = self._run(session, graph, feed, size)
        except runtime_errors() as error:
            raise ModelError(f"{self.folder / graph.file} failed on class {class_name!r}: {error}") from error
        if images.shape != (size, *self.image_shape):
            raise ModelError(
                f"{self.folder / graph.file} gave images of shape {images.shape}, its card says "
                f"{(size, *self.image_shape)}. Export it again."
            )
        return images

    def check(self) -> None:
        """Open every graph now, rather than at its first use.

        Raises:
            ModelError: A graph is missing, damaged or not one of ganaug's.
            DeviceError: `cuda` was asked for and is not there.
        """
        for graph in self.card.graphs:
            self._session(graph)

    def is_on_gpu(self) -> bool:
        """Whether ONNX Runtime runs on a GPU, which `auto` leaves to what is there."""
        return _is_on_gpu(self._session(self.card.graphs[0]))

    def _check(self, names: Sequence[str], counts: Sequence[int], truncation: float) -> None:
        unknown = set(names) - set(self.class_names)
        if unknown:
            raise UnknownClassError(unknown, self.class_names, self.card.name)
        if len(counts) != len(names) or min(counts, default=0) < 0 or not 0 < truncation <= 1:
            raise SettingsError(
                [
                    f"sample: {len(names)} classes with counts {list(counts)} and truncation {truncation}; wanted is "
                    "a count of at least 0 for each class, and a truncation above 0 and up to 1"
                ]
            )

    def _run(self, session: Any, graph: GraphCard, feed: dict[str, Any], size: int) -> Images:
        if not _is_on_gpu(session):
            images: Images = session.run(None, feed)[0]
            return images
        # Buffers of its own for each shape; one thread at a time.
        key = (graph.file, size)
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            if key not in self._calls:
                self._calls[key] = BoundCall(session, feed, (size, *self.image_shape), gpu=self.gpu)
            return self._calls[key](feed)

    def _session(self, graph: GraphCard) -> Any:
        # By process: a session of the parent must not be used in a forked child, and one with
        # several threads must not be freed there either, which would wait for ever.
        process = os.getpid()
        key = (process, graph.file)
        if key not in self._sessions:
            with self._locks.setdefault(process, threading.Lock()):
                if key not in self._sessions:
                    self._sessions[key] = self._open(graph)
        return self._sessions[key]

    def _open(self, graph: GraphCard) -> Any:
        name = str(self.folder / graph.file)
        content = read_graph(self.folder, graph)
        session = self._open_as_asked(content, graph, name)
        inputs: dict[str, tuple[str, tuple[int, ...]]] = {
            "z": ("tensor(float)", (graph.z_dim,)),
            "class_id": ("tensor(int64)", ()),
        }
        if graph.exemplar_counts is not None:
            inputs["exemplar"] = ("tensor(int64)", ())
        check_ports(name, "inputs", session.get_inputs(), inputs)
        check_ports(name, "outputs", session.get_outputs(), {"image": ("tensor(uint8)", self.image_shape)})
        said = session.get_modelmeta().custom_metadata_map
        wanted = graph_metadata(
            kind=graph.kind,
            class_ids=[self.card.class_id(name) for name in graph.classes],
            classes=graph.classes,
            z_dim=graph.z_dim,
            exemplar_counts=graph.exemplar_counts,
            image_shape=self.card.image_shape,
        )
        wrong = {key: said.get(key) for key, value in wanted.items() if said.get(key) != value}
        if wrong:
            raise ModelError(
                f"{name} says of itself {wrong}, its card { ({key: wanted[key] for key in wrong}) }: "
                "graph and card do not belong together. Export the model again."
            )
        return session

    def _open_as_asked(self, content: bytes, graph: GraphCard, name: str) -> Any:
        options: dict[str, Any] = {"device": self.device, "threads": self.threads, "gpu": self.gpu}
        fast = {**options, "tensorrt": self.tensorrt, "cuda_graph": self.cuda_graph}
        if self.precision == "fp32":
            return open_session(content, name=name, **fast)
        # Compared first by a session of its own: one whose calls are recorded takes no other shapes.
        half = open_session(half_precision(content, name), name=name, **options)
        z, exemplar = draw(0, self.card.class_id(graph.classes[0]), 0, BATCH, graph.z_dim)
        class_ids = [self.card.class_id(graph.classes[i % len(graph.classes)]) for i in range(BATCH)]
        feed = {"z": z, "class_id": np.array(class_ids), "exemplar": exemplar}
        feed = {port.name: feed[port.name] for port in half.get_inputs()}
        full = open_session(content, name=name, **options)
        levels = np.abs(half.run(None, feed)[0].astype(int) - full.run(None, feed)[0].astype(int)).max()
        if levels > MAX_FP16_LEVELS:
            raise ModelError(
                f"{name} in fp16 makes images that differ by up to {levels} grey levels, more than "
                f"{MAX_FP16_LEVELS}; use --precision fp32"
            )
        return open_session(half_precision(content, name), name=name, **fast)

    def __getstate__(self) -> dict[str, Any]:
        # Sessions and locks do not pickle; the other process opens its own.
        return {**vars(self), "_sessions": {}, "_locks": {}, "_calls": {}}

    def __repr__(self) -> str:
        return f"<Generator {self.card.label}: {len(self.class_names)} classes, {self.image_shape}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: samples of each class, and what the card says."""
        from ganaug.notebook import model_html

        return model_html(self.card, self._first)

    def _first(self, class_name: str, count: int) -> Images:
        """The first images of a class, in as few rows as there can be."""
        # A recorded graph takes one batch size alone.
        size = self.batch_size(self.batch) if self.cuda_graph else count
        return self.make_batch(class_name, 0, seed=0, size=size)[:count]


def _is_on_gpu(session: Any) -> bool:
    return CUDA in session.get_providers()
