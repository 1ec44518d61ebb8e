"""Starting the processes that train one GAN together, and hearing of them.

torchrun starts `together.py` in each process. What they train on is left as files (a `Job`); what
they say comes back as lines of JSON. Whoever started them holds the other end of their standard
input: when it dies, however it dies, that end closes and they end too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from ganaug.config import TrainConfig
from ganaug.dataset import Images, LabelledImages
from ganaug.errors import (
    DeviceError,
    GanaugError,
    ModelError,
    PathNotFoundError,
    SettingsError,
    TrainingError,
)
from ganaug.progress import Progress
from ganaug.training.device import resolve_device
from ganaug.training.distributed import check_gpus
from ganaug.training.networks.presets import resolve
from ganaug.training.players import read_summary

TOGETHER = "together"
"""Folder of the job inside the training's own; gone when the processes have ended."""
PATIENCE_S = 20.0
"""How long processes that are told to end may take before they are killed."""

log = logging.getLogger("ganaug.training")


class Job(BaseModel):
    """One GAN to train together: the arguments of `train_base` or `train_class`, data by path.

    Attributes:
        data: Folder of the training images, as `LabelledImages.save` leaves them.
        config: The training settings.
        folder: Gets what training leaves.
        class_id: The class that gets its own GAN; None trains the base.
        base: Folder of the base that a class goes on from.
        classifiers: Folder of the screening classifiers.
        unlabelled: File of (M, H, W, C) uint8 images of unknown class, .npy.
        start: Folder of an earlier GAN whose weights it goes on from.
        device: `auto`, `cpu` or `cuda`; each process takes a GPU of its own.
        threads: CPU threads of each process; None shares the processor's cores among them.
    """

    model_config = ConfigDict(extra="forbid")

    data: Path
    config: TrainConfig
    folder: Path
    class_id: int | None = None
    base: Path | None = None
    classifiers: Path | None = None
    unlabelled: Path | None = None
    start: Path | None = None
    device: str = "auto"
    threads: PositiveInt | None = None

    @classmethod
    def load(cls, path: Path) -> Job:
        """Read a job file.

        Raises:
            PathNotFoundError: There is none, or no data where it says.
            SettingsError: It does not hold a job.
        """
        if not path.is_file():
            raise PathNotFoundError(path, "job file")
        try:
            job = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
            raise SettingsError([f"{path}: {problem}" for problem in problems]) from error
        if not job.data.is_dir():
            raise PathNotFoundError(job.data, "folder of training images")
        return job


def train_together(
    train_data: LabelledImages,
    config: TrainConfig,
    folder: Path,
    *,
    class_id: int | None = None,
    base: Path | None = None,
    classifiers: Path | None = None,
    unlabelled: Images | None = None,
    start: Path | None = None,
    device: str = "auto",
    progress: Progress,
) -> dict[str, Any]:
    """Train one GAN in `config.processes` processes; the arguments are those of `train_class`.

    Returns:
        The summary that they left.

    Raises:
        DeviceError: There are fewer GPUs than processes.
        ModelError: The base is missing or damaged.
        SettingsError: Settings that do not go together.
        TrainingError: A process failed or was killed.
    """
    device = resolve_device(device)
    check_gpus(device, config.processes)
    height, width, channels = map(int, train_data.images.shape[1:])
    resolve(config, (height, width, channels), len(train_data), device)
    job = Job(
        data=folder.resolve() / TOGETHER / "data",
        config=config,
        folder=folder.resolve(),
        class_id=class_id,
        base=base and base.resolve(),
        classifiers=classifiers and classifiers.resolve(),
        start=start and start.resolve(),
        device=device,
        threads=max(1, torch.get_num_threads() // config.processes),
    )
    work = folder / TOGETHER
    shutil.rmtree(work, ignore_errors=True)
    try:
        train_data.save(job.data)
        if unlabelled is not None:
            job.unlabelled = folder.resolve() / TOGETHER / "unlabelled.npy"
            np.save(job.unlabelled, unlabelled)
        (work / "job.json").write_text(job.model_dump_json(indent=2), encoding="utf-8")
        failure = _run(work, config.processes, progress)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    summary = read_summary(folder)
    if summary is None:
        raise failure
    return summary


def _run(work: Path, processes: int, progress: Progress) -> GanaugError:
    """Run the processes to their end.

    Returns:
        The error to raise if they left no result: what one of them raised, or that one was killed.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "localhost"]
    command += ["--nproc-per-node", str(processes), "--shutdown-timeout", "5"]
    command += ["-m", "ganaug.training.together", str(work / "job.json"), "--end-with-input"]
    failures: list[dict[str, Any]] = []
    with (work / "stderr.txt").open("w") as stderr:
        torchrun = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            # Ctrl-C is for the parent, which then tells them.
            start_new_session=True,
        )
        assert torchrun.stdin is not None
        assert torchrun.stdout is not None
        try:
            _hear(torchrun.stdout, progress, failures)
            code = torchrun.wait()
        finally:
            _end(torchrun)
    return _failure(failures, code, (work / "stderr.txt").read_text(errors="replace"))


def _hear(stdout: IO[str], progress: Progress, failures: list[dict[str, Any]]) -> None:
    """Pass on what the processes say, until they have all ended."""
    for line in stdout:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        match said:
            case {"done": int(done), "total": int(total)}:
                progress(done, total)
            case {"level": int(level), "text": str(text)}:
                log.log(level, "%s", text)
            case {"error": str(), "text": str()}:
                failures.append(said)


def _end(torchrun: subprocess.Popen[str]) -> None:
    """Close their standard input, which ends the processes where they have not ended."""
    assert torchrun.stdin is not None
    assert torchrun.stdout is not None
    with contextlib.suppress(OSError):
        torchrun.stdin.close()
    try:
        torchrun.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        torchrun.kill()
        torchrun.wait()
    torchrun.stdout.close()


_RAISED = {kind.__name__: kind for kind in (DeviceError, ModelError, TrainingError)}
"""Errors that come back as what they were."""


def _failure(failures: list[dict[str, Any]], code: int, stderr: str) -> GanaugError:
    """The error that the parent raises: what was meant to be read, else the first failure."""
    for said in failures:
        if said["is_deliberate"]:
            return _RAISED.get(said["error"], TrainingError)(said["text"])
    what = f"torchrun was killed by signal {-code}" if code < 0 else f"torchrun ended with status {code}"
    # torchrun's report ends with the first process that failed, if a signal ended it; what the
    # others say is then only that they miss it.
    if killed := re.findall(r"Signal \d+ \(\w+\) received by PID \d+", stderr):
        what = killed[-1]
    elif failures:
        first = failures[0]
        what = f"process {first['rank']} ended with {first['error']}: {first['text']}"
    elif raised := re.findall(r"^\w+(?:Error|Exception): .*", stderr, re.MULTILINE):
        what = raised[0]
    return TrainingError(
        f"the processes that trained together failed: {what}. If memory ran out, lower train.batch or "
        "train.processes. Checkpoints are kept: run the same command again to go on."
    )
