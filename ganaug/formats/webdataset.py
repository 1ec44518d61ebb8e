"""WebDataset: a tar that is read front to back, three members for each image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt

from ganaug.formats.container import DATA, Chunk, Format, Shard, in_one_file, shard_path

SUFFIX = ".tar"
BLOCK = 512
_MEMBERS = 3
_NAME = slice(0, 100)
_SIZE = slice(124, 135)
_CHECKSUM = slice(148, 154)


def _pack(shard: Shard, files: list[bytes], suffix: str) -> Iterator[tuple[str, list[Chunk]]]:
    # A reader takes all that follows the first dot as the kind of member.
    key = shard.name.replace(".", "_")
    keys = [f"{key}-{row:06d}" for row in range(len(files))]
    class_id, class_name = b"%d" % shard.class_id, json.dumps(shard.class_name)
    about = [f'{{"class_name": {class_name}, "index": {index}}}'.encode() for index in shard.index.tolist()]
    parts = [
        _member([f"{key}{suffix}" for key in keys], files),
        _member([f"{key}.cls" for key in keys], [class_id] * len(files)),
        _member([f"{key}.json" for key in keys], about),
    ]
    # Two empty blocks are the end.
    yield shard_path(shard, SUFFIX), [b"".join(chain(*chain(*zip(*parts, strict=True)), [bytes(2 * BLOCK)]))]


def _member(names: list[str], contents: list[bytes]) -> Iterator[tuple[Chunk, ...]]:
    """Header, content and padding of each member."""
    headers = _headers(names, np.fromiter(map(len, contents), np.int64, len(contents))).reshape(-1).data
    padding = [bytes(-length % BLOCK) for length in range(BLOCK)]
    for row, content in enumerate(contents):
        header = headers[row * BLOCK : (row + 1) * BLOCK]
        yield header, content, padding[len(content) % BLOCK]


def _headers(names: list[str], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """(n, 512) uint8 headers of plain files with no owner and no time, all at once.

    Source:
        POSIX.1-2017, pax, "ustar Interchange Format".
    """
    headers = np.zeros((len(names), BLOCK), np.uint8)
    headers[:, _NAME] = np.array(names, "S100").view(np.uint8).reshape(-1, 100)
    for at, text in (
        (100, b"0000644"),  # readable by all
        (108, b"0000000"),  # uid
        (116, b"0000000"),  # gid
        (136, b"00000000000"),  # time of change
        (148, b" " * 8),  # the checksum counts as spaces
        (156, b"0"),  # a plain file
        (257, b"ustar\00000"),
    ):
        headers[:, at : at + len(text)] = np.frombuffer(text, np.uint8)
    headers[:, _SIZE] = _octal(sizes, 11)
    headers[:, _CHECKSUM] = _octal(headers.sum(axis=1, dtype=np.int64), 6)
    headers[:, 154] = 0
    return headers


def _octal(numbers: npt.NDArray[np.int64], digits: int) -> npt.NDArray[np.int64]:
    """(n, digits) ASCII."""
    return (numbers[:, None] >> np.arange(3 * (digits - 1), -1, -3)) % 8 + ord("0")


def _members(content: bytes) -> Iterator[bytes]:
    at = number = 0
    while any(content[at : at + 1]):
        size = int(content[at : at + BLOCK][_SIZE], 8)
        if size < 0:
            raise ValueError(f"a member of {size} bytes")
        at += BLOCK
        if number % _MEMBERS == 0:
            yield content[at : at + size]
        at += -(-size // BLOCK) * BLOCK
        number += 1


WEBDATASET = Format(
    ("png", "jpeg", "webp", "raw"),
    _pack,
    in_one_file(SUFFIX),
    _members,
    f"{DATA}/*{SUFFIX}",
    """\
from glob import glob

import webdataset

shards = sorted(glob("path/to/this/folder/data/*.tar"))
images = webdataset.WebDataset(shards, shardshuffle=False).decode("pil")""",
)
