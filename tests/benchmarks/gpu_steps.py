"""Recorded training steps a second on a GPU, alone and side by side: a ResNet-32, and the GAN `long-tail`.

    nvidia-cuda-mps-control -d
    python tests/benchmarks/gpu_steps.py --processes 1 8
    python tests/benchmarks/gpu_steps.py --profile

Each way of computing the same is a row: maps of the ResNet in float32 or bfloat16, maps of the GAN resized by
torch's own kernel or by a matrix product. Batches wait on the device, so that neither augmentation nor the disk
counts. Numbers differ from machine to machine; nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from throughput import ours

from ganaug.arms import make_arm
from ganaug.config import TrainConfig
from ganaug.dataset import LabelledImages
from ganaug.training import classifier
from ganaug.training.classifiers.resnet import ResNet32
from ganaug.training.networks import resize
from ganaug.training.networks.presets import resolve
from ganaug.training.recorder import SWITCH

SHAPE, CLASSES, IMAGES = (32, 32, 3), 10, 4000
WARM_UP = 32
"""Steps before any is timed: every kind of step is recorded by then."""
Steps = Callable[[int], None]


def resnet(precision: torch.dtype) -> Steps:
    """Play so many steps of `fit` with an arm that augments nothing."""
    recipe = make_arm("real").recipe(noise())

    def play(steps: int) -> None:
        def start(rng: torch.Generator) -> ResNet32:
            network = ResNet32(SHAPE, CLASSES, rng=rng)
            network.precision = precision
            return network

        classifier.fit(recipe, CLASSES, seed=0, steps=steps, device="cuda", start=start)

    return play


def gan(most_weights: int) -> Steps:
    """Play so many steps of one GAN of a GPU's size."""
    preset = resolve(TrainConfig(recipe="long-tail", width=64, batch=128), SHAPE, IMAGES, "cuda")[2]
    play_one = ours(noise(), preset, "cuda")

    def play(steps: int) -> None:
        resize.MOST_WEIGHTS = most_weights
        for _ in range(steps):
            play_one()

    return play


WAYS: dict[str, tuple[Callable[[Any], Steps], Any]] = {
    "resnet-32, float32": (resnet, torch.float32),
    "resnet-32, bfloat16": (resnet, torch.bfloat16),
    "long-tail, torch's kernel": (gan, 0),
    "long-tail, matrix product": (gan, resize.MOST_WEIGHTS),
}


def main() -> None:
    """Measure and print a table, or the kernels."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--profile", action="store_true", help="print the kernels of a step instead")
    asked = parser.parse_args()
    if asked.profile:
        for way in WAYS:
            profile(way)
        return
    print("| steps | processes | steps/s, all together |\n| --- | --- | --- |")
    for processes in asked.processes:
        for way, rate in measure(processes, asked.steps).items():
            print(f"| {way} | {processes} | {rate:.0f} |", flush=True)


def measure(processes: int, steps: int) -> dict[str, float]:
    """Steps a second of all processes together, by way."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(processes), context.Queue()
    children = [context.Process(target=_child, args=(barrier, queue, steps)) for _ in range(processes)]
    for child in children:
        child.start()
    rates = dict.fromkeys(WAYS, 0.0)
    for _ in range(processes * len(WAYS)):
        way, rate = queue.get(timeout=300)
        rates[way] += rate
    for child in children:
        child.join()
    return rates


def _child(barrier: Any, queue: Any, steps: int) -> None:
    torch.set_num_threads(1)
    for way, (make, value) in WAYS.items():
        play = make(value)
        _timed(play, WARM_UP)
        # `fit` begins anew each time: what that takes is taken off.
        none = _timed(play, WARM_UP)
        barrier.wait()
        queue.put((way, steps / (_timed(play, WARM_UP + steps) - none)))


def _timed(play: Steps, steps: int) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    play(steps)
    torch.cuda.synchronize()
    return time.perf_counter() - began


def profile(way: str, steps: int = 4) -> None:
    """Print the kernels of a step that is not recorded, the longest first."""
    os.environ[SWITCH] = "0"
    make, value = WAYS[way]
    play = make(value)
    play(6)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        play(steps)
        torch.cuda.synchronize()
    rows = sorted(found.key_averages(), key=lambda row: -row.self_device_time_total)
    total = sum(row.self_device_time_total for row in rows)
    print(f"\n{way}: {total / steps / 1e3:.2f} ms of kernels a step")
    for row in rows[:12]:
        print(f"{row.self_device_time_total / steps / 1e3:8.3f} ms {row.count / steps:5.0f} x {row.key[:90]}")


def noise() -> LabelledImages:
    """Images in which there is nothing to learn; speed does not depend on it."""
    rng = np.random.default_rng(0)
    index = pd.DataFrame({"class_id": np.arange(IMAGES) % CLASSES})
    index = index.assign(path="", split="train", group="", sha256="")
    return LabelledImages(
        rng.integers(0, 256, (IMAGES, *SHAPE), np.uint8), index, tuple(map(str, range(CLASSES)))
    )


if __name__ == "__main__":
    main()
