"""The manifest: one row per image that was made, kept or not, in a Parquet file per shard.

A shard counts as finished when its piece of the manifest is there; the piece is written last
and carries the shard's hash. `pandas.read_parquet("manifest")` reads all pieces as one table.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from ganaug.places import Place
from ganaug.produce.order import Unit

FOLDER = "manifest"
PRODUCTION_FILE = "production.json"
"""What was asked, beside the manifest."""
SCHEMA = pa.schema(
    [
        ("class_id", pa.int64()),
        ("class_name", pa.string()),
        ("seed", pa.uint64()),
        ("index", pa.int64()),
        ("truncation", pa.float64()),
        ("model_sha256", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("origin", pa.string()),
        ("right_label", pa.bool_()),
        ("confidence", pa.float32()),
        ("realism", pa.float32()),
        ("real_distance", pa.float32()),
        ("nearest_real", pa.int64()),
        ("cluster", pa.int16()),
        ("code", pa.binary()),
    ]
)
"""What it takes to make an image again, where it lies (`file` and `row`, none when it was not kept),
and what the screen said of it (empty without one)."""
_NOTE = b"ganaug"


@dataclass(frozen=True)
class Piece:
    """What is known of a finished shard.

    Attributes:
        address: Hash of everything that determines its images; another one makes it stale.
        start: Index of the first image that was tried.
        count: Images that were to be tried.
        tried: Images that were: fewer when the last one wanted was found.
        kept: Images that are in the shard.
        files: Number of its files; 0 when nothing was kept.
        bytes: Their size.
        sha256: Hash of their contents, one after the other.
        rejected: Images rejected, by reason.
    """

    address: str
    start: int
    count: int
    tried: int
    kept: int
    files: int
    bytes: int
    sha256: str
    rejected: dict[str, int] = field(default_factory=dict)

    @property
    def is_cut(self) -> bool:
        """Whether it ends early, because all that was wanted had been found."""
        return self.tried < self.count


_PIECE = TypeAdapter(Piece)


def piece_name(unit: Unit) -> str:
    """Where the piece of a unit lies."""
    return f"{FOLDER}/{unit.name}.parquet"


def write_piece(place: Place, unit: Unit, piece: Piece, columns: Mapping[str, Any]) -> None:
    """Write a unit's piece, which marks it as finished."""
    arrays = [
        pa.array(columns[name], port.type) if name in columns else pa.nulls(piece.tried, port.type)
        for name, port in zip(SCHEMA.names, SCHEMA, strict=True)
    ]
    note = {_NOTE: json.dumps(asdict(piece), sort_keys=True, ensure_ascii=False).encode()}
    table = pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(note))
    sink = pa.BufferOutputStream()
    # The codes and hashes are bytes that do not compress; the rest nearly vanishes.
    pq.write_table(table, sink, compression="zstd", write_statistics=False)
    place.write(piece_name(unit), [memoryview(sink.getvalue())])


def read_piece(content: bytes, columns: Sequence[str]) -> tuple[Piece, pa.Table] | None:
    """A piece and these columns of its table; nothing for a file that is no piece, or damaged."""
    with contextlib.suppress(pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        file = pq.ParquetFile(pa.BufferReader(content))
        piece = _PIECE.validate_json(file.schema_arrow.metadata[_NOTE], strict=True)
        table = file.read(list(columns))
        # Also that texts are UTF-8, which Arrow otherwise finds out when they are used.
        table.validate(full=True)
        if table.num_rows == piece.tried and table.schema.equals(_part_of_schema(columns)):
            return piece, table
    return None


def _part_of_schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([SCHEMA.field(name) for name in columns])


def is_intact(place: Place, piece: Piece, names: Sequence[str]) -> bool:
    """Whether the files of a shard are there as they were written.

    Args:
        place: Where they are.
        piece: What is known of them.
        names: Their names, in order.
    """
    try:
        size, digest = place.sha256(names)
    except OSError:
        return False
    return size == piece.bytes and digest in {None, piece.sha256}
