"""Which device training runs on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import Lock
from typing import Any

import torch

from ganaug.errors import DeviceError


def resolve_device(asked: str) -> str:
    """Turn the setting `auto`, `cpu` or `cuda` into the device that is used.

    Raises:
        DeviceError: `cuda` was asked for and torch finds no GPU.

    >>> resolve_device("cpu")
    'cpu'
    """
    has_cuda = torch.cuda.is_available()
    if asked == "auto":
        return "cuda" if has_cuda else "cpu"
    if asked.startswith("cuda") and not has_cuda:
        raise DeviceError(
            f"device {asked!r} was asked for, and torch {torch.__version__} finds no CUDA GPU here; "
            "use --device auto or cpu, or install a CUDA build of torch and the GPU's driver"
        )
    return asked


_lock = Lock()
_inside: list[Any] = []
"""One entry for each `cpu_threads` that is being run now, in all threads; the first knows what was before."""


@contextlib.contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Compute with so many processor threads while the block runs, in torch and in numpy's libraries.

    Blocks side by side in several threads are meant to ask for the same: the last one sets all back.

    Args:
        count: Threads; None leaves all as it is.

    >>> with cpu_threads(1):
    ...     torch.get_num_threads()
    1
    """
    if count is None:
        yield
        return
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with _lock:
        before = torch.get_num_threads()
        _inside.append(_inside[0] if _inside else threadpool_limits(limits=count))
        # OpenMP keeps it by thread.
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _lock:
            torch.set_num_threads(before)
            limits = _inside.pop()
            if _inside:
                torch.set_num_threads(count)
            else:
                limits.restore_original_limits()
