"""What every kind of source gives: its items, and their bytes or pixels one after the other."""

from __future__ import annotations

import contextlib
import functools
import lzma
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ganaug.dataset import Images

Payload = bytes | Images
"""An encoded file, or pixels (H, W) or (H, W, C) uint8 that need no decoding."""

UNLABELLED = "unlabelled"
"""The one class of images whose labels are not asked for."""

BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    EOFError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What damaged archives, compressed streams, arrays and tables end in, inside the libraries that read them."""

Load = Callable[[], Payload]
"""Gets one payload, in a decoding thread; raises `UnreadableImageError`."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file or row that is left out, and why, in words for the dataset's owner."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Item:
    """One image as its source lists it, before anything is read.

    Attributes:
        path: Where it lies inside the source.
        class_name: Its class.
        split: `train`, `val`, `test`, or empty when the source does not say.
        group: From the source's group column; empty when unknown.
    """

    path: str
    class_name: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """What an image says of itself: upright size in pixels, and whether it is grey."""

    height: int
    width: int
    is_grey: bool


@dataclass
class Source:
    """A listed source.

    Attributes:
        items: Every image, in the order of the dataset's rows.
        payloads: Gives (row, load) for the rows asked for, which ascend; a source that can
            only be read from front to back may give them in its own order.
        unreadable: What could not even be listed.
        notes: What its owner should know about how it was read.
        class_names: Classes in label order, when the source says; else they are sorted.
        uniform: The header of all images when it is known without looking at each.
        resources: Open files, closed with the source.
    """

    items: list[Item]
    payloads: Callable[[Sequence[int]], Iterator[tuple[int, Load]]]
    unreadable: list[Unreadable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    class_names: tuple[str, ...] | None = None
    uniform: Header | None = None
    resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Source:
        """The source itself."""
        return self

    def __exit__(self, *details: object) -> None:
        """Close what it holds open."""
        self.resources.close()


@dataclass(frozen=True, slots=True)
class Held:
    """A `Load` whose file had to be read already, because its source goes from front to back."""

    data: bytes

    def __call__(self) -> bytes:
        """The bytes of the file."""
        return self.data


def printable(name: str) -> str:
    """A file name as valid Unicode: names that are not UTF-8 cannot be written to Parquet."""
    return name.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def at_random(load: Callable[[int], Payload]) -> Callable[[Sequence[int]], Iterator[tuple[int, Load]]]:
    """`payloads` of a source whose images can be got in any order, from any thread."""

    def payloads(rows: Sequence[int]) -> Iterator[tuple[int, Load]]:
        for row in rows:
            yield row, functools.partial(load, row)

    return payloads
