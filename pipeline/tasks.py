"""One Prefect task per step, per class where a step is mapped; each is one library call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import runtime, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.tasks import Task

from ganaug.errors import GanaugError, OutputError
from ganaug.progress import listener, to_listener
from ganaug.run import RunFolder, perform
from ganaug.steps import STEPS
from pipeline.events import emit_step

GPU_LIMIT = "gpu"
_ON_GPU = {"train", "produce", "evaluate"}


def _retry_can_help(task: Task[..., Any], task_run: TaskRun, state: State) -> bool:  # noqa: ARG001
    """Trouble with disks and dying workers may pass; a user's mistake will not."""
    try:
        state.result()
    except OutputError:
        return True
    except GanaugError:
        return False
    except (OSError, MemoryError):
        return True
    except Exception:  # noqa: BLE001 - anything else is a defect, and comes again
        return False
    return False


def do_part(step: str, run_dir: Path, part: str, *, on_gpu: bool) -> dict[str, Any]:
    """Do one part of a step and tell whoever listens."""
    run = RunFolder.open(run_dir)
    if on_gpu and step in _ON_GPU:
        # strict: otherwise Prefect runs unlimited when the limit was never created.
        with concurrency(GPU_LIMIT, occupy=1, strict=True):
            outcome = perform(run, STEPS[step], part, to_listener(step, part))
    else:
        outcome = perform(run, STEPS[step], part, to_listener(step, part))
    listener().finished(step, part, seconds=outcome.record.seconds, was_done=outcome.was_done)
    emit_step(run, step, part, seconds=outcome.record.seconds, was_done=outcome.was_done)
    return {"folder": str(outcome.folder), "digest": outcome.record.digest, **outcome.record.summary}


def _task_run_name() -> str:
    """`train 003-cracked of photos`."""
    given = runtime.task_run.parameters
    return " ".join(filter(None, (runtime.task_run.task_name, given["part"], "of", given["dataset"])))


def _task_of(step: str) -> Task[..., Any]:
    def work(run_dir: Path, part: str, on_gpu: bool, dataset: str) -> dict[str, Any]:  # noqa: ARG001 - in its name
        return do_part(step, run_dir, part, on_gpu=on_gpu)

    work.__name__ = step
    return task(
        name=step,
        task_run_name=_task_run_name,
        retry_delay_seconds=5,
        retry_condition_fn=_retry_can_help,
        persist_result=False,
    )(work)


TASKS = {step: _task_of(step) for step in STEPS}
"""The task of each step, by its name."""
