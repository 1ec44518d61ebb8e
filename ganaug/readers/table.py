"""A CSV or Parquet table of image paths and labels."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganaug.config import DataConfig
from ganaug.errors import DatasetError, UnreadableImageError
from ganaug.readers import columns
from ganaug.readers.folder import explain, file_limit_bytes, link_refusal, read_file
from ganaug.readers.source import Item, Source, Unreadable, at_random, printable

Cells = Mapping[str, Sequence[Any]]


def list_csv(config: DataConfig) -> Source:
    """List the rows of a CSV (or TSV, or semicolon-separated) table.

    Raises:
        DatasetError: Not a table, missing columns, or a path that leaves the table's folder.
    """
    assert config.path is not None
    cells = _read_csv(config.path)
    return list_rows(config, cells, columns.choose(config, list(cells), str(config.path)))


def list_rows(
    config: DataConfig,
    cells: Cells,
    chosen: columns.Columns,
    class_names: tuple[str, ...] | None = None,
    *,
    first_line: int = 2,
) -> Source:
    """List a table whose images are files beside it.

    Args:
        config: Its `path` is the table; image paths are relative to the table's folder.
        cells: Every column that is used.
        chosen: Which column is what.
        class_names: Names of integer labels, when the table gives them.
        first_line: Number that messages give the first row.

    Raises:
        DatasetError: No rows, or a path that leaves the table's folder.
    """
    assert config.path is not None
    table, root = config.path, config.path.resolve().parent
    count = len(cells[chosen.image])
    splits, notes = [""] * count, list[str]()
    if chosen.split is not None:
        splits, notes = columns.splits_of(cells[chosen.split], chosen, str(table))
    groups = cells[chosen.group] if chosen.group is not None else [""] * count
    items: list[Item] = []
    files: list[str] = []
    unreadable: list[Unreadable] = []
    rows = zip(cells[chosen.image], chosen.labels(cells, count), splits, groups, strict=True)
    for line, (image, label, split, group) in enumerate(rows, first_line):
        path = columns.class_of(image)
        class_name = columns.class_of(label)
        if path is None:
            unreadable.append(Unreadable(f"row {line}", f"has no image path in column {chosen.image!r}"))
            continue
        relative = inside(path, root, f"{table}, row {line}")
        if class_name is None:
            reason = f"row {line} has no label in column {chosen.label!r}"
        else:
            class_name, reason = named(class_name, class_names)
            reason = reason or _missing(root / relative, root)
        if class_name is None or reason:
            unreadable.append(Unreadable(printable(relative), reason))
            continue
        files.append(relative)
        items.append(Item(printable(relative), printable(class_name), split, columns.class_of(group) or ""))
    limit = file_limit_bytes(config)
    payloads = at_random(lambda row: read_file(root / files[row], limit))
    return Source(items, payloads, unreadable, notes, class_names)


def named(label: str, class_names: Sequence[str] | None) -> tuple[str | None, str]:
    """The name of an integer label, or why it has none."""
    if class_names is None or label in class_names:
        return label, ""
    if label.isascii() and label.isdigit() and int(label[:18]) < len(class_names):
        return class_names[int(label)], ""
    if label == "-1":
        return None, "has the label -1, which stands for none"
    return None, f"has the label {label}, but there are names for 0 to {len(class_names) - 1} only"


def inside(path: str, root: Path, where: str) -> str:
    """A path as relative to the data folder, with forward slashes.

    Raises:
        DatasetError: It leaves the data folder.
    """
    plain = path.replace("\\", "/")
    if "\0" in plain:
        raise DatasetError(f"{where}: the image path {path!r} is not a path; mend the table")
    whole = os.path.normpath(root / plain)
    if not Path(whole).is_relative_to(root) or Path(whole) == root or plain[1:3] == ":/":
        raise DatasetError(
            f"{where}: the image path {path!r} leaves the data folder {root}. Image paths are relative to "
            "the folder of the table and stay inside it; move the table or the images."
        )
    return Path(whole).relative_to(root).as_posix()


def _missing(path: Path, root: Path) -> str:
    """Why a listed file cannot be read; empty when it seems to be there."""
    try:
        path.stat()
    except OSError as error:
        return explain(error)
    if os.path.realpath(path) == str(path):
        return ""
    # Links may stand anywhere on the way; what counts is where it ends.
    return link_refusal(path, root) or ""


def _read_csv(path: Path) -> dict[str, list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(100_000)
            file.seek(0)
            separator = max(",;\t", key=first.count)
            rows = list(csv.reader(file, delimiter=separator, strict=False))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not text in UTF-8 ({error}); save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise DatasetError(f"{path} is not a CSV table: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path} {explain(error)}") from error
    rows = [row for row in rows if row]
    if len(rows) < 2:
        raise DatasetError(f"{path} has no rows; a header and a row per image are expected.")
    names = [name.strip() for name in rows[0]]
    if len(set(names)) != len(names):
        raise DatasetError(f"{path} has two columns of one name: {names}; rename one.")
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise DatasetError(
                f"{path}, row {line} has {len(row)} cells, and the header has {len(names)}: {row[:6]}. "
                "Put cells that contain the separator in double quotes."
            )
    return {name: [row[k] for row in rows[1:]] for k, name in enumerate(names)}


def refuse_row(reason: str) -> bytes:
    """A payload that turns out to be unreadable.

    Raises:
        UnreadableImageError: Always.
    """
    raise UnreadableImageError(reason)
