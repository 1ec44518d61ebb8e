"""Which pictures the page shows: nobody picks them, and they never fill more than their budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ganaug.dataset import Images
from ganaug.report.collect import ClassRow
from ganaug.report.sheets import Picture, RealImages, evenly, load_images, load_table, picture
from ganaug.run import STEP_FILE
from ganaug.screen import KEPT_FILE, REAL_COPY, REJECTED_FILE, REJECTED_INDEX_FILE, SCREENED_FILE

BUDGET_BYTES = 2_800_000
"""Text of all samples together; with the rejected ones the page stays under 5 MB."""
REJECTED_BUDGET_BYTES = 900_000
ERRORS_BUDGET_BYTES = 500_000
MOST_CLASSES = 24
MOST_SAMPLES = 24
"""Images of a kind per class, whatever the settings ask: so many always fit the budget."""
REJECTED_SHOWN = 8
"""Rejected images shown per reason."""


@dataclass(frozen=True)
class Pair:
    """A synthetic image over the real training image that is nearest to it.

    Attributes:
        synthetic: The synthetic image.
        nearest: The nearest real training image; None where it is not known.
        distance: Root mean square difference of the two, pixels in 0..1.
        class_name: The class that it was made for.
        confidence: Least probability that a screening classifier gave that class.
    """

    synthetic: Picture
    nearest: Picture | None
    distance: float | None
    class_name: str
    confidence: float | None

    @property
    def bytes(self) -> int:
        """Characters that it takes in the page."""
        return len(self.synthetic.source) + (len(self.nearest.source) if self.nearest else 0)


@dataclass(frozen=True)
class ClassSamples:
    """What is shown of one class."""

    row: ClassRow
    real: tuple[Picture, ...]
    pairs: tuple[Pair, ...]

    @property
    def bytes(self) -> int:
        """Characters that it takes in the page."""
        return sum(len(one.source) for one in self.real) + sum(pair.bytes for pair in self.pairs)


@dataclass(frozen=True)
class Samples:
    """All pictures of the page.

    Attributes:
        classes: Samples of the classes shown.
        classes_total: Screened classes, shown or not.
        rejected: (reason, rejected images) of every reason that has any.
        errors: Test images that an arm gets wrong, by their row among the test images.
    """

    classes: tuple[ClassSamples, ...]
    classes_total: int
    rejected: tuple[tuple[str, tuple[Pair, ...]], ...]
    errors: Mapping[int, Picture] = field(default_factory=dict)


def gather(
    run_folder: Path,
    classes: Sequence[ClassRow],
    reasons: Sequence[str],
    count: int,
    budget_bytes: int = BUDGET_BYTES,
    *,
    error_rows: Sequence[int] = (),
) -> Samples:
    """Choose and embed the pictures of a run.

    Args:
        run_folder: The run; its `split` and `screen` folders are read.
        classes: The classes; those that are wanted and screened are shown.
        reasons: Reasons of rejection, in order.
        count: Synthetic images shown per class.
        budget_bytes: What the samples of all classes may take in the page.
        error_rows: Rows among the test images of those to be shown as errors.

    Returns:
        The samples, as many classes and errors as their budgets allow.
    """
    if not (run_folder / "split" / STEP_FILE).is_file():
        return Samples((), 0, ())
    real = RealImages.load(run_folder / "split")
    errors = _errors(real, error_rows)
    screened = [
        row for row in classes if row.is_wanted and (run_folder / "screen" / row.part / STEP_FILE).is_file()
    ]
    if not screened:
        return Samples((), 0, (), errors)
    shown: list[ClassSamples] = []
    spent = 0
    for row in screened[:MOST_CLASSES]:
        samples = _class_samples(run_folder / "screen" / row.part, real, row, min(count, MOST_SAMPLES))
        if spent + samples.bytes > budget_bytes:
            break
        spent += samples.bytes
        shown.append(samples)
    return Samples(tuple(shown), len(screened), _rejected(run_folder, real, screened, reasons), errors)


def _errors(real: RealImages, rows: Sequence[int]) -> dict[int, Picture]:
    """Pictures of test images, until their budget is spent."""
    found, spent = {}, 0
    test_rows = np.flatnonzero(real.data.index["split"].to_numpy() == "test")
    for row in rows:
        shown = picture(np.asarray(real.data.images[test_rows[row]]))
        spent += len(shown.source)
        if spent > ERRORS_BUDGET_BYTES:
            break
        found[row] = shown
    return found


def _class_samples(folder: Path, real: RealImages, row: ClassRow, count: int) -> ClassSamples:
    images = load_images(folder / KEPT_FILE)
    table = load_table(folder / SCREENED_FILE)
    kept = table[table["kept"]].reset_index(drop=True)
    pairs = tuple(
        _pair(np.asarray(images[at]), kept.iloc[at], real, row.class_name)
        for at in evenly(len(images), count)
    )
    return ClassSamples(row, tuple(map(picture, real.examples(row.class_id, count))), pairs)


def _rejected(
    run_folder: Path, real: RealImages, classes: Sequence[ClassRow], reasons: Sequence[str]
) -> tuple[tuple[str, tuple[Pair, ...]], ...]:
    """Examples per reason, taken from the classes in turn until there are enough."""
    per_reason: dict[str, list[list[tuple[Images, pd.Series, str]]]] = {reason: [] for reason in reasons}
    for row in classes:
        images = load_images(run_folder / "screen" / row.part / REJECTED_FILE)
        table = load_table(run_folder / "screen" / row.part / REJECTED_INDEX_FILE).reset_index(drop=True)
        for reason in set(table.get("reason", [])) & set(reasons):
            chosen = np.flatnonzero(table["reason"].to_numpy() == reason)[:REJECTED_SHOWN]
            found = [(np.asarray(images[at]), table.iloc[at], row.class_name) for at in chosen]
            per_reason[reason].append(found)
    shown, spent = [], 0
    for reason, by_class in per_reason.items():
        pairs: list[Pair] = []
        for image, values, name in _in_turn(by_class)[:REJECTED_SHOWN]:
            # Which kept image a copy of a synthetic one repeats is not recorded.
            pair = _pair(image, values, real if reason == REAL_COPY else None, name)
            spent += pair.bytes
            if spent < REJECTED_BUDGET_BYTES:
                pairs.append(pair)
        if pairs:
            shown.append((reason, tuple(pairs)))
    return tuple(shown)


def _in_turn(lists: Sequence[list[tuple[Images, pd.Series, str]]]) -> list[tuple[Images, pd.Series, str]]:
    longest = max(map(len, lists), default=0)
    return [items[at] for at in range(longest) for items in lists if at < len(items)]


def _pair(image: Images, values: pd.Series, real: RealImages | None, class_name: str) -> Pair:
    row = _number(values.get("nearest_real"))
    has_nearest = real is not None and row is not None and 0 <= row < len(real.train_rows)
    return Pair(
        picture(image),
        picture(real.nearest(int(row))) if real and row is not None and has_nearest else None,
        _number(values.get("real_distance")),
        class_name,
        _number(values.get("confidence")),
    )


def _number(value: object) -> float | None:
    number = float(value) if isinstance(value, int | float | np.number) else float("nan")
    return number if np.isfinite(number) else None
