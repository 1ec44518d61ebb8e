"""How steps tell how far they are: plain callbacks, so that nothing depends on a display."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol


class Progress(Protocol):
    """Called by a step with the images done so far and the total."""

    def __call__(self, done: int, total: int) -> None:
        """Tell that `done` of `total` are finished."""


class Listener(Protocol):
    """Hears of every step of the run that goes on in this process."""

    def planned(self, step: str, parts: int) -> None:
        """A step will be done in so many parts."""

    def advanced(self, step: str, part: str, done: int, total: int) -> None:
        """A part of a step has done so many of its images."""

    def finished(self, step: str, part: str, *, seconds: float, was_done: bool) -> None:
        """A part of a step is done after so many seconds, or was so already."""


def silent(done: int, total: int) -> None:
    """A `Progress` that tells nobody."""


class _Silence:
    """A `Listener` that does nothing; what a library call has unless somebody listens."""

    def planned(self, step: str, parts: int) -> None:
        """Ignored."""

    def advanced(self, step: str, part: str, done: int, total: int) -> None:
        """Ignored."""

    def finished(self, step: str, part: str, *, seconds: float, was_done: bool) -> None:
        """Ignored."""


# Prefect runs tasks in threads that get paths, not objects; the display is found here.
_listener: Listener = _Silence()


def listener() -> Listener:
    """Whoever listens to the run in this process."""
    return _listener


@contextlib.contextmanager
def listening(new: Listener) -> Iterator[None]:
    """Make `new` the listener of this process while the block runs."""
    global _listener
    before, _listener = _listener, new
    try:
        yield
    finally:
        _listener = before


def to_listener(step: str, part: str) -> Progress:
    """A `Progress` that tells the listener which step and part moves."""

    def tell(done: int, total: int) -> None:
        _listener.advanced(step, part, done, total)

    return tell


def in_parts(progress: Progress, sizes: Sequence[int]) -> list[Progress]:
    """One progress for each part of a work, which are done one after the other.

    Args:
        progress: Told of the whole.
        sizes: What each part counts, in the unit of the whole.

    >>> told = []
    >>> first, second = in_parts(lambda done, total: told.append((done, total)), [10, 30])
    >>> first(1, 2); second(1, 3)
    >>> told
    [(5, 40), (20, 40)]
    """
    total = sum(sizes)

    def part(before: int, size: int) -> Progress:
        return lambda done, of: progress(before + round(size * done / of), total)

    return [part(sum(sizes[:number]), size) for number, size in enumerate(sizes)]
