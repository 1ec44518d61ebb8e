"""How long steps tell how far they are: a plain callback, so that nothing depends on a display."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by a step with the images (or steps) done so far and the total."""

    def __call__(self, done: int, total: int) -> None:
        """Tell that `done` of `total` are finished."""


def silent(done: int, total: int) -> None:
    """A `Progress` that tells nobody."""
