"""An .npz file with arrays of images and labels, and scikit-learn's bundled digits."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from ganaug.config import DataConfig
from ganaug.dataset import Images
from ganaug.errors import DatasetError, MissingExtraError, UnsafeArchiveError
from ganaug.readers import columns
from ganaug.readers.decode import to_8bit
from ganaug.readers.source import (
    BROKEN,
    UNLABELLED,
    Header,
    Item,
    Load,
    Source,
    Unreadable,
    at_random,
    printable,
)
from ganaug.readers.table import named

IMAGE_NAMES = ("images", "x", "X", "data", "image", "imgs")
LABEL_NAMES = ("labels", "y", "Y", "target", "label", "targets", "classes")
GROUP_NAMES = ("groups", "group", "patients", "patient")
_SPLIT_WORDS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}

# Pixels taken from the file at once; bounds memory whatever the array's length.
_BLOCK_BYTES = 4 * 2**20

_DIGITS_WHITE = 16.0


@dataclass(frozen=True, slots=True)
class _Array:
    """An array inside an .npz: its header only."""

    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """One split's arrays, and how its images are turned to uint8 (H, W[, C]); unlabelled, images alone."""

    split: str
    images: _Array
    labels: _Array | None
    groups: _Array | None
    is_channels_first: bool
    white: float


def list_digits(_config: DataConfig) -> Source:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 grey.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("The bundled digits", "data") from error
    digits = load_digits()
    images = to_8bit(digits.images, _DIGITS_WHITE)
    items = [Item(f"digits/{row:04d}", str(label)) for row, label in enumerate(digits.target)]
    names = tuple(str(name) for name in digits.target_names)
    return Source(
        items,
        at_random(lambda row: images[row]),
        class_names=names,
        uniform=Header(images.shape[1], images.shape[2], is_grey=True),
    )


def list_npz(config: DataConfig) -> Source:
    """List the images of an .npz; pixels are streamed, never held all at once.

    Raises:
        DatasetError: Missing or unfitting arrays, pickled objects, NaN, or a broken file.
        UnsafeArchiveError: It unpacks to more than `max_unpacked_bytes`.
    """
    assert config.path is not None
    path = config.path
    resources = contextlib.ExitStack()
    try:
        with _explained(path):
            archive = resources.enter_context(zipfile.ZipFile(path))
            arrays = _headers(archive, path, config)
            parts, notes = _parts(archive, arrays, path, config)
            names = _class_names(archive, arrays) if config.has_labels else None
            items, places, unreadable = _items(archive, parts, names, path)
    except BaseException:
        resources.close()
        raise
    shapes = {_shape(part) for part in parts}
    uniform = Header(*next(iter(shapes))) if len(shapes) == 1 else None
    payloads = partial(_payloads, archive, parts, places, path)
    return Source(items, payloads, unreadable, notes, names, uniform, resources)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except DatasetError:
        raise
    except PermissionError as error:
        raise DatasetError(f"{path} may not be read: no permission") from error
    except BROKEN as error:
        raise DatasetError(
            f"{path} is not an .npz file, or is damaged: {error}. Write it with numpy.savez."
        ) from error


def _headers(archive: zipfile.ZipFile, path: Path, config: DataConfig) -> dict[str, _Array]:
    total = sum(member.file_size for member in archive.infolist())
    if total > config.max_unpacked_bytes:
        raise UnsafeArchiveError(
            f"{path} unpacks to {total:,} bytes, more than data.max_unpacked_bytes "
            f"({config.max_unpacked_bytes:,}). Raise that setting if the file is really so large."
        )
    arrays = {}
    for member in archive.infolist():
        if not member.filename.endswith(".npy"):
            continue
        with archive.open(member) as file:
            shape, is_fortran, dtype = _header(file)
        name = member.filename.removesuffix(".npy")
        size_bytes = int(np.prod([1, *shape], dtype=object)) * dtype.itemsize
        if dtype.hasobject:
            if name in {*IMAGE_NAMES, *LABEL_NAMES} or any(
                word in name for word in ("train", "test", "class")
            ):
                raise DatasetError(
                    f"{path}: the array {name!r} holds pickled objects, which are never loaded: they can "
                    "run any code. Save it again without object arrays, as numbers or fixed-length "
                    "strings: images.astype('uint8'), labels.astype('str')."
                )
            continue
        if size_bytes > member.file_size:
            raise DatasetError(f"{path}: the array {name!r} is shorter than its shape {shape} says")
        arrays[name] = _Array(member.filename, shape, dtype, is_fortran)
    return arrays


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"an array has format version {version}; 1.0 and 2.0 are read")


