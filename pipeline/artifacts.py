"""What a run shows on Prefect's pages: the plan, the samples and the verdict."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from ganaug.refresh import Decision, asked_of
from ganaug.run import RunFolder
from ganaug.steps import load_plan, run_name


def plan_table(run: RunFolder, summary: dict[str, Any]) -> None:
    """The plan, one row per class."""
    rows = [
        {
            "class": row.class_name,
            "real": row.real,
            "target": row.target,
            "deficit": row.deficit,
            "wanted": "yes" if row.is_wanted else "no",
            "note": row.note,
        }
        for row in load_plan(run).classes
    ]
    create_table_artifact(rows, key=_key(run, "plan"), description=f"Target: {summary['target']}")


def decision(run: RunFolder, made: Decision) -> None:
    """What a run of a series trains, and why."""
    rows = [("trained on", made.warm), ("kept", made.kept), ("asked for", asked_of(run))]
    drift = [
        f"- {name} {value:.3f} (limit {limit:g})"
        for name, value, limit in (
            ("drift of the classes' shares", made.class_drift, run.config.refresh.max_class_drift),
            ("new images told from earlier ones", made.feature_drift, run.config.refresh.max_feature_drift),
        )
        if value is not None
    ]
    lines = [
        f"# {made.reason}",
        "",
        *(f"- {what}: {', '.join(names)}" for what, names in rows if names),
        *drift,
    ]
    create_markdown_artifact("\n".join(lines), key=_key(run, "refresh"), description=f"Run {run.folder.name}")


def sample_sheet(run: RunFolder) -> None:
    """Real images beside synthetic ones that the screen kept."""
    from ganaug.report.sheets import run_sheet

    png = run_sheet(run.folder)
    if png is not None:
        url = "data:image/png;base64," + base64.b64encode(png).decode()
        create_image_artifact(url, key=_key(run, "samples"), description="Left real, right synthetic")


def review_text(run: RunFolder) -> str:
    """What a reviewer needs to know, as Markdown."""
    from ganaug.report.collect import class_rows

    rows = [row for row in class_rows(run.folder) if row.produced]
    lines = [f"| {row.class_name} | {row.real} | {row.produced} | {row.kept} |" for row in rows]
    return "\n".join(
        [
            f"# May the synthetic images of {run_name(run.config)} be used?",
            "",
            "Look at the sample sheet among the artifacts, or at `review/samples.png` in the run folder: left real, "
            "right synthetic. Here or with "
            f"`ganaug review {run.folder}`: approve, reject, or drop classes.",
            "",
            "| class | real | produced | kept |",
            "| --- | --- | --- | --- |",
            *lines,
        ]
    )


def review_sheet(run: RunFolder) -> bytes | None:
    """Leave what a reviewer looks at; returns the sheet as PNG."""
    from ganaug.report.sheets import run_sheet

    create_markdown_artifact(review_text(run), key=_key(run, "review"), description="Waits for a review")
    return run_sheet(run.folder)


def verdict(run: RunFolder, evaluated: dict[str, Any], published: dict[str, Any]) -> None:
    """The verdict in a sentence, and what became of the model."""
    text = f"# {evaluated['verdict']}\n\n{evaluated['sentence']}\n\n{published['reason']}\n"
    create_markdown_artifact(text, key=_key(run, "verdict"))


def report_link(run: RunFolder, report: Path) -> None:
    """Where the report is; a browser on another machine cannot follow it."""
    create_link_artifact(report.resolve().as_uri(), link_text=str(report), key=_key(run, "report"))


class Bar:
    """How far a run is, in parts of steps."""

    def __init__(self, run: RunFolder) -> None:
        self._total, self._done = 0, 0
        made = create_progress_artifact(0.0, key=_key(run, "progress"), description="Parts that are done")
        self._id = cast("UUID", made)

    def expect(self, total: int) -> None:
        """How many parts there are, once the plan says it."""
        self._total = total

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        if self._total:
            update_progress_artifact(self._id, min(100.0, 100 * self._done / self._total))


def _key(run: RunFolder, what: str) -> str:
    """Prefect takes lower-case letters, digits and dashes."""
    name = "".join(
        letter if letter.isascii() and letter.isalnum() else "-" for letter in run_name(run.config)
    )
    return f"{name.lower()}-{what}"
