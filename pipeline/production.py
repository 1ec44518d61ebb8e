"""`production`: the parts of a mass production as mapped Prefect tasks, over any of Prefect's runners."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from prefect import flow, get_client, runtime, task, unmapped
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from ganaug.errors import SettingsError
from ganaug.produce import Production, Result, account, produce
from ganaug.produce.calibrate import cores

Runner = Literal["threads", "processes", "ray"]


@task(task_run_name="produce part {part}", retries=2, retry_delay_seconds=5, persist_result=False)
def produce_part(part: int, config: Production) -> int:
    """Do one part, wherever the runner puts it; the last one done finishes. Returns the images made."""
    return produce(config.model_copy(update={"part": part})).made


def _run_name() -> str:
    """`produce with digits@3 into synthetic/digits`."""
    given = runtime.flow_run.parameters["config"]
    config = given if isinstance(given, Production) else Production.model_validate(given)
    return f"produce with {config.model} into {config.out}" if config.model else f"screen into {config.out}"


@flow(name="produce", flow_run_name=_run_name)
def production(config: Production) -> int:
    """Make the images that the settings ask for, part by part.

    Args:
        config: The settings; `parts` says how many tasks there are.

    Returns:
        How many images were made; those of an earlier run that was killed do not count.
    """
    with _sharing_the_server():
        futures = produce_part.map(range(1, config.parts + 1), unmapped(config))
        return sum(int(future.result()) for future in futures)


@contextlib.contextmanager
def _sharing_the_server() -> Iterator[None]:
    """Let processes that begin in the block report to this one's server, not to one of their own each."""
    before = os.environ.get("PREFECT_API_URL")
    with get_client(sync_client=True) as client:
        os.environ["PREFECT_API_URL"] = str(client.api_url)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PREFECT_API_URL"]
        else:
            os.environ["PREFECT_API_URL"] = before


def run_production(config: Production, runner: Runner, tasks: int | None = None) -> Result:
    """Run the `produce` flow here and now.

    Args:
        config: The settings.
        runner: Where the tasks run. The parts, and so the files, are the same in each.
        tasks: Parts at a time; None: one per core with `processes`, one with `threads`.

    Raises:
        SettingsError: Settings that leave nothing to share out.
    """
    started = time.monotonic()
    if config.part:
        raise SettingsError(["--shard k/n does one part here; with --runner give --parts n alone"])
    at_once = tasks or (1 if runner == "threads" else min(cores(), config.parts))
    if runner != "threads" and config.workers == "auto":
        # Each task would take all cores for itself.
        config = config.model_copy(update={"workers": max(1, cores() // at_once), "threads": 1})
    config = _with_absolute_paths(config)
    made = production.with_options(task_runner=_runner(runner, at_once))(config)
    return replace(account(config), made=made, seconds=time.monotonic() - started)


def _with_absolute_paths(config: Production) -> Production:
    """Other processes and machines may work in other folders."""
    places = {name: getattr(config, name) for name in ("out", "model", "screener", "images")}
    found = {
        name: type(value)(Path(value).resolve())
        for name, value in places.items()
        if value and "://" not in str(value) and (name == "out" or Path(value).exists())
    }
    return config.model_copy(update=found)


def _runner(name: Runner, tasks: int) -> TaskRunner[PrefectFuture[Any]]:
    if name == "ray":
        from prefect_ray import RayTaskRunner

        return cast("TaskRunner[PrefectFuture[Any]]", RayTaskRunner(address=os.environ.get("RAY_ADDRESS")))
    kind = ProcessPoolTaskRunner if name == "processes" else ThreadPoolTaskRunner
    return cast("TaskRunner[PrefectFuture[Any]]", kind(max_workers=tasks))