def _parts(
    archive: zipfile.ZipFile, arrays: dict[str, _Array], path: Path, config: DataConfig
) -> tuple[list[_Part], list[str]]:
    """Pair images with labels, whole or per split, and settle the scale of their values."""
    parts, notes = [], []
    for split, images, labels, groups in _pairs(arrays, path, has_labels=config.has_labels):
        name = images.member.removesuffix(".npy")
        if labels is not None and labels.shape != (images.shape[0],) and labels.shape != (images.shape[0], 1):
            raise DatasetError(
                f"{path}: {name!r} has {images.shape[0]} images, and its labels have the shape "
                f"{labels.shape}; one label per image is needed."
            )
        if groups is not None and groups.shape[:1] != images.shape[:1]:
            raise DatasetError(f"{path}: {images.shape[0]} images, but groups of the shape {groups.shape}")
        is_first = _is_channels_first(images, path)
        white, note = _white(archive, images, config, path)
        if note and note not in notes:
            notes.append(note)
        parts.append(_Part(split, images, labels, groups, is_first, white))
    return parts, notes


def _pairs(
    arrays: dict[str, _Array], path: Path, *, has_labels: bool
) -> list[tuple[str, _Array, _Array | None, _Array | None]]:
    pairs: list[tuple[str, _Array, _Array | None, _Array | None]] = []
    for split, words in {"": ("",), **_SPLIT_WORDS}.items():
        images = _find(arrays, IMAGE_NAMES, words)
        labels = _find(arrays, LABEL_NAMES, words) if has_labels else None
        if images is not None and (labels is not None or not has_labels):
            pairs.append((split, images, labels, _find(arrays, GROUP_NAMES, words)))
        if pairs and split == "":
            break
    if not pairs:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise DatasetError(
            f"{path} has the arrays {shapes}. Call them images and labels (or x and y, data and target), or "
            "x_train, y_train, x_test, y_test (or train_images, train_labels, ...); unlabelled, images or x."
        )
    return pairs


def _find(arrays: dict[str, _Array], names: Sequence[str], words: Sequence[str]) -> _Array | None:
    for name in names:
        for word in words:
            for whole in (f"{name}_{word}", f"{word}_{name}") if word else (name,):
                if whole in arrays:
                    return arrays[whole]
    return None


def _is_channels_first(images: _Array, path: Path) -> bool:
    """Whether the layout is (N, C, H, W): only when the last axis cannot be channels."""
    shape = images.shape
    is_kind = images.dtype.kind in "fb" or images.dtype in (
        np.dtype(np.uint8),
        np.dtype("<u2"),
        np.dtype(">u2"),
    )
    if is_kind and len(shape) == 3 and min(shape[1:]) > 0:
        return False
    if is_kind and len(shape) == 4 and min(shape[1:]) > 0:
        if shape[3] in (1, 3, 4):
            return False
        if shape[1] in (1, 3, 4):
            return True
    raise DatasetError(
        f"{path}: {images.member.removesuffix('.npy')!r} is {images.dtype} of the shape {shape}. Images are "
        "(N, height, width) or (N, height, width, 1, 3 or 4), as uint8, uint16, bool or float."
    )


def _white(archive: zipfile.ZipFile, images: _Array, config: DataConfig, path: Path) -> tuple[float, str]:
    """The value that becomes 255, and how it was chosen."""
    name = images.member.removesuffix(".npy")
    if images.dtype.kind == "b":
        return 1.0, f"array {name!r}: False is black, True white"
    if images.dtype == np.uint8:
        return 255.0, ""
    if images.dtype.kind == "u":
        return float(config.white_16bit), f"array {name!r}: 16 bit, {config.white_16bit} is white"
    low, high = np.inf, -np.inf
    for block in _blocks(archive, images):
        if not np.isfinite(block).all():
            raise DatasetError(f"{path}: {name!r} holds NaN or infinite values; replace them before saving.")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    if low < 0 or high > 255:
        raise DatasetError(
            f"{path}: {name!r} has values from {low:g} to {high:g}; floating-point images are in 0..1 or "
            "0..255. Rescale them before saving."
        )
    white = 1.0 if high <= 1.0 else 255.0
    return white, f"array {name!r}: floating point in {low:g}..{high:g}, {white:g} is white"


