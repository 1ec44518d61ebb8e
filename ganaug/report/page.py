"""The page: values and plots put into the template, every text of the user's escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import ganaug
from ganaug.report import figures
from ganaug.report.amounts import Amounts
from ganaug.report.arena import MEASURES, MORE_MEASURES, Arena, Estimate
from ganaug.report.collect import RecallChange, Report
from ganaug.report.gans import MARKS
from ganaug.report.samples import Samples

VERDICTS = {
    "helps": ("The synthetic images help", "good", "↑"),
    "no difference": ("The synthetic images make no difference", "even", "="),
    "hurts": ("The synthetic images hurt", "bad", "↓"),
    "cannot tell": ("It cannot be told whether they help", "open", "?"),
}
"""Headline, CSS class and sign of each verdict."""


def render(report: Report, samples: Samples) -> str:
    """Fill the template.

    Args:
        report: The values.
        samples: The pictures.

    Returns:
        The page as HTML.
    """
    # autoescape for every template, whatever its suffix: class names and paths are the user's.
    environment = Environment(
        loader=PackageLoader("ganaug.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template("page.html.j2").render(
        report=report,
        samples=samples,
        figures=figures,
        measures=MEASURES | MORE_MEASURES,
        marks=MARKS,
        verdicts=VERDICTS,
        style=Markup(resources.files("ganaug.report").joinpath("page.css").read_text("utf-8")),  # noqa: S704
        version=ganaug.__version__,
        written=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
        axes=_axes(report),
        estimate=Estimate,
        baseline=Estimate(0.0),
        change_axis=_change_axis(report.arena) if report.arena else None,
        arms_axis=_arms_axis(report.arena) if report.arena else None,
        recall_axis=_recall_axis(report.recall_changes),
        amounts_axis=_amounts_axis(report.amounts) if report.amounts else None,
    )


def _axes(report: Report) -> dict[str, figures.Axis]:
    """One axis per measure, shared by all arms."""
    if report.arena is None:
        return {}
    arena = report.arena
    axes = {}
    for number, measured in enumerate(arena.arms[0].measures if arena.arms else ()):
        values = [value for arm in arena.arms for value in _reach(arm.measures[number].mean)]
        values += [seed for arm in arena.arms for seed in arm.measures[number].seeds]
        axes[measured.name] = figures.axis_for(values, is_share=True)
    return axes


def _change_axis(arena: Arena) -> figures.Axis:
    """The axis of the verdict's plot: all changes, and zero."""
    reach = [value for change in arena.changes for value in _reach(change.difference)]
    return figures.axis_for([*reach, -arena.margin, arena.margin], around_zero=True)


def _arms_axis(arena: Arena) -> figures.Axis:
    """The axis of the arms' differences to the best arm without synthetic images."""
    reach = [value for arm in arena.arms if arm.difference for value in _reach(arm.difference)]
    return figures.axis_for([*reach, -arena.margin, arena.margin], around_zero=True)


def _recall_axis(changes: Sequence[RecallChange]) -> figures.Axis:
    """The axis of the recalls before and after."""
    return figures.axis_for(
        [value for row in changes for value in (row.before, row.after)], least=0.1, is_share=True
    )


def _amounts_axis(amounts: Amounts) -> figures.Axis:
    """The axis of the gains on validation folds."""
    return figures.axis_for([gain for one in amounts.candidates for gain in one.gains], around_zero=True)


def _reach(estimate: Estimate) -> list[float]:
    return [value for value in (estimate.value, estimate.low, estimate.high) if value is not None]


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage; a dash where there is none."""
    return "\u2013" if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f}%"


def points(difference: float | None, digits: int = 1) -> str:
    """A difference of shares in signed percentage points, with a true minus sign."""
    if difference is None or not math.isfinite(difference):
        return "\u2013"
    text = f"{100 * difference:+.{digits}f}"
    return (text[1:] if float(text) == 0 else text).replace("-", "\u2212")


def ratio(value: float | None) -> str:
    """A ratio with two digits after the point; a dash where there is none.

    >>> ratio(1.0623)
    '1.06'
    """
    return "\u2013" if value is None or not math.isfinite(value) else f"{value:.2f}"


def interval(estimate: Estimate) -> str:
    """The ends of a difference's interval in points, or nothing."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{points(estimate.low)} to {points(estimate.high)}"


def level(estimate: Estimate) -> str:
    """The ends of a share's interval in percent, or nothing; no share lies outside 0 to 100."""
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = (100 * min(1.0, max(0.0, end)) for end in (estimate.low, estimate.high))
    return f"{low:.1f} to {high:.1f}%"


def ends(estimate: Estimate) -> str:
    """The ends of a share's interval, short enough for a narrow column."""
    return level(estimate).removesuffix("%").replace(" to ", "\u2013")


def decimal(number: float | None) -> str:
    """A mean of counts; a dash where there is none.

    >>> decimal(17.5)
    '17.5'
    """
    return "\u2013" if number is None or not math.isfinite(number) else f"{number:.1f}"


def arm_name(name: str) -> str:
    """An arm's name with room to break lines.

    >>> arm_name("oversampling+albumentations")
    'oversampling + albumentations'
    """
    return " + ".join(part.strip() for part in name.split("+"))


def count(number: int) -> str:
    """A count with commas between thousands."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """A time in the unit that reads best.

    >>> [duration(s) for s in (0.21, 42.4, 200, 4000)]
    ['0.2 s', '42 s', '3 min 20 s', '1 h 7 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "under 0.1 s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def memory(size_bytes: int) -> str:
    """A size in bytes in the unit that reads best.

    >>> [memory(b) for b in (900, 2_500_000, 3 * 2**30)]
    ['900 B', '2 MiB', '3.0 GiB']
    """
    if size_bytes >= 2**30:
        return f"{size_bytes / 2**30:.1f} GiB"
    if size_bytes >= 2**20:
        return f"{size_bytes / 2**20:.0f} MiB"
    return f"{size_bytes / 1024:.0f} KiB" if size_bytes >= 1024 else f"{size_bytes} B"


FILTERS = {
    "percent": percent,
    "ratio": ratio,
    "points": points,
    "interval": interval,
    "level": level,
    "arm_name": arm_name,
    "decimal": decimal,
    "ends": ends,
    "count": count,
    "duration": duration,
    "memory": memory,
}
