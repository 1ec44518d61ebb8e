"""A program: makes a production in processes that kill themselves at random moments, until it is whole.

    python killed.py SEED '{"model": ..., "out": ..., ...}' [screened]

Each dies at a write of its own: before it, in its middle, or right after. Prints how many died.
Nothing but `fork` makes them, so that a life costs milliseconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.productions import order, with_small_screener

from ganaug.places import LocalPlace
from ganaug.produce import calibrate, produce

FARTHEST = 30
"""The latest write that a process dies at."""


class _Dying:
    """A file whose writer dies when half of the first piece is written."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> _Dying:
        return self

    def __exit__(self, *error: object) -> None:
        die()

    def write(self, piece: Any) -> None:
        """Half of it."""
        self._file.write(piece[: len(piece) // 2])
        self._file.flush()
        die()


def die() -> None:
    """As by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(left: int, moment: str) -> None:
    """Let this process die at the write that comes after `left` others."""
    write, opened = LocalPlace.write, LocalPlace._opened

    def counting(place: LocalPlace, name: str, chunks: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0 and moment == "before":
            die()
        write(place, name, chunks)
        if left < 0:
            die()

    def opening(place: LocalPlace, path: Path) -> Any:
        file = opened(place, path)
        return _Dying(file) if left < 0 and moment == "half" else file

    LocalPlace.write, LocalPlace._opened = counting, opening  # type: ignore[method-assign]


def main() -> None:
    """Kill and go on until one process lives to the end."""
    rng, settings = random.Random(sys.argv[1]), json.loads(sys.argv[2])
    calibrate.TRY_S = 0.0
    if "screened" in sys.argv:
        with_small_screener(pytest.MonkeyPatch())
    deaths = 0
    while True:
        left, moment = rng.randrange(FARTHEST), rng.choice(["before", "half", "after"])
        process = os.fork()
        if not process:
            die_at(left, moment)
            produce(order(**settings))
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if status == 0:
            break
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit(1)
        deaths += 1
    sys.stdout.write(str(deaths))


if __name__ == "__main__":
    main()
