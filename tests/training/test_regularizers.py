"""Regularisers equal their formulas, hold back what they are there to hold back, and can be trained on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ganaug.training.regularizers import (
    REGULARIZERS,
    Sight,
    apply_spectral_norm,
    squared_gradient,
)


class Curved(nn.Module):
    """A score that bends, so that slopes differ from place to place."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(scale * torch.randn(12, generator=rng, dtype=torch.float64) / 2)

    def forward(self, images: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1)
        return torch.tanh(flat @ self.weight) * (1 + condition) + 0.1 * (flat**2).sum(1)


LABELS = torch.tensor([0, 1, 1, 2])


def sight(discriminator: nn.Module, seed: int = 1, anchors: tuple[float, float] = (0.5, -0.5)) -> Sight:
    rng = torch.Generator().manual_seed(seed)
    seen = torch.randn(8, 3, 2, 2, generator=rng, dtype=torch.float64).requires_grad_()
    condition = torch.cat([LABELS, LABELS])
    logits = discriminator(seen, condition).view(-1, 8)
    mix = torch.rand(4, 1, 1, 1, generator=rng, dtype=torch.float64)
    noise = torch.rand(4, 3, 2, 2, generator=rng, dtype=torch.float64)
    return Sight(
        discriminator,
        seen,
        condition,
        logits,
        mix,
        noise,
        torch.tensor(anchors, dtype=torch.float64),
    )


def slopes(discriminator: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """(N,) gradient lengths by finite differences."""
    step, squares = 1e-6, torch.zeros(len(images), dtype=torch.float64)
    for pixel in range(12):
        nudge = torch.zeros(12, dtype=torch.float64)
        nudge[pixel] = step
        up, down = (discriminator(images + s * nudge.view(3, 2, 2), LABELS) for s in (1, -1))
        squares += ((up - down) / (2 * step)).detach() ** 2
    return squares.sqrt()


def test_gradient_penalties_equal_finite_differences_of_the_score() -> None:
    discriminator = Curved()
    look = sight(discriminator)
    real, fake = look.real, look.fake
    between = look.mix * real + (1 - look.mix) * fake
    around = real + look.mix * 0.5 * real.std() * (2 * look.noise - 1)
    expected = {
        "r1": (slopes(discriminator, real) ** 2).mean() / 2,
        "r2": (slopes(discriminator, fake) ** 2).mean() / 2,
        "wgan-gp": ((slopes(discriminator, between) - 1) ** 2).mean(),
        "dragan": ((slopes(discriminator, around) - 1) ** 2).mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(REGULARIZERS[name](look).detach(), value, rtol=1e-5, atol=1e-8)


def test_lecam_is_zero_inside_the_anchors_and_grows_outside() -> None:
    discriminator = Curved()
    look = sight(discriminator)
    look.logits = torch.tensor([[-0.6, -0.7, -0.8, -0.9, 0.6, 0.7, 0.8, 0.9]], dtype=torch.float64)
    assert REGULARIZERS["lecam"](look).item() == 0.0
    look.logits = -look.logits
    outside = [(0.6 + 0.5) ** 2, (0.7 + 0.5) ** 2, (0.8 + 0.5) ** 2, (0.9 + 0.5) ** 2]
    assert REGULARIZERS["lecam"](look).item() == pytest.approx(2 * sum(outside) / 4)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_minimising_a_regulariser_lowers_it(name: str) -> None:
    discriminator = Curved(scale=4.0)
    before = REGULARIZERS[name](sight(discriminator))
    before.backward()
    assert discriminator.weight.grad is not None
    with torch.no_grad():
        discriminator.weight -= 1e-3 * discriminator.weight.grad
    assert REGULARIZERS[name](sight(discriminator)) < before


def test_slopes_of_several_discriminators_add_up() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Curved(), Curved(3.0)

        def forward(self, images: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.one(images, condition), self.other(images, condition)])

    two = Two()
    separate = sum(REGULARIZERS["r1"](sight(one)) for one in (two.one, two.other))
    torch.testing.assert_close(REGULARIZERS["r1"](sight(two)), separate)


def test_spectral_norm_bounds_every_layer_and_is_in_the_state() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 9), nn.Sequential(nn.Linear(9, 1)), nn.BatchNorm1d(1))
    with torch.no_grad():
        network[0].weight *= 50
    apply_spectral_norm(network)
    network.train()
    for _ in range(20):
        network(torch.randn(4, 12))
    assert torch.linalg.matrix_norm(network[0].weight, 2).item() == pytest.approx(1.0, rel=1e-2)
    assert torch.linalg.matrix_norm(network[1][0].weight, 2).item() == pytest.approx(1.0, rel=1e-2)
    assert any("parametrizations" in name for name in network.state_dict())


def test_the_squared_gradient_is_per_image() -> None:
    images = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    discriminator = Curved()
    found = squared_gradient(discriminator(images, LABELS), images)
    torch.testing.assert_close(
        found.detach(), slopes(discriminator, images.detach()) ** 2, rtol=1e-5, atol=1e-8
    )
