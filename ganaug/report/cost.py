"""What a run cost: time by what it was spent on, and what a point of macro-F1 was worth of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from ganaug.report.arena import Arena, Estimate
from ganaug.report.data import read_json
from ganaug.run import RunFolder, StepRecord

Purpose = Literal["making", "measuring", "rest"]


@dataclass(frozen=True)
class Phase:
    """A kind of work, by the steps that do it.

    Attributes:
        title: What it is, in words.
        purpose: `making` synthetic images, `measuring` whether they help, or the rest.
        step: The step.
        has: Whether a part of that step belongs to it.
    """

    title: str
    purpose: Purpose
    step: str
    has: Callable[[str], bool] = lambda _part: True


PHASES = (
    Phase("Reading and splitting", "rest", "split"),
    Phase("Planning", "rest", "plan"),
    Phase("Screening classifiers", "making", "train", lambda part: part == "classifiers"),
    Phase("GAN training", "making", "train", lambda part: part != "classifiers"),
    Phase("Export to ONNX", "making", "export"),
    Phase("Production", "making", "produce"),
    Phase("Screening", "making", "screen"),
    Phase("Assembling", "rest", "assemble"),
    Phase("Evaluation", "measuring", "evaluate"),
    Phase("Publishing", "rest", "publish"),
)
"""Every step but the report, in the order of a run; each part of a step is of one phase."""


@dataclass(frozen=True)
class PhaseCost:
    """Time and memory of one phase.

    Attributes:
        title: What it is.
        purpose: What it is for.
        step: The step.
        parts: Parts of the step that it took.
        seconds: Time of all of them together.
        peak_rss_bytes: The largest memory of any.
        devices: Where it ran, as far as that was recorded.
    """

    title: str
    purpose: Purpose
    step: str
    parts: int
    seconds: float
    peak_rss_bytes: int
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Price:
    """What making the synthetic images cost for what they gained.

    Attributes:
        sentence: In words; says why there is no price where no gain is shown.
        seconds_per_point: Seconds of making per point of macro-F1; None where no gain is shown.
        low: The same if the gain is the upper end of its interval.
        high: The same if it is the lower end.
    """

    sentence: str
    seconds_per_point: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Costs:
    """What the finished steps cost.

    Attributes:
        phases: Each kind of work done.
        price: Time for gain.
        fit_before: Seconds that one classifier of the best arm without synthetic images trained, mean over
            seeds; None where not recorded.
        fit_after: The same of the arm with them.
    """

    phases: tuple[PhaseCost, ...]
    price: Price
    fit_before: float | None
    fit_after: float | None

    def seconds(self, purpose: Purpose | None = None) -> float:
        """Time of the phases of one purpose, or of all."""
        return sum(phase.seconds for phase in self.phases if purpose in {None, phase.purpose})

    def devices(self, purpose: Purpose) -> tuple[str, ...]:
        """Where the phases of one purpose ran, as far as recorded."""
        return tuple(
            dict.fromkeys(
                device for phase in self.phases if phase.purpose == purpose for device in phase.devices
            )
        )

    @property
    def peak_rss_bytes(self) -> int:
        """Largest memory of any phase."""
        return max((phase.peak_rss_bytes for phase in self.phases), default=0)


def read_costs(run: RunFolder, records: Sequence[StepRecord], arena: Arena | None) -> Costs:
    """Add up what the finished steps took.

    Args:
        run: The run.
        records: Its finished steps.
        arena: What the evaluation found; None before it.
    """
    phases = []
    for phase in PHASES:
        own = [record for record in records if record.step == phase.step and phase.has(record.part)]
        if own:
            devices = dict.fromkeys(device for record in own if (device := _device(run, record)))
            phases.append(
                PhaseCost(
                    phase.title,
                    phase.purpose,
                    phase.step,
                    len(own),
                    sum(record.seconds for record in own),
                    max(record.peak_rss_bytes for record in own),
                    tuple(devices),
                )
            )
    making = sum(phase.seconds for phase in phases if phase.purpose == "making")
    fits = _fit_seconds(run.path("evaluate") / "scores.parquet") if arena else {}
    return Costs(
        tuple(phases),
        price_of(making, arena),
        fits.get(arena.before) if arena else None,
        fits.get(arena.after) if arena else None,
    )


def price_of(making_seconds: float, arena: Arena | None) -> Price:
    """Time for gain; a price only where a gain is shown.

    Args:
        making_seconds: Time that making the synthetic images took.
        arena: What the evaluation found.
    """
    if arena is None:
        return Price("Not measured yet, so no price per point.")
    if not arena.after:
        return Price("No arm with synthetic images was measured, so no price per point.")
    if arena.verdict == "hurts":
        return Price("They made the classifier worse, so the time bought no points.")
    change = arena.change("macro_f1")
    gain = change.difference if change else Estimate(0.0)
    if arena.verdict != "helps" or gain.low is None or gain.high is None or gain.low <= 0:
        return Price("No gain is shown, so no price per point.")
    price, low, high = (making_seconds / (100 * one) for one in (gain.value, gain.high, gain.low))
    return Price("per point of macro-F1 gained", price, low, high)


def _device(run: RunFolder, record: StepRecord) -> str:
    """Where a step ran: `CPU` or `GPU`; empty where that was not recorded."""
    device = str(record.summary.get("device") or "")
    if record.step == "produce":
        identity = read_json(run.path("produce", record.part) / "production.json").get("identity", {})
        device = str(identity.get("provider") or "")
    return "" if not device else "CPU" if device == "cpu" else "GPU"


def _fit_seconds(path: Path) -> dict[str, float]:
    """Mean seconds that a classifier of each arm trained; older runs did not record them."""
    table = pd.read_parquet(path)
    if "seconds" not in table:
        return {}
    means = table.groupby("arm")["seconds"].mean()
    return {str(arm): float(value) for arm, value in means.items() if np.isfinite(value)}
