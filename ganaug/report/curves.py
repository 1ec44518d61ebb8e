"""Training curves, thinned and sorted into plots whose curves share an axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

CURVE_POINTS = 240
"""Points kept of a curve: more than a small plot has pixels for would only make the page heavy."""


@dataclass(frozen=True)
class Curve:
    """One line of a plot: (n,) steps and values."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class PlotKind:
    """What is drawn together.

    Attributes:
        title: Its heading.
        names: What the legend calls each curve, by the curve's name; in the order drawn.
        note: How to read it, in a sentence or two.
        is_share: Whether its values are shares, which are drawn from 0 to 100 %.
        reference: Value that gets a line across the plot; None for none.
        reference_name: What the legend calls that line.
    """

    title: str
    names: Mapping[str, str]
    note: str = ""
    is_share: bool = False
    reference: float | None = None
    reference_name: str = ""


PLOTS = (
    PlotKind(
        "Losses",
        {"discriminator_loss": "discriminator", "generator_loss": "generator", "class_loss": "classes"},
        "GAN losses do not fall like a classifier's: two players learn against each other, and steady is "
        "good; a loss that explodes is not.",
    ),
    PlotKind(
        "How often the discriminator is right",
        {
            "called_real": "training images called real",
            "held_out_called_real": "held-out images called real",
            "fooled": "fakes called real",
            "prefers_real": "real image preferred to a fake",
        },
        "A discriminator that is fooled half of the time, by fakes as often as not, has nothing left to "
        "teach; one that is never fooled teaches nothing either. Where it calls held-out real images real "
        "less often than those of the training, it knows the latter by heart.",
        is_share=True,
        reference=0.5,
        reference_name="one half",
    ),
    PlotKind(
        "Overfitting and augmentation",
        {"overfitting": "overfitting", "augmented_share": "augmented share"},
        "Overfitting is how much better the discriminator tells fakes from training images than from "
        "held-out ones; the more it is, the larger a share of the images is augmented.",
        is_share=True,
    ),
    PlotKind("Discriminator scores", {"real_logit": "real", "fake_logit": "fake"}),
    PlotKind(
        "Penalties",
        {"r1": "r1", "r2": "r2", "wgan-gp": "wgan-gp", "dragan": "dragan", "lecam": "lecam"},
    ),
    PlotKind(
        "Generator's gradient",
        {"generator_gradient": "length"},
        "A gradient that fades to nothing while the discriminator is not fooled means that the generator "
        "no longer learns.",
    ),
    PlotKind(
        "Examinations",
        {
            "exam_score": "score",
            "exam_coverage": "coverage",
            "exam_diversity": "diversity",
            "exam_copies": "copies",
            "judge_score": "score",
        },
        "At an examination samples are screened as they will be after production: the score is whether "
        "enough of them pass, times how diverse they are.",
        is_share=True,
    ),
)
"""Every plot, in the order of the page; another is one entry more."""
OTHER = PlotKind("Other", {})
IN_TABLE = frozenset({"exam_passing", "exam_repeats", "exam_spread", "exam_nearness"})
"""Curves that the table of the examination tells; in a plot they would crowd the others."""


@dataclass(frozen=True)
class Plot:
    """The curves of one plot, at least one."""

    kind: PlotKind
    curves: tuple[Curve, ...]


def sort_curves(table: pd.DataFrame) -> tuple[Plot, ...]:
    """Sort the curves of one GAN into plots.

    Args:
        table: Long (`step`, `name`, `value`) or wide (`step` and a column per curve).

    Returns:
        Each plot that has any.
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
    finite = {name: rows[np.isfinite(rows["value"])] for name, rows in columns.items()}
    known = {name for kind in PLOTS for name in kind.names} | IN_TABLE
    rest = {name: name.removesuffix("_loss").replace("_", " ") for name in finite if name not in known}
    named = [*((kind, kind.names) for kind in PLOTS), (OTHER, rest)]
    plots = [
        Plot(kind, tuple(_curve(names[name], finite[name]) for name in names if len(finite.get(name, ()))))
        for kind, names in named
    ]
    return tuple(plot for plot in plots if plot.curves)


def _curve(name: str, rows: pd.DataFrame) -> Curve:
    """Thin a curve by means of equal stretches, which keep its trend where single points would not."""
    count = min(CURVE_POINTS, len(rows))
    starts = np.arange(count) * len(rows) // count
    lengths = np.diff(np.append(starts, len(rows)))

    def thinned(column: str) -> tuple[float, ...]:
        means = np.add.reduceat(rows[column].to_numpy(np.float64), starts) / lengths
        return tuple(float(f"{mean:.5g}") for mean in means)

    return Curve(name, thinned("step"), thinned("value"))
