"""Which device training runs on, and how arrays get there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from threading import Lock
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from ganaug.cores import cores
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


def upload(array: npt.NDArray[Any], device: str) -> Tensor:
    """The array on the device; on a GPU without waiting until it is there."""
    tensor = torch.from_numpy(array)
    if device.startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


_lock = Lock()
_inside: list[int] = []
"""One entry for each `cpu_threads` that is being run now, in all threads."""
_outermost = contextlib.ExitStack()
"""What the first of them set, for the last to set back."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Compute with so many processor threads while the block runs, in torch and in numpy's libraries.

    Blocks side by side in several threads are meant to ask for the same: the last one sets all back.

    Args:
        count: Threads; None leaves all as it is, as long as that is not more than the cores there are.

    >>> with cpu_threads(1):
    ...     torch.get_num_threads()
    1
    """
    if count is None:
        if torch.get_num_threads() <= cores():
            yield
            return
        count = cores()
    with _lock:
        before = torch.get_num_threads()
        if not _inside:
            _outermost.enter_context(_library_threads(count))
        _inside.append(count)
        # OpenMP keeps it by thread.
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _lock:
            torch.set_num_threads(before)
            _inside.pop()
            if _inside:
                torch.set_num_threads(count)
            else:
                _outermost.close()


@contextlib.contextmanager
def _library_threads(count: int) -> Iterator[None]:
    """The libraries that are loaded are set; those loaded in the block read the environment, and keep it."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    known = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(count)))
    try:
        with threadpool_limits(limits=count):
            yield
    finally:
        for name, value in known.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
