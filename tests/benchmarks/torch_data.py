"""Images per second of the torch adapters, beside the same images made beforehand.

    python tests/benchmarks/torch_data.py
    python tests/benchmarks/torch_data.py --model runs/photos/model --images 20000 --rounds 5

In turns, in the same process: rates are medians over the rounds, ratios are taken within each.

- `DataLoader`, of batches in random order, on a `TensorDataset` of the images as float tensors that are
  there, and on a `SyntheticDataset`: in the first epoch, which makes them and starts the workers, and in a
  later one, which finds most of them kept and the workers there.
- `__getitem__`, one by one in random order with nothing kept, with blocks of neighbours kept, and
  `__getitems__` in batches.
- `SyntheticBatches` beside `Generator.sample_at` and `torch.from_numpy` of the same addresses.

Numbers differ from machine to machine; nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

import ganaug
from ganaug import SyntheticBatches, SyntheticDataset

BATCH = 128


def main() -> None:
    """Measure in turns and print medians and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="exported/digits")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    generator = ganaug.load(asked.model, device="cpu")
    each = asked.images // len(generator.class_names)
    total = each * len(generator.class_names)
    print(f"{generator}, {total} images, batches of {BATCH}, {asked.rounds} rounds")
    for workers in (0, 2):
        _compare(f"DataLoader, {workers} workers", _loaders(generator, each, workers), total, asked.rounds)
    _compare("one process, no loader", _fetches(generator, each), total, asked.rounds)
    _compare("whole batches", _batches(generator, total // BATCH), total // BATCH * BATCH, asked.rounds)


Side = Callable[[], Callable[[], Any]]
"""Makes ready, which is not timed, and returns what is."""


def _compare(title: str, sides: dict[str, Side], images: int, rounds: int) -> None:
    """Time all sides in turns; the first is what the others are compared with."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            timed = side()
            begin = time.perf_counter()
            timed()
            rates[name].append(images / (time.perf_counter() - begin))
    first = rates[next(iter(rates))]
    print(f"\n| {title} | images/s | ratio |\n| --- | --- | --- |")
    for name, own in rates.items():
        ratio = statistics.median(rate / other for rate, other in zip(own, first, strict=True))
        print(f"| {name} | {statistics.median(own):,.0f} | {ratio:.2f} |")


def _loaders(generator: ganaug.Generator, each: int, workers: int) -> dict[str, Side]:
    ready = SyntheticDataset(generator, each)
    images = torch.from_numpy(ready.images(range(len(ready)))).permute(0, 3, 1, 2).contiguous().float() / 255
    tensors = TensorDataset(images, torch.tensor(ready.targets))

    def first_epoch(make: Callable[[], Dataset[Any]]) -> Side:
        return lambda: _through(DataLoader(make(), BATCH, shuffle=True, num_workers=workers))

    def later_epoch(make: Callable[[], Dataset[Any]]) -> Side:
        def ready() -> Callable[[], Any]:
            stay = workers > 0
            loader = DataLoader(
                make(), BATCH, shuffle=True, num_workers=workers, persistent_workers=stay, timeout=60 * stay
            )
            # Each worker keeps what it made, and gets other batches in each epoch.
            for _ in range(1 + 4 * workers):
                _through(loader)()
            return _through(loader)

        return ready

    def synthetic() -> Dataset[Any]:
        return SyntheticDataset(generator, each)

    return {
        "TensorDataset, later epoch": later_epoch(lambda: tensors),
        "SyntheticDataset, later epoch": later_epoch(synthetic),
        "TensorDataset, first epoch": first_epoch(lambda: tensors),
        "SyntheticDataset, first epoch": first_epoch(synthetic),
    }


def _fetches(generator: ganaug.Generator, each: int) -> dict[str, Side]:
    total = each * len(generator.class_names)
    order = np.random.default_rng(0).permutation(total).tolist()

    def singly(cache_bytes: int) -> Callable[[], Any]:
        dataset = SyntheticDataset(generator, each, cache_bytes=cache_bytes)
        return lambda: [dataset[position] for position in order]

    def in_batches() -> Callable[[], Any]:
        dataset = SyntheticDataset(generator, each, cache_bytes=0)
        parts = [order[first : first + BATCH] for first in range(0, total, BATCH)]
        return lambda: [dataset.__getitems__(part) for part in parts]

    return {
        "__getitems__, nothing kept": in_batches,
        "__getitem__, blocks kept": lambda: singly(2**28),
        "__getitem__, nothing kept": lambda: singly(0),
    }


def _batches(generator: ganaug.Generator, number: int) -> dict[str, Side]:
    def copied() -> Callable[[], Any]:
        return lambda: [
            (torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))
            for images, labels in generator.stream(BATCH, batches=number)
        ]

    return {
        "sample_at and from_numpy": copied,
        "SyntheticBatches": lambda: _through(SyntheticBatches(generator, BATCH, batches=number)),
    }


def _through(batches: Iterable[Any]) -> Callable[[], Any]:
    return lambda: sum(1 for _ in batches)


if __name__ == "__main__":
    main()
