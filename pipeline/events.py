"""Prefect events of ganaug: what others may listen to, and what starts a run."""

from __future__ import annotations

from typing import Any

from prefect.events import emit_event

from ganaug.config import Config
from ganaug.steps import run_name

DATASET_CHANGED = "ganaug.dataset.changed"
"""Starts the `balance` deployment of the dataset that it names."""


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
