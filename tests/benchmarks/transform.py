"""What GanSample costs: a call beside a batched image, and a DataLoader with it and without.

    python tests/benchmarks/transform.py
    python tests/benchmarks/transform.py --models digits --workers 0 --rounds 9

Two models: `digits`, the shipped one (8 px grey), and `strided-32`, the `strided` recipe's network at 32 px in
RGB with random weights, which cost what trained ones do. One thread makes images, all are touched.

A call's cost is time of one core (in wall time, a machine that is busy with other things would show those):

- `batched`: microseconds per image of `Generator.sample`, 64 at a time.
- `call`: of `GanSample`, by itself, on images of the model's own shape.
- `albumentations`: of a transform of albumentations that takes a label and does nothing: what any transform costs.
- `ratio`: (call - albumentations) / batched.

The loaders read images from memory in batches of 64, through `HorizontalFlip` alone and with GanSample before it,
in turns; their workers stay, and their start is not counted. A call's images are made in the worker, so that
workers share the cost as far as there are cores. Numbers differ from machine to machine; nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import ganaug
from ganaug.config import ExportConfig, TrainConfig
from ganaug.generate import Generator
from ganaug.training.export import export_module
from ganaug.training.networks import NETWORKS, NetworkSpec
from ganaug.training.networks.conditioning import ConditionalGenerator
from ganaug.training.networks.presets import resolve

MODELS = ("digits", "strided-32")
CALLS, BATCH = 2048, 64
IMAGES = 4096
"""Images of a loader's turn."""
CLASSES = tuple("0123456789")


class Nothing(A.ImageOnlyTransform):  # type: ignore[misc]
    """A label comes in and nothing happens."""

    targets_as_params = ("label",)

    def apply(self, img: Any, **_params: Any) -> Any:
        """The image."""
        return img

    def get_params_dependent_on_data(self, params: Any, data: Any) -> dict[str, Any]:
        """Nothing is drawn."""
        return {}


class InMemory(Dataset[tuple[Any, int]]):
    """Random images with labels, through a pipeline."""

    def __init__(self, pipeline: Any, image_shape: tuple[int, int, int]) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (IMAGES, *image_shape), np.uint8)
        self.labels, self.pipeline = rng.integers(0, 10, IMAGES).tolist(), pipeline

    def __len__(self) -> int:
        """How many."""
        return IMAGES

    def __getitem__(self, row: int) -> tuple[Any, int]:
        """One of them."""
        label = self.labels[row]
        return self.pipeline(image=self.images[row], label=CLASSES[label])["image"], label


def main() -> None:
    """Measure in turns and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--workers", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        models = {name: _open(name, Path(folder)) for name in asked.models}
        print(f"microseconds, {asked.rounds} rounds: median (lowest to highest)\n")
        print("| model | batched | call | albumentations | ratio |\n| --- | --- | --- | --- | --- |")
        for name, model in models.items():
            print(f"| {name} | {' | '.join(_per_call(model, asked.rounds))} |", flush=True)
        print(f"\nimages/s of a DataLoader, {asked.rounds} rounds\n")
        print("| model | workers | without | with GanSample | ratio |\n| --- | --- | --- | --- | --- |")
        for name, model in models.items():
            for workers in asked.workers:
                cells = _per_second(model, workers, asked.rounds)
                print(f"| {name} | {workers} | {' | '.join(cells)} |", flush=True)


def _open(name: str, folder: Path) -> Generator:
    if name == "digits":
        return ganaug.load("exported/digits", device="cpu")
    preset = resolve(TrainConfig(recipe="strided"), (32, 32, 3), 1000, "cpu")[2]
    network = NETWORKS[preset.network]
    spec = NetworkSpec(
        preset.network,
        (32, 32, 3),
        tuple(range(10)),
        preset.z_dim,
        preset.width,
        None,
        preset.conditioning,  # type: ignore[arg-type]
    )
    torch.manual_seed(0)
    export_module(
        ConditionalGenerator(spec, network.generator(spec)).eval(),
        folder / name,
        ExportConfig(),
        class_names=CLASSES,
        dataset_sha256="0" * 64,
        name="model",
        recipe="strided",
    )
    return ganaug.load(folder / name, device="cpu")


def _per_call(model: Generator, rounds: int) -> Iterator[str]:
    image = np.zeros(model.image_shape, np.uint8)
    ours, nothing = ganaug.GanSample(model, 1.0), Nothing(p=1.0)
    turns: list[Callable[[], object]] = [
        lambda: model.sample("3", CALLS),
        lambda: [ours(image=image, label="3") for _ in range(CALLS)],
        lambda: [nothing(image=image, label="3") for _ in range(CALLS)],
    ]
    rows = []
    for _ in range(rounds + 1):
        batched, call, base = (_seconds(turn, time.process_time) / CALLS * 1e6 for turn in turns)
        rows.append((batched, call, base, (call - base) / batched))
    # The first opens sessions.
    for values, digits in zip(zip(*rows[1:], strict=True), (1, 1, 1, 2), strict=True):
        yield _spread(values, digits)


def _per_second(model: Generator, workers: int, rounds: int) -> Iterator[str]:
    pipelines = [
        A.Compose([A.HorizontalFlip()]),
        A.Compose([ganaug.GanSample(model, 1.0), A.HorizontalFlip()]),
    ]
    loaders = [
        DataLoader(
            InMemory(pipeline, model.image_shape),
            batch_size=BATCH,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for pipeline in pipelines
    ]
    rows = []
    for _ in range(rounds + 1):
        without, ours = (
            IMAGES / _seconds(lambda loader=loader: sum(1 for _ in loader)) for loader in loaders
        )
        rows.append((without, ours, ours / without))
    # The first starts the workers.
    for values, digits in zip(zip(*rows[1:], strict=True), (0, 0, 2), strict=True):
        yield _spread(values, digits)


def _seconds(turn: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    turn()
    return clock() - started


def _spread(values: Any, digits: int) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


if __name__ == "__main__":
    main()
