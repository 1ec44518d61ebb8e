"""Thresholds: moved as far as is best, by images at the prevalence that is asked for."""

import numpy as np
import pytest

from ganaug.thresholds import MULTIPLES, choose_multiple, class_offsets, move

COUNTS = np.array([80, 80, 5])
OFFSETS = class_offsets(COUNTS)


def answers(class_ids, shift, seed=0, noise=0.5):
    """Of a classifier that knows the classes up to noise, and is `shift` short in the logits of class 2."""
    rng = np.random.default_rng(seed)
    logits = 2 * np.eye(3)[class_ids] + rng.normal(0, noise, (len(class_ids), 3)) - np.array([0, 0, shift])
    grown = np.exp(logits)
    return (grown / grown.sum(1, keepdims=True)).astype(np.float32)


def test_offsets_are_the_logs_of_what_classes_lack():
    assert OFFSETS.dtype == np.float32
    assert OFFSETS.tolist() == pytest.approx([0, 0, np.log(16)])
    assert class_offsets(np.array([0, 0])).tolist() == [0, 0]


@pytest.mark.parametrize("multiple", [0, 0.5, 1])
def test_a_classifier_that_is_short_by_a_multiple_is_moved_by_it(multiple):
    class_ids = np.repeat([0, 1, 2], 400)
    probability = answers(class_ids, multiple * OFFSETS[2])
    chosen = choose_multiple(class_ids, probability, OFFSETS, COUNTS)
    assert chosen in MULTIPLES
    # Less, because the class is rare: naming it more often costs precision.
    assert chosen == pytest.approx(multiple, abs=0.3)
    recall = [
        (found.argmax(1) == class_ids)[class_ids == 2].mean()
        for found in (probability, move(probability, np.float32(chosen) * OFFSETS))
    ]
    assert recall[1] > 0.9
    if multiple == 1:
        assert recall[0] < 0.5


def test_where_the_class_is_rarer_thresholds_are_moved_less():
    class_ids = np.repeat([0, 1, 2], 2000)
    probability = answers(class_ids, 1.0, noise=1.5)
    alike, rare = (
        choose_multiple(class_ids, probability, OFFSETS, prevalence)
        for prevalence in (np.ones(3), np.array([100, 100, 1]))
    )
    assert rare < alike


def test_how_many_images_of_a_class_there_are_does_not_matter():
    class_ids = np.repeat([0, 1, 2], 200)
    probability = answers(class_ids, 1.0)
    repeated = np.concatenate(
        [np.arange(600), np.flatnonzero(class_ids == 0), np.flatnonzero(class_ids == 0)]
    )
    assert choose_multiple(class_ids, probability, OFFSETS, COUNTS) == choose_multiple(
        class_ids[repeated], probability[repeated], OFFSETS, COUNTS
    )


def test_without_images_and_for_classes_that_are_nowhere_nothing_moves():
    none = np.empty(0, np.int64)
    assert choose_multiple(none, np.empty((0, 3), np.float32), OFFSETS, COUNTS) == 0
    class_ids = np.repeat([0, 1], 50)
    assert choose_multiple(class_ids, answers(class_ids, 0.0), OFFSETS, np.array([1, 1, 0])) < 0.5


def test_moved_rows_are_probabilities_also_where_one_was_zero():
    moved = move(np.array([[1, 0, 0], [0.5, 0.25, 0.25]], np.float32), OFFSETS)
    assert moved.dtype == np.float32
    assert moved.sum(1) == pytest.approx([1, 1])
    assert moved.argmax(1).tolist() == [0, 2]
