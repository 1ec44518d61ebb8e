"""Generator: class names and a seed in, uint8 images out, with ONNX Runtime alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from ganaug import store
from ganaug.card import ModelCard, card_sha256
from ganaug.errors import SettingsError, UnknownClassError
from ganaug.feeds import feed_at, feed_of_stretch, rows_by_graph
from ganaug.graphs import Graphs
from ganaug.store.signatures import Key

if TYPE_CHECKING:
    # Not at run time: it brings pandas, which making images does without.
    from ganaug.dataset import ClassIds, Images

BATCH = 64
MAX_PIXELS_PER_CALL = 2**20
"""Images of 256 px go 16 at a time: a call's maps in memory stay below some hundred MB."""


class Generator:
    """A model that makes images of classes; any sample can be made again by its index.

    Nothing is opened before the first use, in each process anew, so that a generator can be
    pickled and used in forked workers; a graph's hash is checked then.

    Attributes:
        folder: The model folder.
        card: What the model is.
        device: `auto`, `cpu` or `cuda`.
        threads: Threads of one call of ONNX Runtime; 0 means one per core.
        batch: Images per call in `sample`. The last call of a class is filled up to it, so
            that an image does not depend on how many were asked for with it.
        gpu, precision, tensorrt, cuda_graph: As it was opened with.
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
        self._graphs = Graphs(
            folder,
            card,
            device=device,
            threads=threads,
            gpu=gpu,
            precision=precision,
            tensorrt=tensorrt,
            cuda_graph=cuda_graph,
        )

    @classmethod
    def open(
        cls,
        model: Path | str,
        *,
        sha256: str | None = None,
        public_key: Key = None,
        device: str = "auto",
        threads: int = 1,
        batch: int = BATCH,
        gpu: int = 0,
        precision: str = "fp32",
        tensorrt: bool = False,
        cuda_graph: bool = False,
    ) -> Self:
        """Open a model by folder, name or address.

        Args:
            model: A model folder; or a name in the store, `digits`, `digits@3`, `digits@candidate`
                or `exported/digits`. What the working directory does not have is looked for
                among the models that come with ganaug. Or an address that fsspec knows, of a
                model folder or a model in a store; it is fetched once (see `ganaug.load`).
            sha256: Hash that `card.json` must have, as `Generator.sha256` gives it.
            public_key: Key of minisign that the card must be signed with (see `ganaug.load`);
                False: none, for models that this machine has just made.
            device: `auto` takes the GPU if there is one that works; `cpu`; `cuda`.
            threads: Threads of one call of ONNX Runtime; 0 means one per core.
            batch: Images per call in `sample`.
            gpu: Number of the GPU, where there is one.
            precision: `fp32`, or `fp16` for arithmetic that a GPU does twice as fast.
            tensorrt: Run through TensorRT.
            cuda_graph: On a GPU, record the first call of a batch size and replay it. For one batch
                size alone; networks that have to go to the CPU in between cannot be recorded.

        Raises:
            MissingExtraError: An address, or a signature, needs packages that are not installed.
            ModelError: There is no such model, its card is damaged, it is another one than
                `sha256` says, or it is not signed as it must be.
        """
        folder = store.resolve(model, sha256=sha256, public_key=public_key)
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

    @property
    def sha256(self) -> str:
        """Hash of the model's card, which holds the hashes of its graphs: names the whole model."""
        return card_sha256(self.folder)

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

    def sample_at(
        self,
        classes: str | Sequence[str],
        indices: Sequence[int] | npt.NDArray[np.int64],
        *,
        seed: int = 0,
        truncation: float = 1.0,
    ) -> Images:
        """Make the images at any addresses, in any order: image i is index i of class i.

        Args:
            classes: A class name for all, or one for each of `indices`.
            indices: (N,) indices, each from 0 to 2^62 - 1.
            seed: With model, class, index and truncation it determines every image.
            truncation: Scale of the latents; below 1 images are more typical, less varied.

        Returns:
            (N, H, W, C) uint8, the same images as `sample` makes there.

        Raises:
            UnknownClassError: A class that the model cannot make.
            ModelError: A graph that is missing, damaged or not one of ganaug's.
            DeviceError: `cuda` was asked for and is not there.
            SettingsError: An index or the seed cannot be used, or there is not a class for each index.
        """
        names, where = self._addresses(classes, indices, truncation)
        images = np.empty((len(names), *self.image_shape), np.uint8)
        size = self.batch_size(self.batch)
        for graph, rows in rows_by_graph(self.card, names):
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                # One size on a GPU: buffers and recorded calls are kept for each.
                whole = np.resize(part, size) if self._graphs.is_on_gpu(graph) else part
                own = [names[row] for row in whole]
                feed = feed_at(self.card, graph, own, where[whole], seed, truncation)
                images[part] = self._graphs.call(graph, feed)[: len(part)]
        return images

    def sample_into(
        self,
        address: int,
        classes: str | Sequence[str],
        indices: Sequence[int] | npt.NDArray[np.int64],
        *,
        seed: int = 0,
        truncation: float = 1.0,
    ) -> npt.NDArray[np.int64]:
        """Make the images at any addresses in memory of the caller's, on the device that they are made on.

        Nothing is copied: ONNX Runtime writes where `address` points, as a tensor's `data_ptr()`.

        Args:
            address: Where (N, H, W, C) uint8 have room, contiguous; on the GPU where `is_on_gpu()`.
            classes: As in `sample_at`.
            indices: As in `sample_at`.
            seed: As in `sample_at`.
            truncation: As in `sample_at`.

        Returns:
            (N,) int64: the image that was asked for at this position lies in this row. Images of one
            graph lie together.

        Raises:
            UnknownClassError, ModelError, DeviceError, SettingsError: As `sample_at`.
        """
        names, where = self._addresses(classes, indices, truncation)
        position, done, image_bytes = np.empty(len(names), np.int64), 0, math.prod(self.image_shape)
        size = self.batch_size(max(len(names), 1))
        for graph, rows in rows_by_graph(self.card, names):
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                own = [names[row] for row in part]
                feed = feed_at(self.card, graph, own, where[part], seed, truncation)
                self._graphs.call_into(graph, feed, address + done * image_bytes)
                position[part] = np.arange(done, done + len(part))
                done += len(part)
        return position

    def stream(
        self,
        batch_size: int = 64,
        classes: str | Sequence[str] | Mapping[str, float] | None = None,
        *,
        seed: int = 0,
        start: int = 0,
        batches: int | None = None,
        part: int = 0,
        parts: int = 1,
        truncation: float = 1.0,
    ) -> Iterator[tuple[Images, ClassIds]]:
        """Batches of labelled images without end, for any framework that takes numpy arrays.

        Batch b is the same whatever was read before it. Its labels are drawn; its image at position i is
        index b * batch_size + i of its class, so that no image comes twice and each can be made again.

        Args:
            batch_size: Images of a batch.
            classes: Class names; with shares, as `{"3": 2, "8": 1}`; nothing: all, each as often.
            seed: Another one gives other labels and other images.
            start: First batch, to go on with a stream.
            batches: How many batches; nothing: without end.
            part: Which batches, of `parts`: every `parts`-th from `start + part` on, for several workers.
            parts: Into how many the stream is dealt out.
            truncation: Scale of the latents.

        Returns:
            Pairs of images (batch_size, H, W, C) uint8 and class ids (batch_size,) int64; a class
            id is a position in `card.class_names`.

        Raises:
            UnknownClassError: A class that the model cannot make.
            SettingsError: A number or share that cannot be used.
        """
        from ganaug.streaming import stream

        return stream(
            self.sample_at,
            self.card,
            batch_size,
            self.class_names if classes is None else classes,
            seed=seed,
            start=start,
            batches=batches,
            part=part,
            parts=parts,
            truncation=truncation,
        )

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
        feed = feed_of_stretch(self.card, graph, class_name, start, size, seed, truncation)
        return self._graphs.call(graph, feed)

    def check(self) -> None:
        """Open every graph now, rather than at its first use.

        Raises:
            ModelError: A graph is missing, damaged or not one of ganaug's.
            DeviceError: `cuda` was asked for and is not there.
        """
        for graph in self.card.graphs:
            self._graphs.open(graph)

    def is_on_gpu(self, class_name: str | None = None) -> bool:
        """Whether ONNX Runtime runs on a GPU, which `auto` leaves to what is there.

        Args:
            class_name: Opens the graph of this class, rather than the first.
        """
        graph = self.card.graphs[0] if class_name is None else self.card.graph_for(class_name)
        return self._graphs.is_on_gpu(graph)

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

    def _addresses(
        self,
        classes: str | Sequence[str],
        indices: Sequence[int] | npt.NDArray[np.int64],
        truncation: float,
    ) -> tuple[list[str], npt.NDArray[np.int64]]:
        where = np.asarray(indices, np.int64).reshape(-1)
        names = [classes] * len(where) if isinstance(classes, str) else list(classes)
        if len(names) != len(where):
            raise SettingsError(
                [f"sample_at: {len(names)} classes for {len(where)} indices; wanted is one each"]
            )
        self._check(names, [1] * len(names), truncation)
        return names, where

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
