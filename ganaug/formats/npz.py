"""NumPy's .npz: the bare pixels, for whoever wants arrays; nothing in it is pickled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
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


def _pack(shard: Shard, batches: Sequence[Images], _suffix: str) -> Iterator[tuple[str, list[Chunk]]]:
    arrays: dict[str, Sequence[npt.NDArray[Any]]] = {
        "images": batches or [np.zeros((0, *shard.image_shape), np.uint8)],
        "labels": [np.full(len(shard), shard.class_id, np.int64)],
        "index": [shard.index],
        "class_names": [np.array(shard.class_names, np.str_)],
    }
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w") as archive:  # type: ignore[call-overload]
        for name, parts in arrays.items():
            chunks = _npy(parts)
            # Its time is always 1980.
            member = zipfile.ZipInfo(f"{name}.npy")
            member.file_size = sum(map(len, chunks))
            with archive.open(member, "w") as file:
                for chunk in chunks:
                    file.write(chunk)
    yield shard_path(shard, SUFFIX), pieces


def _npy(parts: Sequence[npt.NDArray[Any]]) -> list[Chunk]:
    """Header and values of a .npy file of arrays one behind the other."""
    header = io.BytesIO()
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    descr = np.lib.format.dtype_to_descr(parts[0].dtype)
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return [
        header.getvalue(),
        *(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data for part in parts),
    ]


def _members(content: bytes) -> Iterator[Images]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        images = arrays["images"]
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"its images are {images.dtype} {images.shape}")
    yield from images


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
