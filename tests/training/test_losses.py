"""Losses reward the right player, and equal the formulas of their papers."""

from __future__ import annotations

import math

import pytest
import torch

from ganaug.training.losses import LOSSES, Loss


@pytest.fixture(params=LOSSES.values(), ids=LOSSES.keys())
def loss(request: pytest.FixtureRequest) -> Loss:
    """Every loss: a new one is tested the moment it is added."""
    return request.param  # type: ignore[no-any-return]


def test_a_generator_step_raises_the_fake_scores(loss: Loss) -> None:
    real, fake = torch.zeros(4), torch.zeros(4, requires_grad=True)
    loss.generator(real, fake).backward()
    assert fake.grad is not None
    assert (fake.grad < 0).all()


def test_a_discriminator_step_lowers_fake_scores_and_raises_real_ones(loss: Loss) -> None:
    real, fake = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    loss.discriminator(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


def test_a_perfect_discriminator_has_almost_no_loss_and_stays_finite(loss: Loss) -> None:
    value = loss.discriminator(torch.full((4,), 500.0), torch.full((4,), -500.0))
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert math.isfinite(loss.generator(torch.full((4,), 500.0), torch.full((4,), -500.0)).item())


def test_the_relativistic_loss_is_minus_log_sigmoid_of_the_margin() -> None:
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.randn(9, generator=rng), torch.randn(9, generator=rng)
    expected = -sum(math.log(1 / (1 + math.exp(-(r - f)))) for r, f in zip(real, fake, strict=True)) / 9
    assert LOSSES["relativistic"].discriminator(real, fake).item() == pytest.approx(expected, rel=1e-5)
    assert LOSSES["relativistic"].generator(fake, real).item() == pytest.approx(expected, rel=1e-5)
