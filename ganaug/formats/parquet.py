"""Parquet that Hugging Face `datasets` opens as images with class labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ganaug.formats.container import DATA, Chunk, Format, Shard, in_one_file, shard_path

SUFFIX = ".parquet"
ROW_GROUP = 1000
ROW_GROUP_BYTES = 128 * 2**20

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _pack(shard: Shard, files: list[bytes], suffix: str) -> Iterator[tuple[str, list[Chunk]]]:
    schema = _schema(shard.class_names)
    sink = pa.BufferOutputStream()
    writer = pq.ParquetWriter(
        sink,
        schema,
        # Encoded images do not compress, and no two are alike.
        compression={"image.bytes": "none", "image.path": "zstd", "label": "zstd", "index": "zstd"},
        use_dictionary=["label"],
        write_statistics=["label", "index"],
    )
    largest = max(map(len, files), default=1)
    step = max(1, min(ROW_GROUP, ROW_GROUP_BYTES // largest))
    with writer:
        for start in range(0, len(files), step):
            group = slice(start, start + step)
            index = shard.index[group]
            names = [f"{number:09d}{suffix}".encode() for number in index.tolist()]
            image = pa.StructArray.from_arrays(
                [_binary(files[group], pa.binary()), _binary(names, pa.string())], fields=list(_IMAGE)
            )
            label = np.full(len(index), shard.class_id)
            table = pa.Table.from_arrays([image, _int64(label), _int64(index)], schema=schema)
            writer.write_table(table, row_group_size=step)
    yield shard_path(shard, SUFFIX), [memoryview(sink.getvalue())]


def _schema(class_names: tuple[str, ...]) -> pa.Schema:
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(class_names), "_type": "ClassLabel"},
        "index": {"dtype": "int64", "_type": "Value"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([("image", _IMAGE), ("label", pa.int64()), ("index", pa.int64())], metadata=metadata)


# From buffers: pa.array would import pandas, to see whether it was handed something of it.
def _binary(values: Sequence[bytes], kind: pa.DataType) -> pa.Array:
    ends = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(value) for value in values], out=ends[1:])
    return pa.Array.from_buffers(
        kind, len(values), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(values))]
    )


def _int64(values: npt.NDArray[np.int64]) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(values, np.int64))
    return pa.Array.from_buffers(pa.int64(), len(values), [None, buffer])


def _members(content: bytes) -> Iterator[bytes]:
    file = pq.ParquetFile(pa.BufferReader(content))
    for batch in file.iter_batches(ROW_GROUP, columns=["image.bytes"]):
        for image in batch.column(0).field(0):
            yield image.as_py()


PARQUET = Format(("png", "jpeg", "webp", "raw"), _pack, in_one_file(SUFFIX), _members, f"{DATA}/*{SUFFIX}")
