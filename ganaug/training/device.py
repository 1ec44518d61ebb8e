"""Which device training runs on."""

from __future__ import annotations

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
