"""Checkpoints: one file per checkpoint, written atomically, from which training goes on exactly.

A checkpoint is a safetensors file: tensors by dotted name, and a JSON text in its header for
everything that is not a tensor. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ganaug.errors import ModelError

KEPT = 2
"""Checkpoints that stay: the newest, and the one before should the newest be damaged."""


@dataclass(frozen=True)
class Checkpoint:
    """What training goes on from.

    Attributes:
        step: Steps done.
        tensors: Weights, moments and random states by dotted name.
        notes: Everything else, as JSON.
    """

    step: int
    tensors: dict[str, Tensor]
    notes: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and delete older ones; a kill at any time leaves a whole one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{checkpoint.step:08d}.safetensors"
    save_tensors(path, checkpoint.tensors, {"step": checkpoint.step, "notes": checkpoint.notes})
    for old in sorted(folder.glob("*.safetensors"))[:-KEPT]:
        old.unlink()
    return path


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None: training then begins at the beginning."""
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        try:
            tensors, header = load_tensors(path)
            return Checkpoint(header["step"], tensors, header["notes"])
        except (ModelError, KeyError):
            continue
    return None


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any] | None = None) -> None:
    """Write tensors and a JSON header so that a reader sees the old file or the new one."""
    beside = path.with_name(path.name + ".new")
    # Contiguous copies: safetensors refuses views that share memory.
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, beside, metadata={"json": json.dumps(header or {})})
    beside.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        ModelError: The file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("json", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}); delete it and train again") from error


def pack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a prefix before every name.

    >>> list(pack("average", {"last.weight": torch.zeros(1)}))
    ['average.last.weight']
    """
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unpack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    start = len(prefix) + 1
    return {name[start:]: tensor for name, tensor in tensors.items() if name.startswith(prefix + ".")}


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts of an optimiser by `<parameter number>.<name>`."""
    state: dict[int, dict[str, Tensor | None]] = optimizer.state_dict()["state"]
    rows = [(f"{number}.{name}", value) for number, row in state.items() for name, value in row.items()]
    # Plain gradient descent names a momentum that it does not have.
    return {name: value for name, value in rows if value is not None}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put moments and step counts back into an optimiser of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, field = name.partition(".")
        state.setdefault(int(number), {})[field] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def copy_weights(source: nn.Module) -> dict[str, Tensor]:
    """A module's weights as they are now, detached from what becomes of them."""
    return {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
