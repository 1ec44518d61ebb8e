"""Probabilities are made honest, and thresholds let through the share of real images that they name."""

from __future__ import annotations

import numpy as np
import pytest

from ganaug.screen.calibration import calibrated, class_balanced, passed_by, temperature

RNG = np.random.default_rng(0)


def labels_drawn_from(logits: np.ndarray) -> np.ndarray:
    """Classes as likely as the softmax of the logits says."""
    noise = RNG.gumbel(size=logits.shape)
    return (logits + noise).argmax(axis=1)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_of_logits_that_are_too_large_by_it_is_found(true: float) -> None:
    honest = RNG.normal(0, 2, (20_000, 5)).astype(np.float32)
    class_ids = labels_drawn_from(honest)
    found = temperature(honest * np.float32(true), class_ids, np.ones(len(honest)))
    assert found == pytest.approx(true, rel=0.05)


def test_an_image_that_weighs_nothing_says_nothing_of_the_temperature() -> None:
    honest = RNG.normal(0, 2, (5_000, 3)).astype(np.float32)
    class_ids = labels_drawn_from(honest)
    wrong = (honest.argmin(axis=1), honest * 9)
    logits = np.concatenate([honest, wrong[1]])
    weights = np.repeat([1.0, 0.0], len(honest))
    assert temperature(logits, np.concatenate([class_ids, wrong[0]]), weights) == pytest.approx(1, rel=0.1)


def test_without_images_probabilities_stay_as_they_are() -> None:
    assert temperature(np.empty((0, 3), np.float32), np.empty(0, np.int64), np.empty(0)) == 1.0
    probability = RNG.dirichlet([1, 1, 1], 8).astype(np.float32)
    np.testing.assert_allclose(calibrated(probability, 1.0), probability, rtol=1e-4)


def test_calibrated_probabilities_are_the_softmax_of_divided_logits() -> None:
    logits = RNG.normal(0, 3, (50, 4))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    divided = np.exp(logits / 1.7) / np.exp(logits / 1.7).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(calibrated(softmax.astype(np.float32), 1.7), divided, rtol=1e-3)


def test_a_probability_of_zero_calibrates_to_a_number() -> None:
    assert calibrated(np.array([[1.0, 0.0]], np.float32), 2.0)[0].tolist() == pytest.approx([1, 0])


def test_a_threshold_is_the_largest_that_the_share_reaches() -> None:
    values = RNG.random(300).astype(np.float32)
    weights = RNG.random(300)
    found = passed_by(values, weights, 0.9)
    reach = {float(value): weights[values >= value].sum() / weights.sum() for value in values}
    assert found == max(value for value, share in reach.items() if share >= 0.9)


def test_all_real_images_pass_when_all_are_to_pass() -> None:
    values = RNG.random(40).astype(np.float32)
    assert passed_by(values, np.ones(40), 1.0) == values.min()


def test_classes_count_alike_however_many_images_they_have() -> None:
    class_ids = np.repeat([0, 2], [90, 10])
    weights = class_balanced(class_ids, np.ones(100, bool))
    assert weights[:90].sum() == pytest.approx(0.5)
    assert weights.sum() == pytest.approx(1)
    # The rare class's lowest tenth is half of what all may lose.
    values = np.concatenate([np.full(90, 0.9), np.linspace(0, 0.9, 10)]).astype(np.float32)
    assert passed_by(values, weights, 0.9) == pytest.approx(0.2, abs=1e-6)
