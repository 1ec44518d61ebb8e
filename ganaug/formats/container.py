"""Shard and Format: what is written at once, and one way to lay it out as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ganaug.errors import DatasetError
from ganaug.formats.encodings import decode

if TYPE_CHECKING:
    from ganaug.dataset import Images

DATA = "data"
"""The folder of all images; a manifest lies beside it, never inside."""

DATASETS_SNIPPET = """\
from datasets import load_dataset

images = load_dataset("path/to/this/folder", split="train")"""

Chunk = bytes | memoryview


@dataclass(frozen=True)
class Shard:
    """Images of one class that are written together.

    Attributes:
        name: What its files are called; no other shard of the production has it.
        class_id: Their class.
        class_name: Its name.
        class_names: All classes of the dataset; the position is the class id.
        index: (n,) address of each image within its class.
        image_shape: (height, width, channels).
    """

    name: str
    class_id: int
    class_name: str
    class_names: tuple[str, ...]
    index: npt.NDArray[np.int64]
    image_shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Format:
    """One way to lay out images as files; the same images give the same bytes.

    Attributes:
        encodings: Encodings that it takes, the default first; `none` stands for bare arrays.
        pack: A shard, its images in order and the suffix of their encoding to files: path inside
            the production (with slashes) and content in pieces, some of them views of the
            images, so that nobody copies it to hash and write it. The images are n encoded
            ones, or for `none` batches of them, each (b, H, W, C) uint8.
        where: A shard and the suffix to the path of each image's file, and its (n,) row there.
        members: The content of a file to its images in order, still encoded or as arrays.
        pattern: Which files it writes, relative to the production.
        snippet: Python that loads them.
        loader_options: What Hugging Face `datasets` is told of them beside `pattern`.
    """

    encodings: tuple[str, ...]
    pack: Callable[[Shard, Any, str], Iterator[tuple[str, list[Chunk]]]]
    where: Callable[[Shard, str], tuple[list[str], npt.NDArray[np.int64]]]
    members: Callable[[bytes], Iterator[Any]]
    pattern: str
    snippet: str = DATASETS_SNIPPET
    loader_options: Mapping[str, object] = field(default_factory=dict)

    def read_all(self, content: bytes) -> Iterator[Images]:
        """The (H, W, C) uint8 images of a file, one after the other.

        Raises:
            DatasetError: The file is damaged.
            UnreadableImageError: An image in it is.
        """
        return map(_pixels, self._members(content))

    def read(self, content: bytes, row: int) -> Images:
        """The (H, W, C) uint8 image in one row of a file; the others are not decoded.

        Raises:
            DatasetError: The file has no such row, or is damaged.
            UnreadableImageError: The image is.
        """
        for member in islice(self._members(content), row, None):
            return _pixels(member)
        raise DatasetError(f"a file of {len(content):,} bytes has no row {row}; rows count from 0")

    def _members(self, content: bytes) -> Iterator[Any]:
        try:
            yield from self.members(content)
        except Exception as error:
            # zipfile, numpy and Arrow raise whatever they stumble over.
            raise DatasetError(
                f"a file of {len(content):,} bytes is damaged, or not {self.pattern} ({error}); produce it again"
            ) from error


def _pixels(member: Any) -> Images:
    return member if isinstance(member, np.ndarray) else decode(member)


def in_one_file(suffix: str) -> Callable[[Shard, str], tuple[list[str], npt.NDArray[np.int64]]]:
    """`Format.where` of a format that writes one file per shard."""

    def where(shard: Shard, _suffix: str) -> tuple[list[str], npt.NDArray[np.int64]]:
        return [shard_path(shard, suffix)] * len(shard), np.arange(len(shard))

    return where


def shard_path(shard: Shard, suffix: str) -> str:
    """Path of the one file of a shard."""
    return f"{DATA}/{shard.name}{suffix}"
