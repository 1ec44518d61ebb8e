"""Parquet files: images inside (as Hugging Face writes them), or a table of paths."""

from __future__ import annotations

import bisect
import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ganaug.config import DataConfig
from ganaug.errors import DatasetError, UnsafeArchiveError
from ganaug.readers import columns
from ganaug.readers.folder import file_limit_bytes, too_large
from ganaug.readers.layout import SPLITS, natural_key
from ganaug.readers.source import BROKEN, Held, Item, Load, Source, Unreadable, printable
from ganaug.readers.table import list_rows, named, refuse_row

# Rows taken into memory at once; the images of one row group are decoded from here.
_BATCH_ROWS = 64

_SPLIT_IN_NAME = re.compile(rf"({'|'.join(SPLITS)})(?=[-_.]|$)", re.IGNORECASE)


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a dataset folder: in it, in `data/`, or one folder deeper."""
    found = {path for pattern in ("*.parquet", "*/*.parquet") for path in folder.glob(pattern)}
    return sorted(
        (path for path in found if path.is_file() and not path.name.startswith(".")),
        key=lambda path: natural_key(path.relative_to(folder).as_posix()),
    )


def list_parquet(config: DataConfig) -> Source:
    """List one Parquet file: image bytes in a column, or image paths.

    Raises:
        DatasetError: Broken, columns missing, or of other types.
    """
    assert config.path is not None
    with _opened(config.path) as file:
        schema = file.schema_arrow
        chosen = columns.choose(config, schema.names, str(config.path), _image_columns(schema))
        if _holds_images(schema.field(chosen.image).type):
            return _list_images(config, [(config.path, config.path.name, "")], chosen)
        _check_paths(config.path, schema.field(chosen.image))
        wanted = [chosen.image, chosen.label, chosen.split, chosen.group]
        with _explained(config.path):
            table = file.read(columns=[name for name in wanted if name is not None])
            cells = {name: table[name].to_pylist() for name in table.column_names}
        return list_rows(config, cells, chosen, _class_names(schema, chosen.label), first_line=1)


def list_parquet_folder(config: DataConfig) -> Source:
    """List a folder of Hugging Face style image Parquets; splits are in the file names.

    Raises:
        DatasetError: Broken, columns missing, or of other types.
    """
    assert config.path is not None
    paths = parquet_files(config.path)
    for path in paths:
        if not path.resolve().is_relative_to(config.path.resolve()):
            raise DatasetError(f"{path} is a link out of the data folder; copy the file instead")
    # Tables may lie beside the images, such as the manifest of origins that ganaug writes.
    with_images: list[tuple[Path, pa.Schema]] = []
    others: list[tuple[Path, pa.Schema]] = []
    for path in paths:
        with _opened(path) as file:
            schema = file.schema_arrow
        is_named = config.image_column in ("auto", *schema.names)
        (with_images if is_named and _image_columns(schema) else others).append((path, schema))
    if not with_images:
        raise DatasetError(
            f"{paths[0]} has the columns {others[0][1].names}, and none of images. A folder of Parquets needs "
            "a column image{bytes, path}; for a table of image paths, give the table itself."
        )
    path, schema = with_images[0]
    chosen = columns.choose(config, schema.names, str(path), _image_columns(schema))
    parts = []
    for path, _ in with_images:
        name = path.relative_to(config.path).as_posix()
        match = _SPLIT_IN_NAME.match(path.name)
        parts.append((path, name, SPLITS[match[1].casefold()] if match else ""))
    source = _list_images(config, parts, chosen)
    if others:
        names = ", ".join(path.name for path, _ in others[:5])
        source.notes.append(f"{len(others)} Parquet files without images were ignored ({names})")
    return source


def _list_images(
    config: DataConfig, parts: Sequence[tuple[Path, str, str]], chosen: columns.Columns
) -> Source:
    """List the rows of files with images inside; reads no image."""
    items: list[Item] = []
    places: list[tuple[int, int]] = []
    unreadable: list[Unreadable] = []
    notes: list[str] = []
    names: tuple[str, ...] | None = None
    for part, (path, name, split) in enumerate(parts):
        with _opened(path) as file:
            _check_size(path, file, config)
            cells = _listing_cells(path, file, chosen)
            names = _same_names(path, names, _class_names(file.schema_arrow, chosen.label), part)
        labels = chosen.labels(cells, len(cells["path"]))
        splits = [split] * len(labels)
        if chosen.split is not None:
            splits, notes = columns.splits_of(cells[chosen.split], chosen, str(path))
        for row, label in enumerate(labels):
            # The row keeps paths apart; the file's own name comes last, for group patterns.
            own = str(cells["path"][row] or "").replace("\\", "/").rsplit("/", 1)[-1]
            where = printable(f"{name}/{row:06d}" + (f"/{own}" if own else ""))
            class_name = columns.class_of(label)
            reason = f"has no label in column {chosen.label!r}"
            if class_name is not None:
                class_name, reason = named(class_name, names)
            if class_name is None:
                unreadable.append(Unreadable(where, reason))
                continue
            group = columns.class_of(cells[chosen.group][row]) if chosen.group is not None else None
            items.append(Item(where, printable(class_name), splits[row], printable(group or "")))
            places.append((part, row))
    paths = [path for path, _, _ in parts]
    payloads = partial(_payloads, paths, places, chosen.image, file_limit_bytes(config))
    return Source(items, payloads, unreadable, notes, names)


def _payloads(
    paths: list[Path], places: list[tuple[int, int]], column: str, limit_bytes: int, rows: Sequence[int]
) -> Iterator[tuple[int, Load]]:
    """Images of the wanted rows; row groups without any are skipped."""
    wanted: dict[int, dict[int, int]] = {}
    for row in rows:
        part, inner = places[row]
        wanted.setdefault(part, {})[inner] = row
    for part, inner_rows in wanted.items():
        ascending = sorted(inner_rows)
        with _opened(paths[part]) as file:
            start = 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                # The rows ascend, so that one search tells whether the group has any of them.
                first = bisect.bisect_left(ascending, start)
                if first < len(ascending) and ascending[first] < start + count:
                    with _explained(paths[part]):
                        yield from _group_payloads(file, group, start, inner_rows, column, limit_bytes)
                start += count


def _group_payloads(
    file: pq.ParquetFile, group: int, start: int, wanted: dict[int, int], column: str, limit_bytes: int
) -> Iterator[tuple[int, Load]]:
    for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[column]):
        cells = batch.column(0)
        images = _field(cells, "bytes") if pa.types.is_struct(cells.type) else cells
        for k, data in enumerate(images.to_pylist()):
            row = wanted.get(start + k)
            if row is None:
                continue
            if data is None:
                yield row, partial(refuse_row, "has no image bytes")
            elif len(data) > limit_bytes:
                yield row, partial(refuse_row, too_large(len(data), limit_bytes))
            else:
                yield row, Held(data)
        start += len(cells)


def _field(structs: pa.StructArray, name: str) -> pa.Array:
    """One field of a struct column; null where the whole struct is, which `field` would miss."""
    return structs.flatten()[structs.type.get_field_index(name)]


def _opened(path: Path) -> pq.ParquetFile:
    with _explained(path):
        return pq.ParquetFile(path)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except DatasetError:
        raise
    except PermissionError as error:
        raise DatasetError(f"{path} may not be read: no permission") from error
    except (pa.ArrowException, *BROKEN) as error:
        raise DatasetError(f"{path} is not a Parquet file, or is damaged: {error}") from error


def _listing_cells(path: Path, file: pq.ParquetFile, chosen: columns.Columns) -> dict[str, list[Any]]:
    schema = file.schema_arrow
    used = [name for name in (chosen.label, chosen.split, chosen.group) if name is not None]
    missing = [name for name in (chosen.image, *used) if name not in schema.names]
    if missing:
        raise DatasetError(f"{path} lacks the columns {missing}; it has {schema.names}")
    image_type = schema.field(chosen.image).type
    has_path = pa.types.is_struct(image_type) and image_type.get_field_index("path") >= 0
    with _explained(path):
        table = file.read(columns=[*used, *([f"{chosen.image}.path"] if has_path else [])])
        cells = {name: table[name].to_pylist() for name in used}
        cells["path"] = [None] * table.num_rows
        if has_path:
            chunks = table[chosen.image].chunks
            cells["path"] = [path for chunk in chunks for path in _field(chunk, "path").to_pylist()]
    return cells


def _check_paths(path: Path, field: pa.Field) -> None:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise DatasetError(
            f"{path}: column {field.name!r} is {field.type}; images are a column of image{{bytes, path}}, of "
            "encoded bytes, or of paths. Name another with --data.image-column."
        )


def _check_size(path: Path, file: pq.ParquetFile, config: DataConfig) -> None:
    groups = (file.metadata.row_group(k).total_byte_size for k in range(file.num_row_groups))
    total = sum(groups)
    if total > config.max_unpacked_bytes:
        raise UnsafeArchiveError(
            f"{path} unpacks to {total:,} bytes, more than data.max_unpacked_bytes "
            f"({config.max_unpacked_bytes:,}). Raise that setting if the file is really so large."
        )


def _image_columns(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if _holds_images(field.type)]


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _class_names(schema: pa.Schema, label: str | None) -> tuple[str, ...] | None:
    """Names of integer labels, from what Hugging Face `datasets` notes in the schema."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = noted["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(names, list) or not names:
        return None
    return tuple(printable(str(name)) for name in names)


def _same_names(
    path: Path, known: tuple[str, ...] | None, new: tuple[str, ...] | None, part: int
) -> tuple[str, ...] | None:
    if part > 0 and known != new:
        raise DatasetError(
            f"{path} names its classes {new}, and the files before it {known}; make them agree"
        )
    return new
