"""Resizing by a matrix product is torch's bilinear resizing, and what a GPU does instead of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ganaug.training.networks import resize as module
from ganaug.training.networks.resize import MOST_WEIGHTS, by_matrix, resize

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
SIZES = [((4, 4), (8, 8)), ((5, 3), (9, 6)), ((16, 8), (8, 4)), ((1, 7), (2, 13)), ((16, 16), (32, 32))]


def _torchs(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(maps, size=size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_the_matrix_product_is_torchs_resizing_with_its_gradients(before, after):
    maps = torch.randn(3, 5, *before, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.randn(3, 5, *after, generator=torch.Generator().manual_seed(1))
    found, gradients = [], []
    for way in (_torchs, by_matrix):
        found.append(way(maps, after))
        gradients.append(torch.autograd.grad((found[-1] * weights).square().sum(), maps)[0])
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*gradients)


def test_a_matrix_made_while_nothing_is_learned_serves_learning_too():
    module._weights.cache_clear()
    with torch.inference_mode():
        by_matrix(torch.ones(1, 1, 3, 3), (6, 6))
    maps = torch.ones(1, 1, 3, 3, requires_grad=True)
    by_matrix(maps, (6, 6)).sum().backward()
    torch.testing.assert_close(maps.grad, torch.full((1, 1, 3, 3), 4.0))


@needs_gpu
@pytest.mark.parametrize(("before", "after"), [*SIZES, ((32, 32), (64, 64))])
def test_on_a_gpu_maps_are_those_of_a_cpu(before, after, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "by_matrix", lambda *given: asked.append(1) or by_matrix(*given))
    maps = torch.randn(3, 5, *before)
    torch.testing.assert_close(resize(maps.cuda(), after).cpu(), resize(maps, after))
    small = before[0] * before[1] * after[0] * after[1] <= MOST_WEIGHTS
    assert len(asked) == small
