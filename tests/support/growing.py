"""Real digits as a folder of PNG files that grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from ganaug import config, refresh, series, steps
from ganaug.config import Config
from ganaug.run import RunFolder

# Small enough for seconds; what is made is poor, and that is not what these tests are about.
SMALL = {
    "train.steps": "60",
    "train.class-steps": "20",
    "train.checkpoint-every": "10",
    "evaluate.arms": "[real, oversampling+synthetic]",
    "evaluate.seeds": "2",
    "evaluate.steps": "20",
    "evaluate.workers": "1",
    "screen.classifiers": "1",
    "screen.folds": "2",
    "screen.steps": "100",
    "split.test-share": "0.4",
}


def write_digits(folder: Path, digit: int, first: int, last: int, *, darker: int = 0) -> None:
    """Write the digits of one class from `first` to before `last`, so many grey levels darker."""
    bunch = load_digits()
    (folder / str(digit)).mkdir(parents=True, exist_ok=True)
    for row in np.flatnonzero(bunch.target == digit)[first:last]:
        pixels = (bunch.images[row] * 255 / 16).round() - darker
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(folder / str(digit) / f"{row:04d}.png")


def write_first(folder: Path) -> Path:
    """Two common classes and two rare ones."""
    for digit in range(4):
        write_digits(folder, digit, 0, 60 if digit < 2 else 15)
    return folder


def settings(**more: Any) -> Config:
    """Of a series in the working folder, on the images in it."""
    named = {key.replace("__", "."): value for key, value in more.items()}
    base = {**SMALL, "run_dir": "series", "publish.store": "store", "device": "cpu"}
    return config.load(None, {**base, **named}, data="images")


def refresh_once(chosen: Config, asked: tuple[str, ...] = ()) -> RunFolder:
    """Do in this process what `ganaug refresh` does, without Prefect."""
    begun = series.begin(chosen, asked)
    if not begun.is_done and _look(begun).kind == "nothing":
        begun = series.drop_unchanged(chosen, begun.run) or begun
        if not begun.is_done:
            _look(begun)
    run = begun.run
    assert run is not None
    if not begun.is_done:
        found = {step: steps.do(run, step)[-1].record.summary for step in list(steps.STEPS)[2:]}
        series.end(run, chosen, found)
    return run


def _look(begun: series.Begun) -> refresh.Decision:
    assert begun.run is not None
    for step in ("split", "plan"):
        steps.do(begun.run, step)
    return steps.decide_refresh(begun.run)
