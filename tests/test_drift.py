"""Drift: of classes and of features."""

import numpy as np

from ganaug.drift import LEAST, feature_drift, population_stability_index


def features(count, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, (count, 32)).astype(np.float32), np.arange(count) % 4


def test_more_of_all_classes_alike_is_no_drift_and_a_vanished_one_is_finite():
    assert population_stability_index(np.array([100, 10]), np.array([1000, 100])) < 0.001
    assert 0.25 < population_stability_index(np.array([100, 100]), np.array([200, 0])) < np.inf


def test_it_is_the_same_in_both_directions():
    before, now = np.array([90, 10]), np.array([60, 40])
    assert np.isclose(population_stability_index(before, now), population_stability_index(now, before))


def test_features_that_moved_are_told_apart_and_others_are_not():
    earlier = features(200)
    assert feature_drift(*earlier, *features(200, 1.0, seed=1)) > 0.95
    for seed in range(1, 11):
        assert feature_drift(*earlier, *features(50, seed=seed), seed=seed) < 0.75


def test_another_mix_of_classes_is_no_drift_of_features():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 2, 600)
    values = (rng.normal(0, 1, (600, 8)) + 5 * ids[:, None]).astype(np.float32)
    new = np.concatenate([np.flatnonzero(ids[300:] == 0)[:20], np.flatnonzero(ids[300:] == 1)]) + 300
    assert feature_drift(values[:300], ids[:300], values[new], ids[new]) < 0.7


def test_too_few_images_say_nothing():
    assert feature_drift(*features(200), *features(LEAST - 1)) is None
    assert feature_drift(*features(0), *features(0)) is None
