"""How many calls of ONNX Runtime at a time, of how many threads and images: measured, not guessed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ganaug.cores import cores
from ganaug.runtime import gpu_count, has_cuda

TRY_S = 0.15
"""How long each way is tried."""
FEW = 4096
"""So few images are made before a trial would be over."""
WORTH_IT_S = 10.0
"""A production that takes no longer than this with the first way is not calibrated."""
CLEARLY = 1.05
"""A later way must be so many times as fast: the first ones take the least memory."""
_BATCHES = (64, 16, 256)
_GPU_BATCHES = (256, 1024, 4096)
_GPU_CALLS = 2
"""Of each GPU: one fills it while the next one's latents are drawn and its images fetched."""

Make = Callable[[int], object]
"""Makes one batch, the one with this number; safe in several threads."""


@dataclass(frozen=True)
class Way:
    """How production calls ONNX Runtime.

    Attributes:
        workers: Calls at a time.
        threads: Threads of each.
        batch: Images of each.
        images_per_s: What was measured; None where it was not.
    """

    workers: int
    threads: int
    batch: int
    images_per_s: float | None = None


def calibrate(
    prepare: Callable[[Way], Make],
    images: int,
    *,
    device: str,
    workers: int | None = None,
    threads: int | None = None,
    batch: int | None = None,
) -> Way:
    """Find the fastest way; what is given is kept.

    Args:
        prepare: Opens what a way needs, and gives the function that makes a batch.
        images: How many images there are to make: few are not worth the trials.
        device: `auto`, `cpu` or `cuda`.
        workers: Calls at a time; None: choose.
        threads: Threads of each; None: choose.
        batch: Images of each; None: choose.

    Returns:
        The way, with the images per second that it made where it was tried.
    """
    ways = list(_ways(device, workers, threads, batch))
    if images <= FEW or len(ways) == 1:
        return ways[0]
    best: Way | None = None
    for way in ways:
        measured = _measured(way, prepare(way))
        if best is None or (measured.images_per_s or 0) > CLEARLY * (best.images_per_s or 0):
            best = measured
        if images / (measured.images_per_s or 1) < WORTH_IT_S:
            break
    if best is None:
        raise AssertionError("there is always one way")
    return best


def _ways(device: str, workers: int | None, threads: int | None, batch: int | None) -> Iterator[Way]:
    """First what is good for most: a thread for each core, each with a call of its own."""
    on_gpu = device == "cuda" or (device == "auto" and has_cuda())
    splits = [(_GPU_CALLS * max(1, gpu_count()), 1)] if on_gpu else [(cores(), 1), (1, cores())]
    if not on_gpu and cores() >= 8:
        splits.append((cores() // 4, 4))
    batches = _GPU_BATCHES if on_gpu else _BATCHES
    seen = set()
    for at_once, each in splits:
        for size in batches:
            way = Way(workers or at_once, threads or each, batch or size)
            if way not in seen:
                seen.add(way)
                yield way


def _measured(way: Way, make: Make) -> Way:
    with ThreadPoolExecutor(way.workers) as pool:
        # The first calls open sessions and lay out memory.
        list(pool.map(make, range(way.workers)))
        started = time.perf_counter()
        ends: list[tuple[int, float]] = list(pool.map(_until(make, started + TRY_S), range(way.workers)))
    rate = sum(count * way.batch / (end - started) for count, end in ends)
    return Way(way.workers, way.threads, way.batch, rate)


def _until(make: Make, deadline: float) -> Callable[[int], tuple[int, float]]:
    def repeat(number: int) -> tuple[int, float]:
        made: Any = 0
        while made == 0 or time.perf_counter() < deadline:
            make(number)
            made += 1
        return made, time.perf_counter()

    return repeat
