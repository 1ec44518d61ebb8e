"""The gradient penalty is the squared gradient, and it can be trained on."""

from __future__ import annotations

import torch

from ganaug.training.regularizers import gradient_penalty


def _score(weight: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return torch.tanh(images.flatten(1) @ weight)


def test_the_penalty_equals_finite_differences_of_the_score() -> None:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(12, generator=rng, dtype=torch.float64) / 4
    images = torch.randn(3, 3, 2, 2, generator=rng, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(_score(weight, images), images)
    step, expected = 1e-6, torch.zeros(3, dtype=torch.float64)
    for pixel in range(12):
        nudge = torch.zeros(12, dtype=torch.float64)
        nudge[pixel] = step
        slope = (
            _score(weight, images + nudge.view(3, 2, 2)) - _score(weight, images - nudge.view(3, 2, 2))
        ) / (2 * step)
        expected += slope.detach() ** 2
    torch.testing.assert_close(penalty.detach(), expected, rtol=1e-6, atol=1e-9)


def test_minimising_the_penalty_flattens_the_score() -> None:
    rng = torch.Generator().manual_seed(1)
    weight = torch.randn(4, generator=rng).requires_grad_()
    images = torch.randn(8, 1, 2, 2, generator=rng).requires_grad_()
    before = gradient_penalty(_score(weight, images), images).mean()
    before.backward()
    assert weight.grad is not None
    lighter = (weight - 0.05 * weight.grad).detach()
    assert gradient_penalty(_score(lighter, images), images).mean() < before
