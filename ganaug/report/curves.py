"""Training curves, thinned and sorted into panels whose curves share an axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ganaug.report.sheets import load_table
from ganaug.run import RunFolder

MOST_GANS = 12
"""GANs whose curves are drawn; the others stay in the run folder."""
CURVE_POINTS = 240
"""Points kept of a curve: more than a small plot has pixels for would only make the page heavy."""


@dataclass(frozen=True)
class Curve:
    """One line of a plot: (n,) steps and values."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class GanCurves:
    """The training of one GAN.

    Attributes:
        title: The class it serves, or that it is the base.
        recipe: Its family, and why.
        steps: Training steps; 0 where not recorded.
        seconds: Time that they took.
        best_step: The step whose weights were kept; None where it was the last.
        panels: (title, curves) of each plot.
    """

    title: str
    recipe: str
    steps: int
    seconds: float
    best_step: int | None
    panels: tuple[tuple[str, tuple[Curve, ...]], ...]


def read_gans(run: RunFolder, classes: Mapping[str, str]) -> tuple[tuple[GanCurves, ...], int]:
    """Read the curves of the first trained GANs, the base before all.

    Args:
        run: The run.
        classes: Name of each wanted class by its part.

    Returns:
        The curves of up to `MOST_GANS`, and how many were trained.
    """
    titles = {"base": "Base, all classes", **classes}
    trained = [part for part in titles if run.record("train", part) is not None]
    found = []
    for part in trained[:MOST_GANS]:
        record = run.record("train", part)
        if record is None:
            continue
        panels = sort_curves(load_table(run.path("train", part) / "curves.parquet"))
        summary: dict[str, Any] = record.summary
        best = summary.get("best_step")
        found.append(
            GanCurves(
                titles[part],
                recipe=", ".join(str(summary[key]) for key in ("recipe", "why") if summary.get(key)),
                steps=int(summary.get("steps") or 0),
                seconds=record.seconds,
                best_step=int(best) if best is not None else None,
                panels=panels,
            )
        )
    return tuple(found), len(trained)


_PANELS = (
    ("Losses", ("loss",)),
    ("Real image preferred", ("prefers", "accuracy")),
    ("Discriminator scores", ("logit",)),
    ("Gradient penalties", ("r1", "r2", "penalty")),
    ("Class score", ("judge", "score", "right")),
)
_OTHER_PANEL = "Other"


def sort_curves(table: pd.DataFrame) -> tuple[tuple[str, tuple[Curve, ...]], ...]:
    """Sort the curves of one GAN into panels.

    Args:
        table: Long (`step`, `name`, `value`) or wide (`step` and a column per curve).

    Returns:
        (title, curves) of each panel that has any.
    """
    if "step" not in table:
        return ()
    if {"name", "value"} <= set(table.columns):
        columns = {
            str(name): rows.sort_values("step")[["step", "value"]] for name, rows in table.groupby("name")
        }
    else:
        columns = {
            name: table[["step", name]].dropna().set_axis(["step", "value"], axis=1)
            for name in table.columns.drop("step")
            if pd.api.types.is_numeric_dtype(table[name])
        }
    panels: dict[str, list[Curve]] = {title: [] for title in (*(title for title, _ in _PANELS), _OTHER_PANEL)}
    for name, rows in columns.items():
        finite = rows[np.isfinite(rows["value"])]
        if len(finite):
            panels[_panel_of(name)].append(_curve(name, finite))
    return tuple((title, tuple(curves)) for title, curves in panels.items() if curves)


def _panel_of(name: str) -> str:
    for title, words in _PANELS:
        if any(word in name for word in words):
            return title
    return _OTHER_PANEL


def _curve(name: str, rows: pd.DataFrame) -> Curve:
    """Thin a curve by means of equal stretches, which keep its trend where single points would not."""
    count = min(CURVE_POINTS, len(rows))
    starts = np.arange(count) * len(rows) // count
    lengths = np.diff(np.append(starts, len(rows)))

    def thinned(column: str) -> list[float]:
        means = np.add.reduceat(rows[column].to_numpy(np.float64), starts) / lengths
        return [float(f"{mean:.5g}") for mean in means]

    title = name.removeprefix("judge_").removesuffix("_loss").replace("_", " ")
    return Curve(title, tuple(thinned("step")), tuple(thinned("value")))
