"""What a run shows on Prefect's pages: the plan, the samples and the verdict."""

from __future__ import annotations

import base64
from typing import Any

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

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


def sample_sheet(run: RunFolder) -> None:
    """Real images beside synthetic ones that the screen kept."""
    from ganaug.report.sheets import run_sheet

    png = run_sheet(run.folder)
    if png is not None:
        url = "data:image/png;base64," + base64.b64encode(png).decode()
        create_image_artifact(url, key=_key(run, "samples"), description="Left real, right synthetic")


def verdict(run: RunFolder, evaluated: dict[str, Any], published: dict[str, Any]) -> None:
    """The verdict in a sentence, and what became of the model."""
    text = f"# {evaluated['verdict']}\n\n{evaluated['sentence']}\n\n{published['reason']}\n"
    create_markdown_artifact(text, key=_key(run, "verdict"))


def _key(run: RunFolder, what: str) -> str:
    """Prefect takes lower-case letters, digits and dashes."""
    name = "".join(
        letter if letter.isascii() and letter.isalnum() else "-" for letter in run_name(run.config)
    )
    return f"{name.lower()}-{what}"
