"""NumPy's .npz: the bare pixels, for whoever wants arrays; nothing in it is pickled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ganaug.formats.container import DATA, Chunk, Format, Shard, in_one_file, shard_path

if TYPE_CHECKING:
    from ganaug.dataset import Images

SUFFIX = ".npz"


class _Pieces(list[Chunk]):
    """A file to write to that keeps what it is given, and copies nothing."""

    def write(self, piece: Chunk) -> int:
        self.append(piece)
        return len(piece)

    def flush(self) -> None:
        """Nothing waits here."""


def _pack(shard: Shard, images: Images, _suffix: str) -> Iterator[tuple[str, list[Chunk]]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "images": images,
        "labels": np.full(len(shard), shard.class_id, np.int64),
        "index": shard.index,
        "class_names": np.array(shard.class_names, np.str_),
    }
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w") as archive:  # type: ignore[call-overload]
        for name, array in arrays.items():
            header, values = _npy(array)
            # Its time is always 1980.
            member = zipfile.ZipInfo(f"{name}.npy")
            member.file_size = len(header) + len(values)
            with archive.open(member, "w") as file:
                file.write(header)
                file.write(values)
    yield shard_path(shard, SUFFIX), pieces


def _npy(array: npt.NDArray[Any]) -> tuple[bytes, memoryview]:
    """Header and values of a .npy file."""
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue(), array.reshape(-1).view(np.uint8).data


def _members(content: bytes) -> Iterator[Images]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        yield from arrays["images"]


NPZ = Format(
    ("none",),
    _pack,
    in_one_file(SUFFIX),
    _members,
    f"{DATA}/*{SUFFIX}",
    """\
from glob import glob

import numpy as np

for path in sorted(glob("path/to/this/folder/data/*.npz")):
    with np.load(path) as arrays:
        images, labels = arrays["images"], arrays["labels"]""",
)
