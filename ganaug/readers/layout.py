"""Folder names to classes and splits; the same for folders on disk and inside archives."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ganaug.errors import DatasetError
from ganaug.readers.source import UNLABELLED, Unreadable

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Names that folders, files and table cells may give to splits, in any case."""

IMAGE_SUFFIXES = frozenset(
    [
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]
)
"""Suffixes of the formats that are decoded."""

# These are images to their owner, so they must not vanish without a word: they are listed
# and fail in decoding, with the reason.
FOREIGN_SUFFIXES = frozenset(
    [
        ".heic",
        ".heif",
        ".avif",
        ".jp2",
        ".j2k",
        ".jxl",
        ".psd",
        ".svg",
        ".dcm",
        ".dicom",
        ".exr",
        ".hdr",
        ".nef",
        ".cr2",
        ".dng",
        ".arw",
        ".ico",
        ".tga",
    ]
)

_CLUTTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir"})


@dataclass(frozen=True, slots=True)
class Placed:
    """Where one listed path belongs; `number` is its place in the list that came."""

    number: int
    class_name: str
    split: str


def is_clutter(parts: Sequence[str]) -> bool:
    """Whether a path is hidden or something that an operating system left behind."""
    return any(part.startswith(".") or part.casefold() in _CLUTTER for part in parts)


def is_image(name: str) -> bool:
    """Whether a file name claims to be an image."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in IMAGE_SUFFIXES or suffix in FOREIGN_SUFFIXES


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `img10` follows `img9`, upper and lower case mixed.

    >>> sorted(["b10", "b9", "A"], key=natural_key)
    ['A', 'b9', 'b10']
    """
    # [0-9] and not \d: int() does not read every Unicode digit that \d matches.
    chunks = [
        (0, int(chunk), "") if chunk.isascii() and chunk.isdigit() else (1, 0, chunk.casefold())
        for chunk in re.split(r"([0-9]{1,18})", text)
        if chunk
    ]
    return (*chunks, (2, 0, text))


def place(paths: Sequence[str], source: str, *, has_labels: bool) -> tuple[list[Placed], list[Unreadable]]:
    """Class and split of each image, from the folders on its path.

    Folders that only wrap are stepped into. The next level is a split if all its names are
    (`train`, `valid`, ...), and the level below that the class; deeper folders do not matter.

    Args:
        paths: Paths of images inside the source, with forward slashes.
        source: Name of the source, for messages.
        has_labels: Whether folders are classes; if not, images of any folder are of one class.

    Returns:
        The images that have a class, and those that lie beside the class folders.

    Raises:
        DatasetError: No image lies in a class folder, or folders stand beside the splits.
    """
    if not has_labels:
        return [Placed(number, UNLABELLED, "") for number in range(len(paths))], []
    parts = [(number, tuple(path.split("/"))) for number, path in enumerate(paths)]
    inside, strays = _unwrap(parts)
    tops = {names[0] for _, names in inside}
    groups = {"": inside}
    if tops and _are_splits(tops, inside, source):
        groups = {}
        for number, names in inside:
            split = groups.setdefault(SPLITS[names[0].casefold()], [])
            split.append((number, names[1:]))
        # Kaggle's train/train/cat: only when every split has its single wrapping folder.
        if all(len({names[0] for _, names in group if len(names) > 1}) == 1 for group in groups.values()):
            for split_name, group in groups.items():
                groups[split_name], more = _unwrap(group)
                strays += more
    placed = [
        Placed(number, names[0], split)
        for split, group in groups.items()
        for number, names in group
        if len(names) > 1
    ]
    strays += [number for group in groups.values() for number, names in group if len(names) < 2]
    if not placed and paths:
        raise DatasetError(
            f"the {len(paths)} images of {source} lie in no class folder (for example "
            f"{paths[0]!r}). Make a folder per class ({source}/cat/1.png), or give a CSV or Parquet "
            "table with a column of image paths and a column of labels."
        )
    placed.sort(key=lambda one: one.number)
    reason = "lies beside the class folders, not in one; move it into the folder of its class"
    return placed, [Unreadable(paths[number], reason) for number in sorted(strays)]


_Parts = list[tuple[int, tuple[str, ...]]]


def _unwrap(parts: _Parts) -> tuple[_Parts, list[int]]:
    """Step into folders that hold all the rest; images left outside are strays."""
    strays: list[int] = []
    while True:
        inside = [one for one in parts if len(one[1]) > 1]
        strays += [number for number, names in parts if len(names) == 1]
        tops = {names[0] for _, names in inside}
        deep = sum(len(names) > 2 for _, names in inside)
        # A single top folder with images right inside it is a class, not a wrapping.
        if len(tops) != 1 or tops.pop().casefold() in SPLITS or 2 * deep <= len(inside):
            return inside, strays
        parts = [(number, names[1:]) for number, names in inside]


def _are_splits(tops: set[str], inside: _Parts, source: str) -> bool:
    named = {top for top in tops if top.casefold() in SPLITS}
    if named == tops:
        return True
    # `train` is also something that runs on rails: a folder of images is a class.
    direct = Counter(names[0] for _, names in inside if len(names) == 2)
    nested = {top for top in named if not direct[top]}
    if nested:
        others = ", ".join(sorted(tops - named)[:5])
        raise DatasetError(
            f"in {source} the folders {others} stand beside the split {sorted(nested)[0]!r}. Either "
            "all folders of that level are splits (train, val, test), or all are classes: move them."
        )
    return False
