"""Checkpoints come back bit by bit, old ones go, and damaged ones are passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ganaug.errors import ModelError
from ganaug.training.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    load_tensors,
    pack_optimizer,
    save_checkpoint,
    save_tensors,
    unpack_optimizer,
)


def _checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"weight": torch.full((2, 3), float(step))}, {"curves": [[step, "loss", 0.1]]})


def test_the_newest_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    for step in (0, 5, 100):
        save_checkpoint(tmp_path, _checkpoint(step))
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.notes) == (100, {"curves": [[100, "loss", 0.1]]})
    assert torch.equal(found.tensors["weight"], torch.full((2, 3), 100.0))


def test_only_the_last_two_stay(tmp_path: Path) -> None:
    for step in (0, 5, 10, 200):
        save_checkpoint(tmp_path, _checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000010.safetensors",
        "00000200.safetensors",
    ]


@pytest.mark.parametrize("damage", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{", b"x" * 100])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, damage: bytes) -> None:
    save_checkpoint(tmp_path, _checkpoint(5))
    save_checkpoint(tmp_path, _checkpoint(10)).write_bytes(damage)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 5


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "nothing") is None


def test_half_written_files_are_no_checkpoints(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, _checkpoint(5))
    (tmp_path / "00000010.safetensors.new").write_bytes(b"half")
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 5


def test_damaged_weights_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    save_tensors(path, {"weight": torch.ones(4)})
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelError, match="train again"):
        load_tensors(path)


def test_an_optimiser_goes_on_as_if_it_had_not_stopped() -> None:
    def steps(weight: torch.Tensor, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()

    straight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam([straight], lr=0.1, betas=(0.0, 0.99), fused=True)
    steps(straight, optimizer, 3)
    resumed = straight.detach().clone().requires_grad_()
    other = torch.optim.Adam([resumed], lr=0.1, betas=(0.0, 0.99), fused=True)
    unpack_optimizer(other, pack_optimizer(optimizer))
    steps(straight, optimizer, 4)
    steps(resumed, other, 4)
    assert torch.equal(straight, resumed)
