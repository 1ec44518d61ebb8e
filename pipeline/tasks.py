"""One Prefect task per step, per class where a step is mapped; each is one library call."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path
from typing import Any

from prefect import runtime, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.tasks import Task

from ganaug.errors import GanaugError, OutputError, RunFolderError
from ganaug.progress import to_listener
from ganaug.run import RunFolder, perform
from ganaug.steps import STEPS
from pipeline.runners import this_node

GPU_LIMIT = "gpu"


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


def do_part(
    step: str, run_dir: Path, part: str, *, on_gpu: bool = False, threads: int | None = None
) -> dict[str, Any]:
    """Do one part of a step, in whatever process or machine this is.

    Args:
        step: The step.
        run_dir: The run folder.
        part: Its part.
        on_gpu: Whether it waits for the one GPU that the tasks of this machine share.
        threads: Processor threads to compute with; None: as many as there are.

    Returns:
        `folder` and `digest` of what was done; `task`: its `seconds`, whether it `was_done` before, and
        the `node` that did it; and the entries of its summary.

    Raises:
        RunFolderError: There is no run folder here.
    """
    from ganaug.training.device import cpu_threads

    if not run_dir.exists():
        raise RunFolderError(
            f"there is no folder {run_dir} on {platform.node()}: every machine that does tasks must see the run "
            "folder under the same path. Put it on a file system that all of them share (--run-dir)."
        )
    run, node = RunFolder.open(run_dir), this_node()
    # strict: otherwise Prefect runs unlimited when the limit was never created.
    limit = concurrency(GPU_LIMIT, occupy=1, strict=True) if on_gpu else contextlib.nullcontext()
    with limit, cpu_threads(threads):
        outcome = perform(run, STEPS[step], part, to_listener(step, part), node=node)
    record = outcome.record
    done = {"seconds": record.seconds, "was_done": outcome.was_done, "node": record.node}
    return {"folder": str(outcome.folder), "digest": record.digest, "task": done, **record.summary}


def _task_run_name() -> str:
    """`train 003-cracked of photos`."""
    given = runtime.task_run.parameters
    return " ".join(filter(None, (runtime.task_run.task_name, given["part"], "of", given["dataset"])))


def _task_of(step: str) -> Task[..., Any]:
    def work(
        run_dir: Path,
        part: str,
        dataset: str,  # noqa: ARG001 - in the task run's name
        on_gpu: bool = False,
        threads: int | None = None,
    ) -> dict[str, Any]:
        return do_part(step, run_dir, part, on_gpu=on_gpu, threads=threads)

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
