"""How the training of each GAN went: its recipe, its curves, what went wrong, how it was examined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ganaug.report.curves import Plot, sort_curves
from ganaug.report.sheets import load_table
from ganaug.run import RunFolder

MOST_GANS = 12
"""GANs whose curves are drawn; the others stay in the run folder."""
MARKS = {
    "score": "Score",
    "passing": "Passing",
    "diversity": "Diversity",
    "coverage": "Coverage",
    "copies": "Copies",
    "repeats": "Repeats",
    "spread": "Spread",
    "nearness": "Nearness",
}
"""What an examination measures, with the titles of its columns; all but the last two are shares."""


@dataclass(frozen=True)
class Finding:
    """Something that went wrong while training.

    Attributes:
        detector: What it is called.
        meaning: What it is, in words; empty where not recorded.
        step: When it was noticed.
        measure: How bad it was, in words.
        limit: What the measure was to stay under.
        remedy: What was done.
    """

    detector: str
    meaning: str
    step: int
    measure: str
    limit: str
    remedy: str


@dataclass(frozen=True)
class Examined:
    """One class at an examination: its value of each of `MARKS`, None where not recorded."""

    class_name: str
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Gan:
    """The training of one GAN.

    Attributes:
        title: The class it serves, or that it is the base.
        recipe: Its family.
        why: Why that was chosen; empty where not recorded.
        steps: Training steps; 0 where not recorded.
        seconds: Time that they took.
        ending: Why training ended when it did; empty where not recorded.
        weights: Which step's weights are used; empty where not recorded.
        findings: What went wrong; None where it was not watched for.
        exam_step: The step of `exam`.
        exam: Each class at the examination of the weights that are used.
        plots: The curves.
    """

    title: str
    recipe: str
    why: str
    steps: int
    seconds: float
    ending: str
    weights: str
    findings: tuple[Finding, ...] | None
    exam_step: int
    exam: tuple[Examined, ...]
    plots: tuple[Plot, ...]


def read_gans(
    run: RunFolder, parts: Mapping[str, str], class_names: Mapping[int, str]
) -> tuple[tuple[Gan, ...], int]:
    """Read the first trained GANs, the base before all.

    Args:
        run: The run.
        parts: Name of each wanted class by its part.
        class_names: Name of every class by its id.

    Returns:
        Up to `MOST_GANS`, and how many were trained.
    """
    titles = {"base": "Base, all classes"} | {part: f"Class {name}" for part, name in parts.items()}
    records = {part: run.record("train", part) for part in titles}
    trained = {part: record for part, record in records.items() if record is not None}
    gans = [
        _gan(
            titles[part],
            record.summary,
            record.seconds,
            sort_curves(load_table(run.path("train", part) / "curves.parquet")),
            class_names,
        )
        for part, record in list(trained.items())[:MOST_GANS]
    ]
    return tuple(gans), len(trained)


def _gan(
    title: str,
    summary: Mapping[str, Any],
    seconds: float,
    plots: tuple[Plot, ...],
    class_names: Mapping[int, str],
) -> Gan:
    findings = summary.get("findings")
    exam = _kept_exam(summary)
    return Gan(
        title,
        recipe=str(summary.get("recipe") or ""),
        why=str(summary.get("why") or ""),
        steps=int(summary.get("steps") or 0),
        seconds=seconds,
        ending=_ending(summary),
        weights=_weights(summary),
        findings=None if findings is None else tuple(map(_finding, findings)),
        exam_step=int(exam.get("step", 0)),
        exam=tuple(
            Examined(class_names.get(int(class_id), class_id), {name: row.get(name) for name in MARKS})
            for class_id, row in exam.get("classes", {}).items()
        ),
        plots=plots,
    )


def _ending(summary: Mapping[str, Any]) -> str:
    if "stopped" not in summary:
        return ""
    return f"Stopped early: {summary['stopped']}." if summary["stopped"] else "All steps were trained."


def _weights(summary: Mapping[str, Any]) -> str:
    """Which step's weights are used, and why; empty where not recorded.

    >>> _weights({"best_step": 0, "exams": [{"step": 0, "score": 0.8}]})
    'The weights that it began with scored best and are used.'
    """
    best, exams = summary.get("best_step"), summary.get("exams") or ()
    if best is None:
        return ""
    if exams and not any(exam["score"] > 0 for exam in exams):
        return f"No examination scored above 0, so the last weights, of step {best:,}, are used."
    kept = f"of step {best:,}" if best else "that it began with"
    return f"The weights {kept} scored best and are used."


def _kept_exam(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """The examination of the weights that are used; the last one before where they had none."""
    best = summary.get("best_step")
    exams = [exam for exam in summary.get("exams") or () if best is None or exam["step"] <= best]
    # After a roll back a step is examined again.
    return max(exams, key=lambda exam: (exam["step"], exam["score"]), default={})


def _finding(row: Mapping[str, Any]) -> Finding:
    value = row["value"]
    measure = "not a number" if isinstance(value, str) else f"{value:.3g}"
    remedy = str(row["remedy"])
    return Finding(
        str(row["detector"]),
        str(row.get("meaning") or ""),
        int(row["step"]),
        measure,
        f"{row['threshold']:g}",
        "nothing: train.remedies is off" if remedy == "none" else remedy,
    )
