"""Plots as inline SVG: drawn in percent and `currentColor`, so that they fit any width and theme.

Text that stands beside a plot is HTML, which wraps, scales and is read aloud; inside are
lines, bars and axis numbers only. The page gives each plot's values in a table as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from ganaug.report.amounts import Candidate
from ganaug.report.arena import Estimate
from ganaug.report.curves import Plot

ROW_PX = 26


@dataclass(frozen=True)
class Axis:
    """A scale with round numbers at its ticks.

    Attributes:
        low: Value at the left end.
        high: Value at the right end.
        ticks: Values that get a line and a label.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def percent(self, value: float) -> float:
        """Where a value stands, in percent of the width."""
        share = (value - self.low) / (self.high - self.low)
        return round(100.0 * min(1.0, max(0.0, share)), 2)


def axis_for(
    values: Sequence[float], *, least: float = 0.02, around_zero: bool = False, is_share: bool = False
) -> Axis:
    """A scale on which all values stand clear of the ends.

    Args:
        values: What must fit.
        least: Smallest stretch, so that noise does not fill the plot.
        around_zero: Whether zero must be on it.
        is_share: Whether the values are shares, whose scale ends at 0 and 1.

    >>> axis_for([0.81, 0.93]).ticks
    (0.8, 0.85, 0.9, 0.95)
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    if is_share:
        # An interval of two seeds may be many times as wide as its scale.
        finite = [min(max(value, 0.0), 1.0) for value in finite]
    low, high = min(finite), max(finite)
    if around_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    spare = max(least - (high - low), 0.0) / 2
    low, high = low - spare, high + spare
    pad = 0.08 * (high - low)
    step = _round_step((high - low + 2 * pad) / 4)
    first, last = math.floor((low - pad / 4) / step), math.ceil((high + pad / 4) / step)
    if is_share:
        first, last = max(first, 0), min(last, math.floor(1 / step + 1e-9))
    return Axis(first * step, last * step, tuple(round(n * step, 10) for n in range(first, last + 1)))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= rough * 0.999)


def interval_row(
    axis: Axis,
    estimate: Estimate,
    points: Sequence[float] = (),
    *,
    kind: str = "plain",
    zero: bool = False,
    margin: float = 0.0,
) -> Markup:
    """One row of an interval plot: the single runs, the interval, and the mean on it.

    Args:
        axis: The scale, shared by all rows of the plot.
        estimate: Mean and interval.
        points: Single runs, as faint dots.
        kind: CSS class of the mark: `plain`, `accent` or `bad`.
        zero: Whether a line is drawn at zero.
        margin: Half the width of a band around zero in which differences count as none.
    """
    middle = ROW_PX / 2
    parts = [_line(axis.percent(tick), "grid") for tick in axis.ticks]
    if margin:
        left, right = axis.percent(-margin), axis.percent(margin)
        parts.insert(0, f'<rect class="margin" x="{left}%" width="{right - left:.2f}%" y="0" height="100%"/>')
    if zero:
        parts.append(_line(axis.percent(0.0), "zero"))
    parts += [f'<circle class="seed" cx="{axis.percent(point)}%" cy="{middle}" r="2.5"/>' for point in points]
    if estimate.low is not None and estimate.high is not None:
        left, right = axis.percent(estimate.low), axis.percent(estimate.high)
        parts.append(
            f'<line class="interval" x1="{left}%" x2="{right}%" y1="{middle}" y2="{middle}"/>'
            f'<line class="cap" x1="{left}%" x2="{left}%" y1="{middle - 4}" y2="{middle + 4}"/>'
            f'<line class="cap" x1="{right}%" x2="{right}%" y1="{middle - 4}" y2="{middle + 4}"/>'
        )
    parts.append(f'<circle class="mean" cx="{axis.percent(estimate.value)}%" cy="{middle}" r="5"/>')
    return _svg(f"track {kind}", ROW_PX, parts)


def change_row(axis: Axis, before: float, after: float, *, kind: str = "plain") -> Markup:
    """One row of a plot of changes: a ring before, a dot after, and a line from one to the other."""
    middle = ROW_PX / 2
    left, right = axis.percent(before), axis.percent(after)
    return _svg(
        f"track {kind}",
        ROW_PX,
        [
            *(_line(axis.percent(tick), "grid") for tick in axis.ticks),
            f'<line class="interval" x1="{left}%" x2="{right}%" y1="{middle}" y2="{middle}"/>',
            f'<circle class="ring" cx="{left}%" cy="{middle}" r="4.5"/>',
            f'<circle class="mean" cx="{right}%" cy="{middle}" r="5"/>',
        ],
    )


def axis_row(axis: Axis, *, signed: bool = False) -> Markup:
    """The axis numbers under an interval plot, in percent or signed points."""
    parts = []
    for tick in axis.ticks:
        at = axis.percent(tick)
        anchor = "start" if at < 4 else "end" if at > 96 else "middle"
        label = _tick(tick, signed=signed)
        parts.append(f'<text x="{at}%" y="12" text-anchor="{anchor}">{escape(label)}</text>')
    return _svg("axis", 16, parts)


def _tick(value: float, *, signed: bool) -> str:
    text = f"{100 * value:+g}" if signed and round(value, 9) else f"{100 * value:g}"
    return text.replace("-", "\u2212") + ("" if signed else "%")


DOSE_PX = 168


@dataclass(frozen=True)
class Dose:
    """A plot of gain against amount, and what stands around it.

    Attributes:
        svg: Dots of single fits, and the means joined by a line from nothing.
        ticks: Labels of the gain axis, the highest first.
        axis: The numbers of the share axis.
        summary: What it shows, in words.
    """

    svg: Markup
    ticks: tuple[str, ...]
    axis: Markup
    summary: str


def dose(candidates: Sequence[Candidate]) -> Dose:
    """Draw what rising shares of synthetic draws gained over none.

    Args:
        candidates: Of one arm, with a share and a gain each, by rising share.
    """
    gains = [(one.share or 0.0, one.gain or 0.0) for one in candidates]
    up = axis_for(
        [*(value for one in candidates for value in one.gains), *dict(gains).values()], around_zero=True
    )
    along = Axis(0.0, 1.08 * max(share for share, _ in gains), (0.0, *(share for share, _ in gains)))

    def at(share: float, gain: float) -> tuple[float, float]:
        return along.percent(share), round(100.0 - up.percent(gain), 2)

    parts = [
        f'<line class="grid" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>' for y in (at(0, t)[1] for t in up.ticks)
    ]
    base = at(0.0, 0.0)
    parts.append(f'<line class="zero" x1="0" x2="100%" y1="{base[1]}%" y2="{base[1]}%"/>')
    places = [base, *(at(*one) for one in gains)]
    parts += [
        f'<line class="interval" x1="{x1}%" y1="{y1}%" x2="{x2}%" y2="{y2}%"/>'
        for (x1, y1), (x2, y2) in itertools.pairwise(places)
    ]
    singles = [at(one.share or 0.0, gain) for one in candidates for gain in one.gains]
    parts += [f'<circle class="seed" cx="{x}%" cy="{y}%" r="3"/>' for x, y in singles]
    parts += [f'<circle class="mean" cx="{x}%" cy="{y}%" r="5"/>' for x, y in places]
    summary = "; ".join(f"share {100 * share:g}%: {_signed(gain)} points" for share, gain in gains)
    ticks = tuple(_tick(tick, signed=True) for tick in reversed(up.ticks))
    return Dose(_svg("track accent", DOSE_PX, parts), ticks, axis_row(along), summary)


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\u2212")


def count_bar(real: int, synthetic: int, target: int, most: int) -> Markup:
    """One class's training images: real, then synthetic, with a mark at the target."""
    scale = 100.0 / max(most, 1)
    parts = [
        f'<rect class="real" x="0" width="{real * scale:.2f}%" y="3" height="12"/>',
        f'<rect class="synthetic" x="{real * scale:.2f}%" width="{synthetic * scale:.2f}%" y="3" height="12"/>',
    ]
    if target:
        parts.append(_line(min(99.7, target * scale), "target"))
    return _svg("bar", 18, parts)


