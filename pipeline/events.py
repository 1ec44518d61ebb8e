"""Prefect events of ganaug: what others may listen to, and what starts a run."""

from __future__ import annotations

from typing import Any

from prefect.events import emit_event

from ganaug.config import Config
from ganaug.run import RunFolder
from ganaug.steps import run_name

DATASET_CHANGED = "ganaug.dataset.changed"
"""Starts the `balance` deployment of the dataset that it names."""
STEP_DONE = "ganaug.step.done"
"""A part of a step is done; told by whoever did it."""
RUN_DONE = "ganaug.run.done"
"""A run is done: its verdict, and what was published."""
REVIEW_WAITS = "ganaug.review.waiting"
"""Images wait for a review."""


def dataset_resource(config: Config) -> str:
    """The resource id of a run's dataset."""
    return f"ganaug.dataset.{run_name(config)}"


def emit_changed(config: Config, **payload: Any) -> None:
    """Tell that a dataset has changed."""
    name = run_name(config)
    emit_event(
        DATASET_CHANGED,
        resource={"prefect.resource.id": dataset_resource(config), "prefect.resource.name": name},
        payload=payload,
    )


def emit_step(run: RunFolder, step: str, part: str, **payload: Any) -> None:
    """Tell that a part of a step is done."""
    emit_event(
        STEP_DONE, resource={**run_resource(run), "ganaug.step": step, "ganaug.part": part}, payload=payload
    )


def emit_run(event: str, run: RunFolder, **payload: Any) -> None:
    """Tell something about a run."""
    emit_event(event, resource=run_resource(run), payload=payload)


def run_resource(run: RunFolder) -> dict[str, str]:
    """A run as the resource of an event."""
    name = run_name(run.config)
    return {
        "prefect.resource.id": f"ganaug.run.{name}",
        "prefect.resource.name": name,
        "ganaug.run_dir": str(run.folder),
    }
