"""A classifier that is a command: it gets a folder of training images and leaves predictions.

No shell runs it. The folder is what `evaluate/recipe` holds of the best arm, without its README, and
`test.npy`, the test images without labels.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ganaug.classifier_name import command_words, filled
from ganaug.dataset import Images
from ganaug.errors import TrainingError
from ganaug.training.classifiers import leash

TEST_FILE, PREDICTIONS, OUT_FILE, ERROR_FILE = "test.npy", "predictions", "stdout.txt", "stderr.txt"
LAST_LINES = 15

Floats = npt.NDArray[np.float32]


def run_command(
    name: str,
    folder: Path,
    test: Images,
    class_names: tuple[str, ...],
    *,
    seed: int,
    max_seconds: float | None,
) -> Floats:
    """Run the command on a folder and read what it predicts.

    Args:
        name: The setting, `command: ...`.
        folder: Holds the recipe; gets `test.npy` and what the command writes.
        test: (N, H, W, C) uint8.
        class_names: Name of each of K classes.
        seed: Fills `{seed}`.
        max_seconds: A command that takes longer is stopped.

    Returns:
        (N, K) float32, unchecked but for its shape.

    Raises:
        TrainingError: The command fails, takes too long, or leaves no predictions that can be read.
    """
    # Test images may come class by class; who normalises by the batch would learn from that.
    order = np.random.default_rng(0).permutation(len(test))
    np.save(folder / TEST_FILE, test[order])
    target = folder.resolve() / PREDICTIONS
    values = {"folder": str(folder.resolve()), "predictions": str(target), "seed": str(seed)}
    words = filled(command_words(name), values)
    code = _run(words, folder, max_seconds)
    how = _how_it_ended(code, max_seconds)
    if how:
        raise TrainingError(
            f"the command of `evaluate.classifier` {how}.{_last_lines(folder)}\n"
            f"To see more, run it by hand: {shlex.join(words)}\n"
            "Finished fits are kept: the same `ganaug` command goes on from there."
        )
    try:
        found = _read(target, class_names)
        if found.shape != (len(test), len(class_names)):
            raise ValueError(
                f"they are of shape {found.shape}; {(len(test), len(class_names))} is needed: a row for each image "
                f"of {TEST_FILE}, a column for each class in the order of class ids"
            )
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"the command of `evaluate.classifier` left no predictions that can be used: {error}."
            f"{_last_lines(folder)}\nTo see more, run it by hand: {shlex.join(words)}"
        ) from error
    probability = np.empty_like(found)
    probability[order] = found
    return probability


def _run(words: list[str], folder: Path, max_seconds: float | None) -> int | None:
    """Exit status of the command; None where it was stopped for taking too long."""
    # As every fit: one thread, so that those side by side do not hinder each other.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    with (folder / OUT_FILE).open("wb") as out, (folder / ERROR_FILE).open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", leash.__file__, *words],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=errors,
            env=environment,
        )
        try:
            return process.wait(max_seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def _how_it_ended(code: int | None, max_seconds: float | None) -> str:
    """What is wrong with an exit status; empty for success."""
    if code == 0:
        return ""
    if code is None:
        return f"had not ended after {max_seconds:g} s (`evaluate.classifier_max_seconds`) and was stopped"
    if code > 128:
        return f"was killed by signal {code - 128} (if memory ran out, lower `evaluate.workers`)"
    return f"ended with status {code}"


def _last_lines(folder: Path) -> str:
    """The end of what it wrote to standard error, or else to standard output."""
    for name in (ERROR_FILE, OUT_FILE):
        lines = (folder / name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return "".join(f"\n    {line}" for line in ["Its last lines:", *lines[-LAST_LINES:]])
    return " It wrote nothing to the terminal."


def _read(target: Path, class_names: tuple[str, ...]) -> Floats:
    """Predictions as (N, K) float32, of `.npy` or `.csv`, with or without that at the end of the name.

    Raises:
        ValueError: There is no file, or not such a one.
        OSError: It cannot be read.
    """
    paths = [target.with_suffix(".npy"), target.with_suffix(".csv"), target]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise ValueError(f"{target} was not written, nor with .npy or .csv behind it")
    with found[0].open("rb") as file:
        is_array = file.read(6) == b"\x93NUMPY"
    return _of_array(found[0]) if is_array else _of_table(found[0], class_names)


def _of_array(path: Path) -> Floats:
    try:
        return _numbers(np.load(path, allow_pickle=False))
    except (tokenize.TokenError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path.name} is no array that can be read: {error}") from error


def _of_table(path: Path, class_names: tuple[str, ...]) -> Floats:
    table = pd.read_csv(path)
    missing = [name for name in class_names if name not in table]
    if missing:
        raise ValueError(
            f"{path.name} has no column {', '.join(map(repr, missing))}; its columns are {list(table.columns)}"
        )
    return _numbers(table[list(class_names)].to_numpy())


def _numbers(values: Any) -> Floats:
    if values.dtype.kind not in "fiub":
        raise ValueError(f"they are of type {values.dtype}, not numbers")
    return np.asarray(values, np.float32)
