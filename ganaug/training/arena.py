"""The arena: trains a classifier per arm and seed, in processes of their own, and scores them.

Each fit is one process with one thread, so that its result does not depend on how many run
side by side. What a fit leaves is a file under `fits/`, named by all that went into it: a run
that was killed, or that is asked for one arm more, trains only what is not there yet.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ganaug.arms import Arm, check_starts, find_arms
from ganaug.config import EvaluateConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, ModelError, SettingsError, TrainingError
from ganaug.evaluate import Arena, judge, score, score_classes
from ganaug.progress import Progress, silent
from ganaug.run import sha256_file
from ganaug.training.classifier import AnyClassifier, auto_steps, fit, predict_proba
from ganaug.training.discriminator_start import StartedClassifier, load_discriminator
from ganaug.training.players import DISCRIMINATOR_FILE

FITS, DATA = "fits", "data"
_CODE = 1
"""Part of every fit's name; raised when training changes, so that older files are not taken."""
_TELL_EVERY_S = 0.3

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Fit:
    """One classifier to train: all that its process needs, data by path."""

    arm: Arm
    seed: int
    data: Path
    target: Path
    wanted: tuple[int, ...]
    config: EvaluateConfig
    steps: int
    device: str
    discriminator: Path | None = None


def run_arena(
    train: LabelledImages,
    synthetic: LabelledImages,
    test: LabelledImages,
    wanted: Sequence[int],
    config: EvaluateConfig,
    folder: Path,
    *,
    discriminator: Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Arena:
    """Train every arm with every seed, score them on real test images and give the verdict.

    Without synthetic images the arms that need them are left out, and the verdict says so.

    Args:
        train: Real training images.
        synthetic: Synthetic images; `class_id` in the index. May be empty.
        test: The locked real test images.
        wanted: Class ids that the plan wants more of.
        config: Arms, seeds and how they are trained.
        folder: Gets `scores.parquet`, `per_class.parquet`, `predictions.npz` (`probability`
            (arms, seeds, N, K) float16, `labels`, `arms`, `seeds`) and `verdict.json`; and
            `fits/`, from which a killed run goes on.
        discriminator: Folder of the base GAN, for arms that start from its discriminator.
        device: `cpu` or `cuda`; on a GPU one classifier is trained at a time, in this process.
        progress: Told of the images trained on, over all fits.

    Raises:
        SettingsError: Unknown arms, none without synthetic images, or one that starts from a
            discriminator which is not kept.
        ModelError: That discriminator is damaged, or of images of another shape.
        DatasetError: There are no training or no test images.
        TrainingError: A training process was killed or failed.
    """
    arms = _usable_arms(config, synthetic)
    for part, name in ((train, "training"), (test, "test")):
        if not len(part):
            raise DatasetError(f"there are no {name} images to evaluate with; look at `split.test_share`")
    start = _start_digest(arms, discriminator, train.images.shape[1:])
    steps = auto_steps(len(train)) if config.steps == "auto" else config.steps
    # Where a run was killed its data lies here still; it is written anew, whatever it was.
    data = folder / FITS / DATA
    _write_data(data, train, synthetic, test)
    key = _key(train, synthetic, test, wanted, config, steps, device)
    fits = [
        _Fit(
            arm,
            seed,
            data,
            _target(folder, arm, seed, [key[arm.has_synthetic], start if arm.start != "nothing" else ""]),
            tuple(wanted),
            config,
            steps,
            device,
            discriminator,
        )
        for seed in range(config.seeds)
        for arm in arms
    ]
    waiting = [one for one in fits if not one.target.exists()]
    tell = _Total(progress, len(fits), len(fits) - len(waiting), steps)
    if device.startswith("cuda"):
        for one in waiting:
            _train(one, tell.of(one.target))
    else:
        _train_in_processes(waiting, config.workers or os.cpu_count() or 1, tell)
    shutil.rmtree(data)
    by_arm = {arm.name: [_read(one.target) for one in fits if one.arm == arm] for arm in arms}
    return _finish(by_arm, test, wanted, config, folder, has_synthetic=len(synthetic) > 0)


def _usable_arms(config: EvaluateConfig, synthetic: LabelledImages) -> list[Arm]:
    arms = find_arms(config.arms)
    if all(arm.has_synthetic for arm in arms):
        raise SettingsError(
            ["evaluate.arms: none is without synthetic images; add 'oversampling+albumentations'"]
        )
    return [arm for arm in arms if len(synthetic) or not arm.has_synthetic]


def _key(
    train: LabelledImages,
    synthetic: LabelledImages,
    test: LabelledImages,
    wanted: Sequence[int],
    config: EvaluateConfig,
    steps: int,
    device: str,
) -> dict[bool, str]:
    """What determines a fit beside arm and seed, hashed; with and without synthetic images."""
    plain = hashlib.sha256(f"{_CODE} {steps} {device} {config.augment} {config.flips}".encode())
    for part in (train, test):
        _hash_images(plain, part)
    with_synthetic = plain.copy()
    with_synthetic.update(f"{sorted(wanted)} {config.synthetic_share}".encode())
    _hash_images(with_synthetic, synthetic)
    return {False: plain.hexdigest()[:16], True: with_synthetic.hexdigest()[:16]}


def _hash_images(into: Any, part: LabelledImages) -> None:
    into.update(f"{part.images.shape} {part.class_names}".encode())
    into.update(part.class_ids.tobytes())
    for start in range(0, len(part), 4096):
        into.update(np.ascontiguousarray(part.images[start : start + 4096]).data)


def _start_digest(arms: Sequence[Arm], folder: Path | None, image_shape: tuple[int, ...]) -> str:
    """Hash of the discriminator that arms start from, which is read once to be sure of it."""
    path = folder / DISCRIMINATOR_FILE if folder is not None else None
    check_starts(arms, is_kept=path is not None and path.is_file())
    if path is None or all(arm.start == "nothing" for arm in arms):
        return ""
    shape = load_discriminator(path.parent).image_shape
    if shape != image_shape:
        raise ModelError(
            f"{path} was trained on images of {shape}, these are {tuple(image_shape)}; train again"
        )
    return sha256_file(path)


def _target(folder: Path, arm: Arm, seed: int, key: Sequence[str]) -> Path:
    own = hashlib.sha256(json.dumps([asdict(arm), *key]).encode()).hexdigest()[:16]
    slug = "".join(letter if letter.isalnum() else "-" for letter in arm.name)
    return folder / FITS / f"{slug}-seed{seed}-{own}.npz"


def _write_data(data: Path, train: LabelledImages, synthetic: LabelledImages, test: LabelledImages) -> None:
    """Images go to the processes as files that they map, not through pipes."""
    shutil.rmtree(data, ignore_errors=True)
    for name, part in (("train", train), ("synthetic", synthetic), ("test", test)):
        index = pd.DataFrame({"class_id": part.class_ids})
        LabelledImages(part.images, index, train.class_names).save(data / name)


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


def _train(one: _Fit, progress: Progress) -> None:
    """Train and predict; leaves the fit's file, or nothing."""
    began = time.perf_counter()
    train, synthetic, test = (LabelledImages.load(one.data / part) for part in ("train", "synthetic", "test"))
    recipe = one.arm.recipe(
        train,
        synthetic,
        one.wanted,
        synthetic_share=one.config.synthetic_share,
        strength=one.config.augment,
        flips=one.config.flips,
    )
    n_classes = len(train.class_names)

    def from_discriminator(rng: torch.Generator) -> AnyClassifier:
        assert one.discriminator is not None
        return StartedClassifier(load_discriminator(one.discriminator), n_classes, rng=rng)

    model = fit(
        recipe,
        n_classes,
        seed=one.seed,
        steps=one.steps,
        device=one.device,
        progress=progress,
        start=from_discriminator if one.arm.start == "discriminator" else None,
    )
    probability = predict_proba(model, test.images)
    beside = one.target.with_suffix(".partial")
    with beside.open("wb") as file:
        np.savez(file, probability=probability, seconds=np.float64(time.perf_counter() - began))
    beside.replace(one.target)


def _read(target: Path) -> tuple[Floats, float]:
    with np.load(target, allow_pickle=False) as stored:
        return stored["probability"], float(stored["seconds"])


def _train_in_processes(waiting: Sequence[_Fit], workers: int, tell: _Total) -> None:
    """Train each fit in a process of its own, so many at a time.

    Raises:
        TrainingError: A process was killed or failed; the others are stopped.
    """
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        # The server imports all this once, 6 s, and each fit is forked from it in milliseconds;
        # any optimiser of torch loads torch._dynamo.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        context.set_forkserver_preload([__name__, "albumentations", "torch._dynamo"])
    queue = list(waiting)
    running: dict[Connection, tuple[_Fit, BaseProcess]] = {}
    try:
        while queue or running:
            while queue and len(running) < workers:
                one = queue.pop(0)
                listening, speaking = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(one, speaking), daemon=True)
                process.start()
                speaking.close()
                running[listening] = (one, process)
            for ready in wait(list(running)):
                connection = cast("Connection", ready)
                one, process = running[connection]
                if _hear(connection, tell.of(one.target)):
                    continue
                process.join()
                del running[connection]
                connection.close()
                if process.exitcode != 0 or not one.target.exists():
                    raise _killed(one, process.exitcode)
    finally:
        for connection, (_, process) in running.items():
            process.kill()
            process.join()
            connection.close()


