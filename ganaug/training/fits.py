"""Fits: classifiers that are trained side by side, in processes with one thread each.

With one thread a fit's result does not depend on how many run beside it. On a CPU each has a process
of its own; on a GPU, which takes seconds to get ready, a process trains one after the other. What a
fit leaves is one file; what is there already is not trained again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from ganaug.arms import Arm
from ganaug.classifier_name import kind_of
from ganaug.cores import cores
from ganaug.dataset import LabelledImages
from ganaug.errors import TrainingError
from ganaug.progress import Progress
from ganaug.recipe import Recipe
from ganaug.thresholds import move
from ganaug.training.classifier import fit, predict_proba
from ganaug.training.classifiers.choice import SMALL_CNN, Choice, checked
from ganaug.training.classifiers.command import run_command
from ganaug.training.classifiers.estimator import fit_estimator
from ganaug.training.classifiers.factory import make
from ganaug.training.classifiers.network import Network
from ganaug.training.classifiers.presets import PRESETS
from ganaug.training.discriminator_start import StartedClassifier, load_discriminator
from ganaug.training.winner import write_recipe

_TELL_EVERY_S = 0.3
GPU_WORKERS = 8
"""Built-in networks that share a GPU: of 4, 8 and 16 it was 8 on an H100 that trained most (docs/throughput.md)."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fit:
    """One classifier to train: all that its process needs, data by path.

    Attributes:
        arm: How its training set is built.
        seed: Chooses all that is random in it.
        data: Folder of `train`, `synthetic` and `test`.
        target: The file that it leaves.
        wanted: Class ids that the plan wants more of.
        share: Share of synthetic draws, for the arms that mix.
        strength: Strength of albumentations, for the arms that name none.
        flips: Whether albumentations mirrors.
        steps: Training steps.
        device: `cpu` or `cuda`.
        discriminator: Folder of the base GAN, for arms that start from its discriminator.
        classifier: What is trained.
    """

    arm: Arm
    seed: int
    data: Path
    target: Path
    wanted: tuple[int, ...]
    share: float
    strength: str
    flips: bool
    steps: int
    device: str
    discriminator: Path | None = None
    classifier: Choice = SMALL_CNN

    @property
    def who(self) -> str:
        """Arm and seed, for errors."""
        return f"arm {self.arm.name!r} with seed {self.seed}"


def train_fits(fits: Sequence[Fit], workers: int, progress: Progress) -> None:
    """Train those fits whose files are not there, each file once.

    Args:
        fits: With about the same steps, and the same device and classifier.
        workers: Processes at a time; 0 means one per core, on a GPU at most `GPU_WORKERS`, and one
            network or command of the user's own.
        progress: Told of the images trained on, over all fits.

    Raises:
        TrainingError: A process was killed or failed; the others are stopped.
    """
    waiting = list({one.target: one for one in fits if not one.target.exists()}.values())
    if not fits:
        return
    tell = _Total(progress, len(fits), len(fits) - len(waiting), fits[0].steps)
    classifier, is_gpu = fits[0].classifier, fits[0].device.startswith("cuda")
    usual = cores()
    if is_gpu and classifier.kind != "estimator":
        # What a user's own network or command takes of the GPU is not known.
        usual = min(usual, GPU_WORKERS) if kind_of(classifier.name) == "built-in" else 1
    stay = is_gpu and classifier.kind == "network"
    train_in_processes(waiting, workers or usual, tell, stay=stay)


def read_fit(target: Path) -> tuple[Floats, float]:
    """(N, K) probabilities that a fit left, and the seconds that it took."""
    with np.load(target, allow_pickle=False) as stored:
        return stored["probability"], float(stored["seconds"])


class _Total:
    """Adds up the images of fits that run side by side."""

    def __init__(self, progress: Progress, n_fits: int, n_done: int, steps: int) -> None:
        self.progress, self.done = progress, {str(number): 1.0 for number in range(n_done)}
        self.n_fits, self.steps = n_fits, steps
        self.unit = 64 * steps
        if n_done:
            self._tell()

    def of(self, target: Path) -> Progress:
        """The progress of one fit."""

        def tell(done: int, total: int) -> None:
            self.done[target.name] = done / total
            self._tell()

        return tell

    def _tell(self) -> None:
        self.progress(round(sum(self.done.values()) * self.unit), self.n_fits * self.unit)


def _train(one: Fit, progress: Progress) -> None:
    """Train and predict; leaves the fit's file, or nothing."""
    began = time.perf_counter()
    train, synthetic, test = (LabelledImages.load(one.data / part) for part in ("train", "synthetic", "test"))
    recipe = one.arm.recipe(
        train,
        synthetic,
        one.wanted,
        synthetic_share=one.share,
        strength=one.strength,
        flips=one.flips,
        seed=one.seed,
    )
    n_classes = len(train.class_names)
    probability = _PROBABILITY[one.classifier.kind](one, recipe, (train, synthetic, test), progress)
    checked(probability, len(test), n_classes, one.classifier.name)
    if recipe.decision_offsets is not None:
        probability = move(probability, recipe.decision_offsets)
    beside = one.target.with_suffix(".partial")
    with beside.open("wb") as file:
        np.savez(file, probability=probability, seconds=np.float64(time.perf_counter() - began))
    beside.replace(one.target)


Parts = tuple[LabelledImages, LabelledImages, LabelledImages]
"""Real training images, synthetic ones, and those that are scored."""


