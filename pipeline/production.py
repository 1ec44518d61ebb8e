"""`production`: the parts of a mass production as mapped Prefect tasks, over any of Prefect's runners."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.futures import PrefectFuture

from ganaug.config import Config, PipelineConfig
from ganaug.cores import cores
from ganaug.errors import SettingsError
from ganaug.produce import Production, Result, account, produce
from ganaug.progress import listener
from pipeline.runners import Runners, at_once, running, threads_of
from pipeline.submission import Part, Submission


@task(task_run_name="produce part {part}", retries=2, retry_delay_seconds=5, persist_result=False)
def produce_part(part: int, config: Production) -> tuple[int, float]:
    """Do one part, wherever the runner puts it; the last one done finishes.

    Returns:
        Images made, and the seconds that it took.
    """
    result = produce(config.model_copy(update={"part": part}))
    return result.made, result.seconds


def _run_name() -> str:
    """`produce with digits@3 into synthetic/digits`."""
    given = runtime.flow_run.parameters["config"]
    config = given if isinstance(given, Production) else Production.model_validate(given)
    return f"produce with {config.model} into {config.out}" if config.model else f"screen into {config.out}"


@flow(name="produce", flow_run_name=_run_name)
def production(config: Production, settings: PipelineConfig | None = None) -> int:
    """Make the images that the settings ask for, part by part.

    Args:
        config: What to make; `parts` says how many tasks there are.
        settings: Where they run; None: one after the other in this process.

    Returns:
        How many images were made; those of an earlier run that was killed do not count.
    """
    settings = settings or PipelineConfig()
    submission = Submission(None if settings.workers == "auto" else settings.workers)
    listener().planned("produce", config.parts)
    with running(Config(device=config.device, pipeline=settings), ["produce"]) as runners:
        parts = [_ask(submission, runners, part, config) for part in range(1, config.parts + 1)]
        return sum(int(part.result()[0]) for part in parts)


def _ask(submission: Submission, runners: Runners, part: int, config: Production) -> Part:
    def submit(before: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        return runners.submit("produce", produce_part, {"part": part, "config": config}, before)

    def tell(done: tuple[int, float]) -> None:
        listener().finished("produce", f"part {part}", seconds=done[1], was_done=done[0] == 0)

    return submission.ask(submit, tell=tell)


def run_production(config: Production, settings: PipelineConfig) -> Result:
    """Run the `produce` flow here and now.

    Args:
        config: What to make.
        settings: Where the tasks run. The parts, and so the files, are the same everywhere.

    Raises:
        SettingsError: Settings that leave nothing to share out, or that the cluster cannot meet.
    """
    started = time.monotonic()
    if config.part:
        raise SettingsError(["--shard k/n does one part here; with --runner give --parts n alone"])
    if settings.runner != "threads" and config.workers == "auto":
        # Each task would take all cores for itself.
        side_by_side = min(at_once(settings), config.parts)
        own = threads_of(settings, "produce") or max(1, cores() // side_by_side)
        config = config.model_copy(update={"workers": own, "threads": 1})
    made = production(_with_absolute_paths(config), settings)
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