def _hear(connection: Connection, progress: Progress) -> bool:
    """Take one message; False when the process has ended.

    Raises:
        TrainingError: The process says that it failed.
    """
    try:
        message = connection.recv()
    except (EOFError, OSError):
        return False
    if isinstance(message, str):
        raise TrainingError(message)
    progress(*message)
    return True


def _killed(one: _Fit, code: int | None) -> TrainingError:
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
    return TrainingError(
        f"the process that trained arm {one.arm.name!r} with seed {one.seed} {how}. If memory ran out, "
        "lower `evaluate.workers`. Finished fits are kept: run the same command again to go on."
    )


def _child(one: _Fit, speaking: Connection) -> None:
    """What runs in a fit's process."""
    # Ctrl-C ends it without a traceback; the parent tells the user.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > _TELL_EVERY_S:
            last = time.monotonic()
            speaking.send((done, total))

    try:
        _train(one, tell)
    except Exception as error:
        with contextlib.suppress(OSError):
            speaking.send(
                f"training arm {one.arm.name!r} with seed {one.seed} failed: {type(error).__name__}: {error}"
            )
        raise SystemExit(1) from error


def _end_with_parent() -> None:
    """No orphans: when the run is killed, its fits end too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _finish(
    by_arm: Mapping[str, list[tuple[Floats, float]]],
    test: LabelledImages,
    wanted: Sequence[int],
    config: EvaluateConfig,
    folder: Path,
    *,
    has_synthetic: bool,
) -> Arena:
    """Score the fits, judge, and write what the folder is to hold."""
    labels, scores, tables = test.class_ids, [], []
    for arm, fits in by_arm.items():
        for seed, (probability, seconds) in enumerate(fits):
            values = score(labels, probability, wanted)
            scores.append({"arm": arm, "seed": seed, **values, "seconds": seconds})
            table = score_classes(labels, probability, test.class_names)
            tables.append(table.assign(arm=arm, seed=seed)[["arm", "seed", *table.columns]])
    stacked = {arm: np.stack([one for one, _ in fits]) for arm, fits in by_arm.items()}
    nothing = (
        "no arm with synthetic images was asked for" if has_synthetic else "no synthetic images were kept"
    )
    verdict = judge(stacked, test, wanted, config, nothing=nothing)
    arena = Arena(pd.DataFrame(scores), pd.concat(tables, ignore_index=True), verdict)
    arena.scores.to_parquet(folder / "scores.parquet", index=False)
    arena.per_class.to_parquet(folder / "per_class.parquet", index=False)
    np.savez_compressed(
        folder / "predictions.npz",
        probability=np.stack(list(stacked.values())).astype(np.float16),
        labels=labels,
        arms=np.array(list(stacked)),
        seeds=np.arange(config.seeds),
    )
    text = json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False)
    (folder / "verdict.json").write_text(text, encoding="utf-8")
    return arena