def _class_names(archive: zipfile.ZipFile, arrays: dict[str, _Array]) -> tuple[str, ...] | None:
    for name in ("class_names", "label_names", "target_names"):
        if name in arrays and len(arrays[name].shape) == 1 and arrays[name].shape[0]:
            return tuple(columns.class_of(value) or "" for value in _whole(archive, arrays[name]).tolist())
    return None


def _items(
    archive: zipfile.ZipFile, parts: list[_Part], names: tuple[str, ...] | None, path: Path
) -> tuple[list[Item], list[tuple[int, int]], list[Unreadable]]:
    items: list[Item] = []
    places: list[tuple[int, int]] = []
    unreadable: list[Unreadable] = []
    for number, part in enumerate(parts):
        labels = _labels(archive, part, path)
        count = len(labels)
        groups = [""] * count
        if part.groups is not None:
            groups = [
                columns.class_of(value) or ""
                for value in _whole(archive, part.groups).reshape(count, -1)[:, 0].tolist()
            ]
        name = part.images.member.removesuffix(".npy")
        for row, label in enumerate(labels):
            where = f"{name}/{row:06d}"
            class_name, reason = columns.class_of(label), "has no label"
            if class_name is not None:
                class_name, reason = named(class_name, names)
            if class_name is None:
                unreadable.append(Unreadable(where, reason))
                continue
            items.append(Item(where, printable(class_name), part.split, printable(groups[row])))
            places.append((number, row))
    return items, places, unreadable


def _labels(archive: zipfile.ZipFile, part: _Part, path: Path) -> list[Any]:
    if part.labels is None:
        return [UNLABELLED] * part.images.shape[0]
    if part.labels.dtype.kind not in "iubUSf":
        raise DatasetError(f"{path}: labels are {part.labels.dtype}; use integers or strings.")
    labels: list[Any] = _whole(archive, part.labels).reshape(-1).tolist()
    return labels


def _payloads(
    archive: zipfile.ZipFile,
    parts: list[_Part],
    places: list[tuple[int, int]],
    path: Path,
    rows: Sequence[int],
) -> Iterator[tuple[int, Load]]:
    wanted: dict[int, dict[int, int]] = {}
    for row in rows:
        number, inner = places[row]
        wanted.setdefault(number, {})[inner] = row
    for number, inner_rows in wanted.items():
        part, start = parts[number], 0
        with _explained(path):
            for block in _blocks(archive, part.images):
                for k in range(len(block)):
                    row_of = inner_rows.get(start + k)
                    if row_of is not None:
                        yield row_of, partial(_pixels, block[k], part)
                start += len(block)


def _pixels(values: npt.NDArray[Any], part: _Part) -> Images:
    if part.is_channels_first:
        values = values.transpose(1, 2, 0)
    return cast("Images", values) if values.dtype == np.uint8 else to_8bit(values, part.white)


def _shape(part: _Part) -> tuple[int, int, bool]:
    shape = part.images.shape[1:]
    if len(shape) == 2:
        return shape[0], shape[1], True
    height, width, channels = (*shape[1:], shape[0]) if part.is_channels_first else shape
    return height, width, channels == 1


def _blocks(archive: zipfile.ZipFile, array: _Array) -> Iterator[npt.NDArray[Any]]:
    """An array in pieces along its first axis, in the order of its rows."""
    if array.is_fortran:
        # Its rows are scattered over the whole file.
        yield _whole(archive, array)
        return
    row_bytes = int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize
    step = max(1, _BLOCK_BYTES // max(row_bytes, 1))
    with archive.open(array.member) as file:
        _header(file)
        for start in range(0, array.shape[0], step):
            rows = min(step, array.shape[0] - start)
            data = file.read(rows * row_bytes)
            if len(data) != rows * row_bytes:
                raise ValueError(f"{array.member} ends early")
            yield np.frombuffer(data, array.dtype).reshape(rows, *array.shape[1:])


def _whole(archive: zipfile.ZipFile, array: _Array) -> npt.NDArray[Any]:
    with archive.open(array.member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
