"""Which columns of a table are images, labels, splits and groups, and what their cells mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganaug.config import DataConfig
from ganaug.errors import DatasetError
from ganaug.readers.layout import SPLITS
from ganaug.readers.source import UNLABELLED

IMAGE_NAMES = [
    "image",
    "image_path",
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "img",
    "img_path",
    "image_file",
    "image_name",
    "image_filename",
    "images",
]
LABEL_NAMES = [
    "label",
    "class",
    "class_name",
    "classname",
    "target",
    "category",
    "labels",
    "class_label",
    "label_name",
    "species",
    "diagnosis",
    "dx",
    "class_id",
    "label_id",
    "y",
    "fine_label",
]
SPLIT_NAMES = ["split", "subset", "fold", "partition", "set", "dataset_split"]
GROUP_NAMES = [
    "group",
    "patient",
    "patient_id",
    "photograph",
    "photo",
    "subject",
    "subject_id",
    "group_id",
    "case_id",
    "lesion_id",
    "slide",
    "scene",
]


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of a table's columns; None for an optional one that is not there, or not asked for.

    `is_split_named` tells that the user chose the split column: its cells must then be splits.
    """

    image: str
    label: str | None
    split: str | None
    group: str | None
    is_split_named: bool

    def labels(self, cells: Mapping[str, Sequence[Any]], count: int) -> Sequence[Any]:
        """The label of each of `count` rows."""
        return [UNLABELLED] * count if self.label is None else cells[self.label]


def choose(config: DataConfig, names: Sequence[str], source: str, images: Sequence[str] = ()) -> Columns:
    """Settle the columns from the settings, else by their names; without labels the images alone.

    Args:
        config: May name any of the four.
        names: The table's columns.
        source: Name of the table, for messages.
        images: Columns that hold images by their type; tried before names.

    Raises:
        DatasetError: A named column is missing, or images or labels cannot be guessed.
    """
    image = _one("image", config.image_column, names, images if len(images) == 1 else IMAGE_NAMES, source)
    if config.label_column is None and image is not None:
        return Columns(image, None, None, None, is_split_named=False)
    label = _one("label", config.label_column or "auto", names, LABEL_NAMES, source)
    split = _one("split", config.split_column, names, SPLIT_NAMES, source)
    group = _one("group", config.group_column, names, GROUP_NAMES, source)
    if image is None or label is None:
        what = "image" if image is None else "label"
        raise DatasetError(
            f"{source}: no column looks like the {what}s. It has the columns {list(names)}; name the right "
            f"one with --data.{what}-column."
        )
    if image == label:
        raise DatasetError(f"{source}: column {image!r} cannot be both the images and the labels")
    return Columns(image, label, split, group, config.split_column != "auto")


def class_of(cell: object) -> str | None:
    """A label's class name; None when it is empty."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    name = str(cell).strip()
    return None if name in {"", "nan", "NaN"} else name


def splits_of(cells: Sequence[object], columns: Columns, source: str) -> tuple[list[str], list[str]]:
    """Splits of all rows, and notes.

    Raises:
        DatasetError: The user named the column, and it holds something else than splits.
    """
    texts = [class_of(cell) or "" for cell in cells]
    unknown = next((text for text in texts if text and text.casefold() not in SPLITS), None)
    if unknown is None:
        return [SPLITS.get(text.casefold(), "") for text in texts], []
    if columns.is_split_named:
        raise DatasetError(
            f"{source}: the split column {columns.split!r} holds {unknown!r}; allowed are train, val, test "
            "(or training, valid, validation, testing), or nothing. Mend it, or name another column with "
            "--data.split-column."
        )
    note = f"the column {columns.split!r} is not used as the split: it holds {unknown!r}"
    return [""] * len(texts), [note]


def _one(what: str, setting: str, names: Sequence[str], guesses: Sequence[str], source: str) -> str | None:
    if setting != "auto":
        if setting not in names:
            raise DatasetError(
                f"{source} has no column {setting!r} (--data.{what}-column). It has {list(names)}."
            )
        return setting
    for guess in guesses:
        for name in names:
            if name == guess or name.strip().casefold().replace(" ", "_").replace("-", "_") == guess:
                return name
    return None
