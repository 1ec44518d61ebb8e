"""Training steps a second of the classifiers that an evaluation trains, by how many are trained side by side.

    python tests/benchmarks/fits.py
    python tests/benchmarks/fits.py --devices cuda --workers 1 4 8 16 --classifiers small-cnn resnet-32

Each turn trains `--fits` classifiers on noise (speed does not depend on it) with oversampling and
albumentations, as `ganaug evaluate` does: from the call to the last file, processes and GPU made ready
included. Numbers differ from machine to machine; nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ganaug.arms import find_arms
from ganaug.config import EvaluateConfig
from ganaug.dataset import LabelledImages
from ganaug.training.classifiers.choice import Choice
from ganaug.training.contest import Entry, Ground, Job, train_all

ARM, CLASSES, IMAGES = "oversampling+albumentations", 10, 2000


def main() -> None:
    """Measure in turns and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    parser.add_argument("--devices", nargs="+", default=usual)
    parser.add_argument("--classifiers", nargs="+", default=["small-cnn"])
    parser.add_argument("--workers", nargs="+", type=int, default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--px", type=int, default=32)
    parser.add_argument("--fits", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300)
    asked = parser.parse_args()
    print(f"{asked.fits} fits of {asked.steps} steps, {asked.px} px, {os.cpu_count()} cores\n")
    print(
        "| classifier | device | side by side | steps/s, all together |\n| --- | --- | --- | --- |",
        flush=True,
    )
    for classifier in asked.classifiers:
        for device in asked.devices:
            # The server of processes is started once, and is not what is measured.
            measure(classifier, device, asked.px, 1, fits=1, steps=1)
            for workers in asked.workers:
                seconds = measure(classifier, device, asked.px, workers, fits=asked.fits, steps=asked.steps)
                rate = asked.fits * asked.steps / seconds
                print(f"| {classifier} | {device} | {workers} | {rate:.0f} |", flush=True)


def measure(classifier: str, device: str, px: int, workers: int, *, fits: int, steps: int) -> float:
    """Seconds that so many fits take."""
    train, test = noise(px, IMAGES), noise(px, 1000)
    [arm] = find_arms([ARM])
    config = EvaluateConfig(arms=(ARM,), steps=steps, workers=workers)
    choice = Choice(classifier, "network")
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(
            train,
            train.take(np.arange(0)),
            test,
            (0,),
            config,
            Path(folder),
            device=device,
            classifier=choice,
        )
        began = time.perf_counter()
        train_all([Job(ground, [Entry(arm, 0.25, "strong")], fits)])
        return time.perf_counter() - began


def noise(px: int, count: int) -> LabelledImages:
    """Images in which there is nothing to learn."""
    rng = np.random.default_rng(count)
    index = pd.DataFrame({"class_id": np.arange(count) % CLASSES})
    images = rng.integers(0, 256, (count, px, px, 3), np.uint8)
    return LabelledImages(images, index, tuple(map(str, range(CLASSES))))


if __name__ == "__main__":
    main()
