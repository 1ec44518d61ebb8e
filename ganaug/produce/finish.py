"""What a finished production shows of itself: the dataset card and sheets of samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ganaug
from ganaug.formats import ProducedAbout, ProducedClass, ProducedModel, dataset_card
from ganaug.places import Place
from ganaug.produce import manifest
from ganaug.produce.order import class_prefix
from ganaug.produce.source import Source
from ganaug.produce.tally import Tally
from ganaug.sample_sheet import COLUMNS, MOST_ROWS, sample_sheet

CARD_FILE = "README.md"
KEPT_SHEET, REJECTED_SHEET = "sheets/kept.png", "sheets/rejected.png"
_PIECES = 4
"""Shards of a class that samples are taken from: a rare reason is not looked for to the end."""

_Address = tuple[str, int]
"""Class name and index."""


def finish(place: Place, about: Mapping[str, Any], classes: Mapping[str, Tally], source: Source) -> None:
    """Write the dataset card and the sheets; the same production leaves the same bytes."""
    kept, rejected = _samples(place, about, classes)
    sheets = []
    for title, name, rows in (
        ("Samples", KEPT_SHEET, kept),
        ("Rejected, by reason", REJECTED_SHEET, rejected),
    ):
        if rows:
            images = {
                row: (source.make(class_name, index, 1)[0] for class_name, index in addresses)
                for row, addresses in rows.items()
            }
            place.write(name, [sample_sheet(images)])
            sheets.append(f"\n## {title}\n\n![{title}]({name})\n")
        else:
            place.remove(name)
    layout = about["layout"]
    made = ProducedAbout(
        title=about["title"],
        license=about["license"],
        format=layout["format"],
        encoding=layout["encoding"] or "none",
        image_shape=source.image_shape,
        seed=about["seed"],
        classes=[_class_row(name, about, tally) for name, tally in classes.items() if tally.tried],
        ganaug=ganaug.__version__,
        is_found=source.available(source.able[0]) is not None,
    )
    place.write(CARD_FILE, [(dataset_card(made) + "".join(sheets)).encode()])


def _class_row(name: str, about: Mapping[str, Any], tally: Tally) -> ProducedClass:
    model = about["models"][name]
    return ProducedClass(
        class_name=name,
        kept=tally.kept,
        model=ProducedModel(model["name"], model["version"], model["sha256"], model["verdict"]),
        truncation=about["truncation"],
        tried=tally.tried,
        rejected=dict(sorted(tally.rejected.items())),
    )


def _samples(
    place: Place, about: Mapping[str, Any], classes: Mapping[str, Tally]
) -> tuple[dict[str, list[_Address]], dict[str, list[_Address]]]:
    """The first images of each class, and of each reason for which images were rejected."""
    kept: dict[str, list[_Address]] = {}
    rejected: dict[str, list[_Address]] = {}
    names = place.names(manifest.FOLDER)
    for name in [name for name, tally in classes.items() if tally.tried][:MOST_ROWS]:
        prefix = class_prefix(about["class_names"].index(name), name)
        own = [file for file in names if file.startswith(prefix)]
        for index, reason in _rows(place, own[:_PIECES]):
            rows = rejected.setdefault(reason, []) if reason else kept.setdefault(name, [])
            if len(rows) < COLUMNS:
                rows.append((name, index))
    return kept, dict(sorted(rejected.items()))


def _rows(place: Place, files: Sequence[str]) -> Iterator[tuple[int, str]]:
    for file in files:
        found = manifest.read_piece(place.read(f"{manifest.FOLDER}/{file}"), ["index", "reason"])
        if found is not None:
            table = found[1].to_pydict()
            yield from zip(table["index"], table["reason"], strict=True)