def _by_network(one: Fit, recipe: Recipe, parts: Parts, progress: Progress) -> Floats:
    """(N, K) probabilities of a network that is trained here."""
    train, _, test = parts
    shape, n_classes = tuple(train.images.shape[1:]), len(train.class_names)

    def begin(rng: torch.Generator) -> Network:
        if one.arm.start == "discriminator":
            assert one.discriminator is not None
            return StartedClassifier(load_discriminator(one.discriminator), n_classes, rng=rng)
        if kind_of(one.classifier.name) == "built-in":
            return PRESETS[one.classifier.name](shape, n_classes, rng=rng)
        made: Network = make(one.classifier.name, shape, n_classes)
        return made

    # A user's module draws its weights, and what it drops, from torch's own generator.
    with torch.random.fork_rng([torch.cuda.current_device()] if one.device.startswith("cuda") else []):
        torch.manual_seed(one.seed)
        model = fit(
            recipe,
            n_classes,
            seed=one.seed,
            steps=one.steps,
            device=one.device,
            progress=progress,
            start=begin,
        )
        return predict_proba(model, test.images)


def _by_estimator(one: Fit, recipe: Recipe, parts: Parts, progress: Progress) -> Floats:
    """The same of an estimator."""
    train, _, test = parts
    shape, n_classes = tuple(train.images.shape[1:]), len(train.class_names)
    estimator = make(one.classifier.name, shape, n_classes)
    found = fit_estimator(estimator, recipe, n_classes, test.images, seed=one.seed, steps=one.steps)
    progress(1, 1)
    return found


def _by_command(one: Fit, recipe: Recipe, parts: Parts, progress: Progress) -> Floats:
    """The same of a command, in a folder that stays where it fails."""
    train, synthetic, test = parts
    folder = one.data / "commands" / one.target.stem
    shutil.rmtree(folder, ignore_errors=True)
    write_recipe(folder, one.arm, recipe, train, synthetic, steps=one.steps, classifier=one.classifier.name)
    found = run_command(
        one.classifier.name,
        folder,
        test.images,
        train.class_names,
        seed=one.seed,
        max_seconds=one.classifier.max_seconds,
    )
    # Only a folder whose predictions can be scored may go.
    checked(found, len(test), len(train.class_names), one.classifier.name)
    shutil.rmtree(folder)
    progress(1, 1)
    return found


_PROBABILITY = {"network": _by_network, "estimator": _by_estimator, "command": _by_command}


def train_in_processes(waiting: Sequence[Fit], workers: int, tell: _Total, *, stay: bool) -> None:
    """Train fits in so many processes at a time: each one in a new process, or all in processes that stay.

    Raises:
        TrainingError: A process was killed or failed; the others are stopped.
    """
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        # The server imports all this once, 6 s, and each process is forked from it in milliseconds;
        # any optimiser of torch loads torch._dynamo.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        context.set_forkserver_preload([__name__, "albumentations", "torch._dynamo"])
    queue = list(waiting)
    running: dict[Connection, tuple[Fit, BaseProcess]] = {}
    try:
        while queue or running:
            while queue and len(running) < workers:
                here, there = context.Pipe()
                process = context.Process(target=_child, args=(there,), daemon=True)
                process.start()
                there.close()
                running[here] = (queue.pop(0), process)
                _send(here, running[here][0])
            for ready in wait(list(running)):
                connection = cast("Connection", ready)
                one, process = running[connection]
                if _hear(connection, tell.of(one.target)):
                    continue
                if stay and queue and one.target.exists() and process.is_alive():
                    running[connection] = (queue.pop(0), process)
                    _send(connection, running[connection][0])
                    continue
                del running[connection]
                _send(connection, None)
                process.join()
                connection.close()
                if process.exitcode != 0 or not one.target.exists():
                    raise _killed(one, process.exitcode)
    finally:
        for connection, (_, process) in running.items():
            process.kill()
            process.join()
            connection.close()


def _send(connection: Connection, one: Fit | None) -> None:
    # Whoever is dead by now is found out when it is listened to.
    with contextlib.suppress(OSError):
        connection.send(one)


def _hear(connection: Connection, progress: Progress) -> bool:
    """Take one message; False when the fit, or its process, has ended.

    Raises:
        TrainingError: The process says that it failed.
    """
    try:
        message = connection.recv()
    except (EOFError, OSError):
        return False
    if isinstance(message, str):
        raise TrainingError(message)
    if message is not None:
        progress(*message)
    return message is not None


def _killed(one: Fit, code: int | None) -> TrainingError:
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
    return TrainingError(
        f"the process that trained {one.who} {how}. If memory ran out, "
        "lower `evaluate.workers`. Finished fits are kept: run the same command again to go on."
    )


def _child(connection: Connection) -> None:
    """What runs in a process: the fits that it is sent, until None."""
    # Ctrl-C ends it without a traceback; the parent tells the user.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > _TELL_EVERY_S:
            last = time.monotonic()
            connection.send((done, total))

    for one in iter(connection.recv, None):
        try:
            _train(one, tell)
        except Exception as error:
            with contextlib.suppress(OSError):
                connection.send(_failed(one, error))
            raise SystemExit(1) from error
        connection.send(None)


def _failed(one: Fit, error: Exception) -> str:
    what = f"{error}" if isinstance(error, TrainingError) else f"{type(error).__name__}: {error}"
    hint = (
        " Let fewer train at a time (`evaluate.workers`), or take a smaller network."
        if isinstance(error, torch.OutOfMemoryError)
        else ""
    )
    return f"training {one.who} failed: {what}{hint}"


def _end_with_parent() -> None:
    """No orphans: when the run is killed, its fits end too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
