"""What was read, how it was parted, and what was found on the way."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganaug.dataset import LabelledImages
from ganaug.run import RunFolder

UNREADABLE_SHOWN = 8
"""Unreadable files that the page names; all are in the run folder."""


@dataclass(frozen=True)
class Fact:
    """A count that splitting found, with what it means."""

    name: str
    number: int
    note: str


@dataclass(frozen=True)
class DataFacts:
    """What was read and how it was parted.

    Attributes:
        images: Readable images.
        train: Training images in use.
        test: Locked test images.
        unused: Images that a trial left out.
        image_shape: (H, W, C).
        unreadable: Files that could not be read.
        unreadable_examples: The first of them, as (path, reason).
        notes: What reading decided, in words.
        warnings: What the user should look at.
        facts: What splitting found about groups, duplicates and leaks.
        lock_sha256: Hash that locks the split.
    """

    images: int
    train: int
    test: int
    unused: int
    image_shape: tuple[int, ...]
    unreadable: int
    unreadable_examples: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: tuple[Fact, ...]
    lock_sha256: str


def read_data(run: RunFolder) -> DataFacts | None:
    """Read what the `split` step left; nothing before it is done.

    Args:
        run: The run.
    """
    record = run.record("split")
    if record is None:
        return None
    folder, summary = run.path("split"), dict(record.summary)
    data = LabelledImages.load(folder)
    splits = data.index["split"].value_counts()
    unreadable = _unreadable(folder / "unreadable.csv")
    split_tree = read_json(folder / "split.json")
    return DataFacts(
        images=len(data),
        train=int(splits.get("train", 0)),
        test=int(splits.get("test", 0)),
        unused=int(len(data) - splits.get("train", 0) - splits.get("test", 0)),
        image_shape=tuple(data.images.shape[1:]),
        unreadable=len(unreadable),
        unreadable_examples=tuple(unreadable[:UNREADABLE_SHOWN]),
        notes=tuple(map(str, summary.get("notes", []))),
        warnings=tuple(map(str, summary.get("warnings", split_tree.get("warnings", [])))),
        facts=_facts(summary),
        lock_sha256=str(split_tree.get("sha256", "")),
    )


def _facts(summary: Mapping[str, Any]) -> tuple[Fact, ...]:
    """What splitting found about groups, duplicates and leaks; older runs may lack some of it."""
    facts = []
    if "groups" in summary:
        origin = "given with the data" if summary.get("explicit_groups") else "found by likeness"
        if summary.get("file_names_group"):
            origin = "found by likeness and by file names"
        reason = str(summary.get("file_names_reason", ""))
        note = origin if summary.get("explicit_groups") or not reason else f"{origin}; file names: {reason}"
        facts.append(Fact("Groups that no split cuts", int(summary["groups"]), note))
    if "duplicate_sets" in summary:
        images, exact = summary.get("images_in_duplicate_sets", 0), summary.get("exact_duplicate_images", 0)
        note = f"{images:,} images, {exact:,} of them exact copies; each set stands on one side"
        facts.append(Fact("Sets of near-duplicates", int(summary["duplicate_sets"]), note))
    if "leaks_removed" in summary:
        note = "training images too like the given test images"
        facts.append(Fact("Leaks removed", int(summary["leaks_removed"]), note))
    return tuple(facts)


def _unreadable(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["path"], row["reason"]) for row in csv.DictReader(file)]


def read_json(path: Path) -> dict[str, Any]:
    """Read a table from a JSON file; empty where the file is missing."""
    if not path.is_file():
        return {}
    tree = json.loads(path.read_text(encoding="utf-8"))
    return tree if isinstance(tree, dict) else {}
