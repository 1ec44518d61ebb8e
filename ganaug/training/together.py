"""What each of the processes that train one GAN together does; torchrun starts it.

`ganaug` starts it where `train.processes` is more than 1. By hand:

    torchrun --nproc-per-node 2 -m ganaug.training.together job.json

where `job.json` holds at least `data` (a folder of training images that `LabelledImages.save`
left; no test images among them), `folder` (where the result goes) and `config` (settings of
`train`, `{}` for the usual ones); see `launch.Job` for the rest. Processes that were killed go on
from the last checkpoint in `folder`. The first prints lines of JSON: images done and to do, and
what it logs; each one that fails prints its error.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganaug.cores import cores
from ganaug.dataset import LabelledImages
from ganaug.errors import GanaugError
from ganaug.progress import Progress, silent
from ganaug.training.device import resolve_device
from ganaug.training.distributed import join, leave_group, rank_and_size
from ganaug.training.gans import train_base, train_class
from ganaug.training.launch import Job

WATCH_EVERY_S = 1.0
"""Between looks at whether torchrun is still there."""


def main() -> None:
    """Train the job of the command line as one of its processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", type=Path)
    parser.add_argument("--end-with-input", action="store_true", help="end when standard input is closed")
    asked = parser.parse_args()
    if "RANK" not in os.environ:
        parser.error("torchrun starts this: torchrun --nproc-per-node 2 -m ganaug.training.together job.json")
    threading.Thread(target=end_with_parent, args=(asked.end_with_input,), daemon=True).start()
    try:
        train(Job.load(asked.job))
    except Exception as error:
        is_deliberate = isinstance(error, GanaugError)
        rank = int(os.environ["RANK"])
        say(error=type(error).__name__, text=str(error), rank=rank, is_deliberate=is_deliberate)
        if is_deliberate:
            raise SystemExit(1) from None
        raise
    # All is written. Taking the interpreter down in order races with gloo's threads, and a process
    # that loses ends with "terminate called" after its work is done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def train(job: Job) -> None:
    """Join the other processes, train, and part from them.

    Raises:
        DeviceError: There are fewer GPUs than processes.
        ModelError: The base is missing or damaged.
        SettingsError: Settings that do not go together.
        TrainingError: There is nothing to learn from, or training diverged again and again.
    """
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    torch.set_num_threads(job.threads or max(1, cores() // local))
    device = join(resolve_device(job.device))
    _train(job, device)
    # Not when training failed: the others may wait in the middle of a step, and this waits for them.
    leave_group()


def _train(job: Job, device: str) -> None:
    rank, size = rank_and_size()
    progress: Progress = silent
    if rank == 0:
        progress = _say_progress
        logger = logging.getLogger("ganaug")
        logger.addHandler(_Saying())
        logger.propagate = False
    config = job.config.model_copy(update={"processes": size})
    data = LabelledImages.load(job.data)
    if job.class_id is None:
        unlabelled = None if job.unlabelled is None else np.load(job.unlabelled, mmap_mode="r")
        train_base(
            data,
            config,
            job.folder,
            classifiers=job.classifiers,
            unlabelled=unlabelled,
            start=job.start,
            device=device,
            progress=progress,
        )
    else:
        train_class(
            data,
            job.class_id,
            job.base,
            job.classifiers,
            config,
            job.folder,
            start=job.start,
            device=device,
            progress=progress,
        )


def end_with_parent(holds_input: bool) -> None:
    """No orphans: end this process when whoever started it is killed.

    Args:
        holds_input: Whether that one holds the other end of standard input, which closes at once
            and for all generations; otherwise torchrun is watched.
    """
    if holds_input:
        # Nothing is ever written: this returns when the parent's end is closed. Not by way of
        # `sys.stdin`, whose lock would be held when the interpreter ends.
        while os.read(0, 1):
            pass
    else:
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(WATCH_EVERY_S)
    os._exit(1)


def say(**words: Any) -> None:
    """Write one line of JSON, at once and whole."""
    # Not `print`: unbuffered, as torchrun starts Python, it writes the end of the line by itself,
    # and another process's words come between.
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def _say_progress(done: int, total: int) -> None:
    say(done=done, total=total)


class _Saying(logging.Handler):
    """Says what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        say(level=record.levelno, text=record.getMessage())


if __name__ == "__main__":
    main()
