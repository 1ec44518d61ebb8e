"""Where images come from: generators, or files that something else made."""

from __future__ import annotations

import hashlib
import json
import queue
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ganaug.errors import DatasetError, GanaugError
from ganaug.formats import FORMATS
from ganaug.generate import Generator
from ganaug.places import LocalPlace
from ganaug.produce.manifest import FOLDER, PRODUCTION_FILE

if TYPE_CHECKING:
    from ganaug.dataset import Images, LabelledImages


class Source(Protocol):
    """Makes images by class and index."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""

    class_names: tuple[str, ...]
    """Every class of the dataset; the position is the class id."""
    able: tuple[str, ...]
    """Classes of which there are images."""
    trained_on: Mapping[str, int]
    """Real training images of each class, where they are known."""
    seed: int
    truncation: float
    on_gpu: bool
    """Whether a GPU makes them."""

    def sha256(self, class_name: str) -> str:
        """Hash of what makes the class."""

    def model(self, class_name: str) -> dict[str, Any]:
        """`name`, `version`, `sha256` and `verdict` of what makes the class."""

    def available(self, class_name: str) -> int | None:
        """How many images there are; None for any number."""

    def make(self, class_name: str, start: int, count: int) -> Images:
        """(count, H, W, C) uint8, the images at `start` and after it; safe in several threads."""

    def origin(self, class_name: str, start: int, count: int) -> list[str] | None:
        """Where the images lay before; None for those that are made."""


class GeneratedImages:
    """Images that a model makes.

    Args:
        lanes: Generators of the same model, each for one thread at a time: one per call that
            runs at once. On a CPU they may be one and the same.
        seed: With model, class and index it determines every image.
        truncation: Scale of the latents.
        batch: Images per call of ONNX Runtime; on a GPU shorter calls are filled up to it.
    """

    def __init__(self, lanes: Sequence[Generator], *, seed: int, truncation: float, batch: int) -> None:
        card = lanes[0].card
        self.image_shape, self.class_names = card.image_shape, card.class_names
        self.able: tuple[str, ...] = lanes[0].class_names
        self.trained_on: Mapping[str, int] = card.trained_on
        self.seed, self.truncation, self.batch = seed, truncation, lanes[0].batch_size(batch)
        self.on_gpu = lanes[0].is_on_gpu()
        self._card = card
        self._lanes: queue.SimpleQueue[Generator] = queue.SimpleQueue()
        for lane in lanes:
            self._lanes.put(lane)

    def sha256(self, class_name: str) -> str:
        """Hash of the graph that makes the class."""
        return self._card.graph_for(class_name).sha256

    def model(self, class_name: str) -> dict[str, Any]:
        """What the card says."""
        card = self._card
        return {
            "name": card.name,
            "version": card.version,
            "sha256": self.sha256(class_name),
            "verdict": card.verdict,
        }

    def available(self, class_name: str) -> int | None:  # noqa: ARG002 - a model makes any number
        """Any number."""
        return None

    def make(self, class_name: str, start: int, count: int) -> Images:
        """Make images in one call of ONNX Runtime."""
        lane = self._lanes.get()
        try:
            # Always a full batch on a GPU, which may choose its algorithms, and so the last bits, by the batch.
            size = max(self.batch, count) if self.on_gpu else count
            images = lane.make_batch(class_name, start, seed=self.seed, truncation=self.truncation, size=size)
        finally:
            self._lanes.put(lane)
        return images[:count]

    def origin(self, class_name: str, start: int, count: int) -> list[str] | None:  # noqa: ARG002
        """Nowhere."""
        return None


class FoundImages:
    """Labelled images that lie in files, in the order in which their reader lists them."""

    seed, truncation, on_gpu = 0, 1.0, False

    def __init__(self, data: LabelledImages, name: str, fingerprint: str) -> None:
        self._data, self._name, self._fingerprint = data, name, fingerprint
        height, width, channels = data.images.shape[1:]
        self.image_shape = (int(height), int(width), int(channels))
        self.class_names = data.class_names
        self._rows = {
            name: np.flatnonzero(data.class_ids == class_id) for class_id, name in enumerate(data.class_names)
        }
        self.able = tuple(name for name, rows in self._rows.items() if len(rows))
        self.trained_on: Mapping[str, int] = {}

    @classmethod
    def read(cls, path: Path, folder: Path, image_shape: tuple[int, int, int], names: Sequence[str]) -> Any:
        """Read any source that `ganaug run` reads, or a production, with the class ids of `names`.

        Args:
            path: The source; brought to the size unless it is a production of that size.
            folder: Gets the images as one array.
            image_shape: (height, width, channels) that they are brought to.
            names: Every class that may be among them; the position is the class id.

        Raises:
            DatasetError: It cannot be read, or has classes that `names` lacks.
        """
        from ganaug import readers
        from ganaug.config import DataConfig
        from ganaug.dataset import LabelledImages

        if (path / PRODUCTION_FILE).is_file():
            return cls(read_production(path, folder, image_shape, names), path.name, _hash_of(path))
        height, width, channels = image_shape
        config = DataConfig(path=path, size=f"{height}x{width}", channels=channels)
        data = readers.read(config, folder, previews=False).data
        unknown = sorted(set(data.class_names) - set(names))
        if unknown:
            raise DatasetError(
                f"{path} has classes that the screener does not know: {', '.join(unknown)}; it knows "
                f"{', '.join(names)}. Rename the folders or labels, or leave those classes out."
            )
        ids = np.array([list(names).index(name) for name in data.class_names], np.int64)
        index = data.index.assign(class_id=ids[data.class_ids])
        found = LabelledImages(data.images, index, tuple(names))
        return cls(found, path.name, readers.fingerprint(config))

    def sha256(self, class_name: str) -> str:  # noqa: ARG002 - one hash for all of them
        """Fingerprint of the source."""
        return self._fingerprint

    def model(self, class_name: str) -> dict[str, Any]:
        """Where they were found; nothing is known of what made them."""
        return {"name": self._name, "version": None, "sha256": self.sha256(class_name), "verdict": None}

    def available(self, class_name: str) -> int | None:
        """How many there are."""
        return len(self._rows[class_name])

    def make(self, class_name: str, start: int, count: int) -> Images:
        """Read them."""
        rows = self._rows[class_name][start : start + count]
        images: Images = np.ascontiguousarray(self._data.images[rows])
        return images

    def origin(self, class_name: str, start: int, count: int) -> list[str] | None:
        """Their paths inside the source."""
        rows = self._rows[class_name][start : start + count]
        return [str(path) for path in self._data.index["path"].to_numpy()[rows]]


def read_production(
    path: Path, folder: Path, image_shape: tuple[int, int, int], names: Sequence[str]
) -> LabelledImages:
    """Read the kept images of a production, in the order of its manifest, into one array on disk.

    Raises:
        DatasetError: Its images are of another size, or of classes that `names` lacks; or it is damaged.
    """
    try:
        return _read_production(path, folder, image_shape, names)
    except GanaugError:
        raise
    except Exception as error:
        # json, pandas and Arrow raise whatever they stumble over.
        raise DatasetError(f"{path} is a damaged production ({error}); produce it again") from error


def _read_production(
    path: Path, folder: Path, image_shape: tuple[int, int, int], names: Sequence[str]
) -> LabelledImages:
    import pandas as pd

    from ganaug.dataset import LabelledImages

    about = json.loads((path / PRODUCTION_FILE).read_text(encoding="utf-8"))
    unknown = sorted(set(about["wanted"]) - set(names))
    if tuple(about["identity"]["image_shape"]) != image_shape or unknown:
        raise DatasetError(
            f"{path} holds images of shape {about['identity']['image_shape']} and classes {list(about['wanted'])}; "
            f"the screener judges {list(image_shape)} and {list(names)}"
        )
    table = pd.read_parquet(path / FOLDER, columns=["class_name", "kept", "file", "row"])
    table = table[table["kept"]].reset_index(drop=True)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (len(table), *image_shape))
    layout, place, start = FORMATS[about["layout"]["format"]], LocalPlace(path), 0
    for name in table["file"].drop_duplicates():
        for image in layout.read_all(place.read(name)):
            images[start] = image
            start += 1
    index = pd.DataFrame(
        {
            "path": [f"{file}#{row}" for file, row in zip(table["file"], table["row"], strict=True)],
            "class_id": [list(names).index(name) for name in table["class_name"]],
        }
    )
    return LabelledImages(images, index, tuple(names))


def _hash_of(path: Path) -> str:
    return hashlib.sha256((path / PRODUCTION_FILE).read_bytes()).hexdigest()
