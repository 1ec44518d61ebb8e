"""Precision, recall, density and coverage: as the papers define them, and what each is to notice."""

from __future__ import annotations

import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest

from ganaug.errors import DatasetError
from ganaug.quality.neighbourhood import compare, kth_distances, nearest_distances


def by_loops(real, synthetic, k):
    """The definitions of the papers, one pair at a time."""

    def reach(points):
        return [
            sorted(np.linalg.norm(p - q) for j, q in enumerate(points) if j != i)[k - 1]
            for i, p in enumerate(points)
        ]

    real_reach, synthetic_reach = reach(real), reach(synthetic)
    gap = [[np.linalg.norm(x - y) for y in synthetic] for x in real]
    rows, columns = range(len(real)), range(len(synthetic))
    return {
        "k": k,
        "precision": np.mean([any(gap[i][j] <= real_reach[i] for i in rows) for j in columns]),
        "recall": np.mean([any(gap[i][j] <= synthetic_reach[j] for j in columns) for i in rows]),
        "density": sum(gap[i][j] <= real_reach[i] for i in rows for j in columns) / (k * len(synthetic)),
        "coverage": np.mean([any(gap[i][j] <= real_reach[i] for j in columns) for i in rows]),
    }


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("block", [2**21, 100])
def test_neighbourhoods_are_those_of_the_definitions(k, block, monkeypatch):
    monkeypatch.setattr("ganaug.quality.neighbourhood.BLOCK", block)
    rng = np.random.default_rng(k)
    real, synthetic = rng.normal(0, 1, (40, 3)), rng.normal(0.7, 0.8, (55, 3))
    assert asdict(compare(real, synthetic, k)) == pytest.approx(by_loops(real, synthetic, k))
    reference = np.linalg.norm(synthetic[:, None] - real, axis=2)
    assert nearest_distances(synthetic, real) == pytest.approx(reference.min(1))
    among = np.sort(np.linalg.norm(real[:, None] - real, axis=2), axis=1)
    assert kth_distances(real, k) == pytest.approx(among[:, k])


def test_the_same_images_twice_are_precise_recalled_and_covered():
    points = np.random.default_rng(0).normal(50, 1, (200, 16)).astype(np.float32)
    found = compare(points, points)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    same = compare(points[[0] * 9], points[[0] * 9])
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)


def test_a_collapsed_generator_is_precise_and_recalls_little():
    points = np.random.default_rng(0).normal(0, 1, (200, 4))
    found = compare(points, points[:1] + np.random.default_rng(1).normal(0, 1e-3, (200, 4)))
    assert found.precision > 0.9
    assert found.recall < 0.05
    assert found.coverage < 0.2


def test_noise_is_not_precise():
    points = np.random.default_rng(0).normal(0, 1, (200, 8))
    found = compare(points, np.random.default_rng(1).normal(30, 1, (200, 8)))
    assert (found.precision, found.density, found.coverage) == (0, 0, 0)


def test_memory_stays_flat_however_many_pairs_there_are():
    points = np.random.default_rng(0).normal(0, 1, (5000, 4)).astype(np.float32)
    tracemalloc.start()
    compare(points[:2500], points)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 5000 * 2500 * 8 * 0.6


@pytest.mark.parametrize("k", [0, 4])
def test_more_neighbours_than_there_are_is_an_error(k):
    with pytest.raises(DatasetError, match="4 vectors"):
        compare(np.zeros((4, 2)), np.zeros((9, 2)), k)
