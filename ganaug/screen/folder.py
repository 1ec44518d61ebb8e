"""The screener on disk: a folder that stands alone, every file of it hashed."""

from __future__ import annotations

import hashlib
import json
import tokenize
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import ganaug
from ganaug.config import ScreenConfig
from ganaug.dataset import Images
from ganaug.errors import ModelError
from ganaug.run import sha256_file, write_atomically

FORMAT = 1
SCREENER_FILE, IMAGES_FILE, ARRAYS_FILE = "screener.json", "images.npy", "arrays.npz"
MOST_NOTE_BYTES, MOST_GRAPH_BYTES = 2**20, 2**29


# What damaged notes and arrays end in, inside json and numpy as well.
_DAMAGE = (
    zipfile.BadZipFile,
    tokenize.TokenError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Thresholds:
    """What an image must reach, as measured when the screener was made.

    Attributes:
        temperature: The classifiers' probabilities are taken to the power 1 / this.
        min_confidence: Calibrated probability that each classifier must give the class.
        min_realism: Typical distance between real neighbours over that to the nearest real image.
        min_distance: Root mean square of pixels; nearer to a real image is a copy.
        feature_distance: In the first classifier's features; nearer to a real image is a copy.
        code_distance: In code units; nearer to an image kept before is a copy.
    """

    temperature: float
    min_confidence: float
    min_realism: float
    min_distance: float
    feature_distance: float
    code_distance: float


@dataclass(frozen=True)
class Contents:
    """What lies in a screener's folder, checked against its hashes.

    Attributes:
        class_names: Name of each class id, K of them.
        image_shape: (height, width, channels).
        config: The settings that it was made with.
        thresholds: What it measured.
        graphs: File name and content of each classifier, in order.
        images: (N, H, W, C) uint8 real training images, mapped from disk.
        arrays: The others, by name: see `SHAPES`.
        sha256: One hash for all of it.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    config: ScreenConfig
    thresholds: Thresholds
    graphs: tuple[tuple[str, bytes], ...]
    images: Images
    arrays: Mapping[str, npt.NDArray[Any]]
    sha256: str


SHAPES = {
    "class_ids": ("int64", "N"),
    "codes": ("int8", "NSB"),
    "basis": ("int16", "DB"),
    "centre": ("float64", "B"),
    "scale_step": ("float64", "2"),
    "feature_rows": ("int64", "M"),
    "features": ("float32", "MF"),
    "typical": ("float32", "K"),
    "centres": ("float32", "QF"),
    "centre_class": ("int64", "Q"),
    "centre_share": ("float64", "Q"),
}
"""Type and axes of each array: N real images, S shifts, B bytes of a code, D pixel values, M real
images whose F features are kept, K classes, Q clusters."""


def write_screener(
    folder: Path,
    *,
    class_names: Sequence[str],
    config: ScreenConfig,
    thresholds: Thresholds,
    graphs: Sequence[Path],
    images: Images,
    arrays: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Write a screener; the note that makes it one comes last.

    Args:
        folder: Where to; is made.
        class_names: Name of each class id.
        config: The settings that it was made with.
        thresholds: What was measured.
        graphs: Classifiers, in the order in which they are asked; copied.
        images: (N, H, W, C) uint8 real training images.
        arrays: As `SHAPES` says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"classifier-{number}.onnx" for number in range(len(graphs))]
    for name, graph in zip(names, graphs, strict=True):
        (folder / name).write_bytes(graph.read_bytes())
    np.save(folder / IMAGES_FILE, images)
    # A literal type, so that no array can shadow an argument of savez.
    np.savez(folder / ARRAYS_FILE, allow_pickle=False, **dict(arrays))
    files = [*names, IMAGES_FILE, ARRAYS_FILE]
    note = {
        "format": FORMAT,
        "ganaug": ganaug.__version__,
        "class_names": list(class_names),
        "image_shape": list(images.shape[1:]),
        "settings": config.model_dump(mode="json"),
        "thresholds": asdict(thresholds),
        "classifiers": names,
        "files": {
            name: {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
            for name in files
        },
    }
    write_atomically(folder / SCREENER_FILE, json.dumps(note, indent=2, ensure_ascii=False))


def read_screener(folder: Path) -> Contents:
    """Read a screener and check everything in it.

    Raises:
        ModelError: Something is missing, changed, too large, or not of the form it must have.
    """
    try:
        return _read(folder)
    except _DAMAGE as error:
        raise ModelError(
            f"{folder} holds no usable screener ({error}); make it again: `ganaug run` leaves one in "
            "runs/<name>/screen/screener"
        ) from error


def _read(folder: Path) -> Contents:
    path = folder / SCREENER_FILE
    if path.stat().st_size > MOST_NOTE_BYTES:
        raise ValueError(f"{SCREENER_FILE} is larger than {MOST_NOTE_BYTES} bytes")
    content = path.read_bytes()
    note = json.loads(content)
    if note["format"] != FORMAT:
        raise ValueError(f"its format is {note['format']!r}, and this version reads {FORMAT}")
    names = [str(name) for name in note["classifiers"]]
    for name in (*names, IMAGES_FILE, ARRAYS_FILE):
        _check_file(folder, name, note["files"][name])
    height, width, channels = map(int, note["image_shape"])
    images = np.asarray(np.load(folder / IMAGES_FILE, mmap_mode="r", allow_pickle=False))
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels) or not len(images):
        raise ValueError(f"its real images are {images.dtype} {images.shape}")
    class_names = tuple(map(str, note["class_names"]))
    arrays = _read_arrays(folder / ARRAYS_FILE)
    _check_arrays(arrays, len(images), height * width * channels, len(class_names))
    return Contents(
        class_names,
        (height, width, channels),
        ScreenConfig.model_validate(note["settings"]),
        Thresholds(**{name: float(value) for name, value in note["thresholds"].items()}),
        tuple((name, (folder / name).read_bytes()) for name in names),
        images,
        arrays,
        hashlib.sha256(content).hexdigest(),
    )


def _check_file(folder: Path, name: str, known: Mapping[str, Any]) -> None:
    if Path(name).name != name:
        raise ValueError(f"{name!r} is not the name of a file in it")
    size = (folder / name).stat().st_size
    if size != known["bytes"] or (name.endswith(".onnx") and size > MOST_GRAPH_BYTES):
        raise ValueError(f"{name} has {size} bytes; {known['bytes']} were written")
    if sha256_file(folder / name) != known["sha256"]:
        raise ValueError(f"{name} was changed after it was written")


def _read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(path) as packed:
        # Stored, not packed: what is read can be no larger than the file.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in packed.infolist()):
            raise ValueError(f"{path.name} is compressed")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in SHAPES}


def _check_arrays(arrays: Mapping[str, npt.NDArray[Any]], images: int, pixels: int, classes: int) -> None:
    sizes = {"N": images, "D": pixels, "K": classes, "2": 2}
    for name, (dtype, axes) in SHAPES.items():
        shape = arrays[name].shape
        fits = len(shape) == len(axes) and all(
            sizes.setdefault(axis, length) == length for axis, length in zip(axes, shape, strict=True)
        )
        if not fits or arrays[name].dtype != dtype:
            raise ValueError(f"{name} is {arrays[name].dtype} {shape}")
    if not (arrays["feature_rows"].min(initial=0) >= 0 and arrays["feature_rows"].max(initial=0) < images):
        raise ValueError("feature_rows points outside the real images")
