"""A folder per class and a file per image: what every tool and every eye can open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ganaug.formats.container import DATA, Chunk, Format, Shard
from ganaug.plan import part_name

# Windows takes none of these as a name, whatever follows a dot.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def _pack(shard: Shard, files: list[bytes], suffix: str) -> Iterator[tuple[str, list[Chunk]]]:
    for path, content in zip(_paths(shard, suffix), files, strict=True):
        yield path, [content]


def _where(shard: Shard, suffix: str) -> tuple[list[str], npt.NDArray[np.int64]]:
    return _paths(shard, suffix), np.zeros(len(shard), np.int64)


def _paths(shard: Shard, suffix: str) -> list[str]:
    folder = class_folders(shard.class_names)[shard.class_id]
    return [f"{DATA}/{folder}/{index:09d}{suffix}" for index in shard.index.tolist()]


@lru_cache
def class_folders(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """A folder's name for each class: their own if every file system takes and tells apart all.

    Else all are numbered: a mixture could give two classes one folder.

    >>> class_folders(("cat", "dog"))
    ('cat', 'dog')
    >>> class_folders(("cat", "a/b"))
    ('000-cat', '001-a-b')
    """
    parts = tuple(part_name(class_id, name) for class_id, name in enumerate(class_names))
    are_plain = all(
        part == f"{class_id:03d}-{name}" and not _RESERVED.fullmatch(name)
        for class_id, (part, name) in enumerate(zip(parts, class_names, strict=True))
    )
    are_apart = len({name.casefold() for name in class_names}) == len(class_names)
    return class_names if are_plain and are_apart else parts


def _members(content: bytes) -> Iterator[bytes]:
    yield content


FOLDER = Format(
    ("png", "jpeg", "webp", "raw"),
    _pack,
    _where,
    _members,
    f"{DATA}/*/*",
    # Without it, one folder alone would be no class.
    loader_options={"drop_labels": False},
)
