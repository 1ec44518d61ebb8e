"""Losses reward the right player, and equal the formulas of their papers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from ganaug.training.losses import AGGREGATES, LOSSES, Loss


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


def test_losses_stay_finite_where_the_discriminator_is_sure(loss: Loss) -> None:
    sure = torch.full((4,), 500.0), torch.full((4,), -500.0)
    assert math.isfinite(loss.discriminator(*sure).item())
    assert math.isfinite(loss.generator(*sure).item())


def test_each_loss_has_the_value_of_its_paper() -> None:
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.randn(9, generator=rng), torch.randn(9, generator=rng)

    def mean(function: Callable[[float, float], float]) -> float:
        return sum(function(r, f) for r, f in zip(real.tolist(), fake.tolist(), strict=True)) / 9

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    logistic = mean(lambda r, f: -math.log(sigmoid(r)) - math.log(1 - sigmoid(f)))
    expected = {
        "minimax": (mean(lambda r, f: math.log(1 - sigmoid(f))), logistic),
        "non-saturating": (mean(lambda r, f: -math.log(sigmoid(f))), logistic),
        "least-squares": (
            mean(lambda r, f: (f - 1) ** 2 / 2),
            mean(lambda r, f: ((r - 1) ** 2 + (f + 1) ** 2) / 2),
        ),
        "hinge": (mean(lambda r, f: -f), mean(lambda r, f: max(0.0, 1 - r) + max(0.0, 1 + f))),
        "wasserstein": (mean(lambda r, f: -f), mean(lambda r, f: f - r)),
        "relativistic": (
            mean(lambda r, f: -math.log(sigmoid(f - r))),
            mean(lambda r, f: -math.log(sigmoid(r - f))),
        ),
    }
    assert set(expected) == set(LOSSES)
    for name, (generator, discriminator) in expected.items():
        assert LOSSES[name].generator(real, fake).item() == pytest.approx(generator, rel=1e-5), name
        assert LOSSES[name].discriminator(real, fake).item() == pytest.approx(discriminator, rel=1e-5), name


def test_minimax_gives_no_gradient_where_non_saturating_does() -> None:
    slopes = {}
    for name in ("minimax", "non-saturating"):
        fake = torch.full((4,), -20.0, requires_grad=True)
        LOSSES[name].generator(torch.full((4,), 20.0), fake).backward()
        assert fake.grad is not None
        slopes[name] = fake.grad.abs().sum().item()
    assert slopes["minimax"] < 1e-6
    assert slopes["non-saturating"] == pytest.approx(1.0, abs=1e-6)


def test_several_discriminators_weigh_between_their_mean_and_the_hardest() -> None:
    losses = torch.tensor([0.2, 1.0, 3.0], requires_grad=True)
    mean, hardest, soft = (AGGREGATES[name](losses) for name in ("mean", "min", "softmax"))
    assert mean.item() == pytest.approx(1.4)
    assert hardest.item() == 3.0
    assert mean < soft < hardest
    soft.backward()
    assert losses.grad is not None
    assert losses.grad.sum().item() == pytest.approx(1.0)
    assert losses.grad.argmax() == 2