def share_bar(share: float, kind: str = "plain") -> Markup:
    """A thin bar as long as a share of 1."""
    width = 100.0 * min(1.0, max(0.0, share))
    return _svg(
        f"share {kind}",
        4,
        [
            '<rect class="rest" x="0" width="100%" y="0" height="4" rx="2"/>',
            f'<rect class="part" x="0" width="{width:.1f}%" y="0" height="4" rx="2"/>',
        ],
    )


@dataclass(frozen=True)
class Panel:
    """A small plot of curves and what stands around it.

    Attributes:
        svg: The lines.
        low: Label at the bottom of the value axis.
        high: Label at its top.
        first: Label at the left of the step axis.
        last: Label at its right.
        summary: What the curves do, in words.
    """

    svg: Markup
    low: str
    high: str
    first: str
    last: str
    summary: str


def panel(plot: Plot) -> Panel:
    """Draw curves that share their axes."""
    curves = plot.curves
    steps = [step for curve in curves for step in curve.steps]
    values = [value for curve in curves for value in curve.values]
    low, high = _value_range(values, is_share=plot.kind.is_share)
    first, last = min(steps), max(steps)
    width = max(last - first, 1.0)

    def down(value: float) -> str:
        return f"{38 - 36 * (value - low) / (high - low):.1f}"

    lines = []
    if plot.kind.reference is not None:
        at = down(plot.kind.reference)
        lines.append(f'<line class="reference" x1="0" x2="100" y1="{at}" y2="{at}"/>')
    for number, curve in enumerate(curves):
        points = " ".join(
            f"{100 * (step - first) / width:.1f},{down(value)}"
            for step, value in zip(curve.steps, curve.values, strict=True)
        )
        lines.append(f'<polyline class="curve curve-{number % 4}" points="{points}"/>')
    grid = "".join(f'<line class="grid" x1="0" x2="100" y1="{y}" y2="{y}"/>' for y in (2, 20, 38))
    svg = Markup(  # noqa: S704 - numbers alone
        '<svg class="curves" viewBox="0 0 100 40" preserveAspectRatio="none" aria-hidden="true" '
        f'focusable="false">{grid}{"".join(lines)}</svg>'
    )
    short = _short_percent if plot.kind.is_share else _short
    summary = "; ".join(
        f"{curve.name} {short(curve.values[0])} at step {curve.steps[0]:,.0f}, "
        f"{short(curve.values[-1])} at step {curve.steps[-1]:,.0f}"
        for curve in curves
    )
    return Panel(svg, short(low), short(high), f"{first:,.0f}", f"{last:,.0f}", summary)


def _value_range(values: Sequence[float], *, is_share: bool) -> tuple[float, float]:
    """Ends of a value axis: 0 to 1 for shares, unless one lies outside; else what the values need."""
    low, high = min(values), max(values)
    if is_share:
        return min(low, 0.0), max(high, 1.0)
    if 0.0 <= low < 0.4 * high:
        low = 0.0
    return (low - 0.5, high + 0.5) if high == low else (low, high)


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "\u2212")


def _short_percent(value: float) -> str:
    return f"{100 * value:.0f}%".replace("-", "\u2212")


def _line(at_percent: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{at_percent:.2f}%" x2="{at_percent:.2f}%" y1="0" y2="100%"/>'


def _svg(kind: str, height_px: int, parts: Sequence[str]) -> Markup:
    # Hidden from screen readers: the numbers stand beside it as text.
    return Markup(  # noqa: S704 - all text in it is escaped above
        f'<svg class="{kind}" width="100%" height="{height_px}" aria-hidden="true" focusable="false">'
        f"{''.join(parts)}</svg>"
    )
