"""Metrics against other implementations, and intervals and verdicts where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

from ganaug.config import EvaluateConfig
from ganaug.dataset import LabelledImages
from ganaug.evaluate import judge
from ganaug.intervals import compare
from ganaug.scores import (
    calibration_error,
    matched_recall,
    rare_precision,
    recall_at_precision,
    recall_by_size,
    score,
)
from ganaug.simultaneous import compare_all
from ganaug.visible import smallest_visible

CLASSES = 4
BEST, OURS = "oversampling+albumentations", "oversampling+albumentations+synthetic"
OTHERS = (
    OURS,
    f"{OURS} to balance",
    f"{OURS} first",
    f"{OURS} only",
    "oversampling+mixup+synthetic",
    "synthetic",
)


def labelled(class_ids, groups=None):
    index = pd.DataFrame({"class_id": np.asarray(class_ids, np.int64)})
    if groups is not None:
        index["group"] = groups
    return LabelledImages(np.zeros((len(index), 2, 2, 1), np.uint8), index, tuple("abcd"))


def probabilities(guesses):
    """(S, N, K) probabilities that name these (S, N) classes."""
    found = np.full((*guesses.shape, CLASSES), 0.1 / CLASSES, np.float32)
    np.put_along_axis(found, guesses[..., None], 0.9 + 0.1 / CLASSES, axis=-1)
    return found


def guesses_of(rng, labels, accuracy, *, hardness, seeds=4, noise=0.1):
    """(S, N) guesses of classifiers that share which images are hard, and differ by their seeds."""
    difficulty = (1 - noise) * hardness + noise * rng.random((seeds, len(labels)))
    wrong = (labels + rng.integers(1, CLASSES, (seeds, len(labels)))) % CLASSES
    return np.where(difficulty < accuracy, labels, wrong)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("bins", [5, 15])
def test_the_calibration_error_is_that_of_torchmetrics(rng, bins):
    probability = rng.dirichlet(np.full(CLASSES, 0.4), 300).astype(np.float32)
    labels = np.where(rng.random(300) < 0.6, probability.argmax(1), rng.integers(0, CLASSES, 300))
    reference = MulticlassCalibrationError(CLASSES, n_bins=bins, norm="l1")
    expected = float(reference(torch.from_numpy(probability), torch.from_numpy(labels)))
    assert calibration_error(labels, probability, bins) == pytest.approx(expected, abs=1e-5)


def test_a_classifier_that_is_sure_and_right_has_no_calibration_error():
    assert calibration_error(np.array([0, 1]), np.eye(2, dtype=np.float32)) == 0


def test_recall_of_head_middle_and_tail_are_means_over_their_classes():
    recall = np.array([0.9, 0.8, 0.6, 0.4, 0.1, np.nan])
    found = recall_by_size(recall, np.array([5000, 101, 100, 20, 19, 3]))
    assert found == pytest.approx({"head_recall": 0.85, "middle_recall": 0.5, "tail_recall": 0.1})
    assert math.isnan(recall_by_size(recall, np.full(6, 50))["head_recall"])


def test_the_score_has_the_parts_by_size_where_the_counts_are_known(rng):
    labels = rng.integers(0, CLASSES, 50)
    probability = rng.dirichlet(np.ones(CLASSES), 50).astype(np.float32)
    assert "tail_recall" not in score(labels, probability, [0])
    assert "tail_recall" in score(labels, probability, [0], train_counts=np.array([5, 50, 500, 50]))


def test_macro_f1_at_another_prevalence_is_that_of_images_which_are_there_as_often():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (30, 10, 5))
    probability = rng.dirichlet(np.ones(3), len(labels)).astype(np.float32)
    repeated = np.repeat(np.arange(len(labels)), np.repeat((1, 6, 24), (30, 10, 5)))
    expected = score(labels[repeated], probability[repeated], [2])["macro_f1"]
    for unit in (1, 10):
        prevalence = unit * np.array([30, 60, 120])
        assert score(labels, probability, [2], prevalence=prevalence)["macro_f1"] == pytest.approx(expected)
    assert score(labels, probability, [2])["macro_f1"] != pytest.approx(expected)
    # A class that will not occur is nothing to be good at, but may still be guessed wrongly.
    rest = labels < 2
    found = score(labels, probability, [2], prevalence=np.array([30, 10, 0]))["macro_f1"]
    assert found == pytest.approx(score(labels[rest], probability[rest], [2])["macro_f1"])


def by_trying(labels, probability, wanted, precision):
    """The same by trying every number that changes a guess, with the guesses counted anew each time."""
    logits = np.log(probability.astype(float))
    rest = [k for k in range(probability.shape[1]) if k not in wanted]
    margin = logits[:, wanted].max(1) - logits[:, rest].max(1)
    best = 0.0
    for number in [*(-margin + 1e-9), 1e6]:
        moved = logits.copy()
        moved[:, wanted] += number
        guess = moved.argmax(1)
        named = np.isin(guess, wanted)
        if named.any() and (guess == labels)[named].mean() >= precision:
            recalls = [(guess == labels)[labels == k].mean() for k in wanted if (labels == k).any()]
            best = max(best, float(np.mean(recalls)))
    return best


@pytest.mark.parametrize("precision", [0.0, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("wanted", [[0], [1, 3]])
def test_recall_at_a_precision_is_that_of_trying_every_threshold(precision, wanted):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        probability = rng.dirichlet(np.ones(CLASSES), 60).astype(np.float32)
        labels = np.where(rng.random(60) < 0.5, probability.argmax(1), rng.integers(0, CLASSES, 60))
        found = recall_at_precision(labels, probability, wanted, precision)
        assert found == pytest.approx(by_trying(labels, probability, wanted, precision))


def test_recall_that_a_moved_threshold_bought_is_taken_back(rng):
    labels = rng.integers(0, CLASSES, 400)
    logits = rng.normal(size=(400, CLASSES)) + 1.5 * np.eye(CLASSES)[labels]
    bought = logits + np.array([1.0, 0, 0, 0])
    before, after = (np.exp(one) / np.exp(one).sum(1, keepdims=True) for one in (logits, bought))
    precision = rare_precision(labels, before, [0])
    plain = [score(labels, one, [0])["rare_recall"] for one in (before, after)]
    matched = [recall_at_precision(labels, one, [0], precision) for one in (before, after)]
    assert plain[1] > plain[0] + 0.1
    assert matched[1] == pytest.approx(matched[0], abs=1e-9)
    better = recall_at_precision(labels, before ** np.where(labels == 0, 1, 1)[:, None], [0], 0.5)
    assert better >= matched[0]  # less precision asked for, more recall


def test_without_a_precision_or_test_images_there_is_no_matched_recall():
    probability = np.full((3, CLASSES), 0.25, np.float32)
    assert math.isnan(recall_at_precision(np.array([1, 1, 1]), probability, [0], 0.5))
    assert math.isnan(recall_at_precision(np.array([0, 1, 1]), probability, [0], math.nan))
    assert math.isnan(rare_precision(np.array([0, 1, 1]), np.eye(CLASSES, dtype=np.float32)[[1, 2, 3]], [0]))


def same_arms(rng, count, names):
    labels = np.repeat(np.arange(CLASSES), count)
    hardness = rng.random(len(labels))
    fits = {name: probabilities(guesses_of(rng, labels, 0.75, hardness=hardness)) for name in names}
    return labels, fits


@pytest.mark.parametrize("count", [15, 60])
def test_two_arms_that_are_alike_are_called_so_at_least_95_times_in_100(count):
    rng = np.random.default_rng(5)
    found = []
    for _ in range(100):
        labels, fits = same_arms(rng, count, (BEST, OURS))
        found.append(judge(fits, labelled(labels), [0], EvaluateConfig()).verdict)
    assert sum(answer in {"no difference", "cannot tell"} for answer in found) >= 95


def test_the_best_of_many_arms_that_are_alike_does_not_seem_to_help():
    rng = np.random.default_rng(6)
    wrong = alone = 0
    for _ in range(100):
        labels, fits = same_arms(rng, 40, (BEST, *OTHERS))
        verdict = judge(fits, labelled(labels), [], EvaluateConfig())
        wrong += verdict.verdict in {"helps", "hurts"}
        one = compare(fits[BEST], fits[verdict.after], labels, [], resamples=300)["macro_f1"]
        alone += one.low > 0 or one.high < 0
    assert wrong <= 5
    assert alone > wrong  # what the correction is for


def test_an_arm_that_was_chosen_without_the_test_images_is_judged_alone(rng):
    labels, fits = same_arms(rng, 60, (BEST, *OTHERS))
    best = judge(fits, labelled(labels), [0], EvaluateConfig())
    other = next(name for name in OTHERS if name != best.after)
    chosen = judge(fits, labelled(labels), [0], EvaluateConfig(), chosen=other)
    alone = compare(fits[BEST], fits[other], labels, [0])["macro_f1"]
    assert chosen.after == other
    assert (chosen.low, chosen.high) == (alone.low, alone.high)  # not widened for the others
    assert not any("max-T" in note for note in chosen.notes)


def test_no_false_alarm_among_all_arms_at_once_more_often_than_allowed():
    rng, wrong = np.random.default_rng(7), 0
    for _ in range(100):
        labels, fits = same_arms(rng, 40, (BEST, *OTHERS))
        before = fits.pop(BEST)
        found = compare_all(fits, before, labels, resamples=300)
        alarms = [one for one in found if one.low > 0 or one.high < 0]
        wrong += bool(alarms)
        assert all(one.p < 0.06 for one in alarms)
    assert wrong <= 5


def test_a_gain_among_many_arms_is_still_found(rng):
    labels = np.repeat(np.arange(CLASSES), 200)
    hardness = rng.random(len(labels))
    fits = {name: probabilities(guesses_of(rng, labels, 0.7, hardness=hardness)) for name in OTHERS}
    fits[OTHERS[3]] = probabilities(guesses_of(rng, labels, 0.8, hardness=hardness))
    before = probabilities(guesses_of(rng, labels, 0.7, hardness=hardness))
    found = {one.arm: one for one in compare_all(fits, before, labels, synthetic=[OTHERS[3]], resamples=500)}
    assert [name for name, one in found.items() if one.low > 0] == [OTHERS[3]]
    assert found[OTHERS[3]].p < 0.01 < found[OTHERS[0]].p
    assert [one.arm for one in found.values() if one.has_synthetic] == [OTHERS[3]]
    verdict = judge({BEST: before, **fits}, labelled(labels), [0], EvaluateConfig())
    assert (verdict.verdict, verdict.after) == ("helps", OTHERS[3])
    assert any("best of 6 arms" in note for note in verdict.notes)


def test_an_interval_for_many_arms_is_wider_than_for_one_and_the_same_every_time(rng):
    labels, fits = same_arms(rng, 60, (BEST, *OTHERS))
    before = fits.pop(BEST)
    many = {one.arm: one for one in compare_all(fits, before, labels, resamples=500)}
    [one] = compare_all({OURS: fits[OURS]}, before, labels, resamples=500)
    assert many[OURS].high - many[OURS].low > 1.1 * (one.high - one.low)
    assert list(many.values()) == compare_all(fits, before, labels, resamples=500)
    [one] = compare_all({OURS: fits[OURS]}, before, labels, resamples=8000)
    plain = compare(before, fits[OURS], labels, [], resamples=8000)["macro_f1"]
    assert (one.high - one.low) / 2 == pytest.approx(plain.reach, rel=0.05)
    assert compare_all({}, before, labels) == []


def share_found(test_images, disagreement, gain, repetitions=300):
    """How often the recall of class 0 is seen to rise when it truly does by `gain`."""
    rng, found = np.random.default_rng(9), 0
    labels = np.concatenate([np.zeros(test_images, np.int64), np.ones(3, np.int64)])
    # What an image does: right in both or wrong in both, better, or worse.
    better, worse = gain + disagreement / 2, disagreement / 2
    for _ in range(repetitions):
        kind = rng.random(test_images)
        is_better, is_worse = kind < better, (kind >= better) & (kind < better + worse)
        base = rng.random(test_images) < 0.5
        pair = [
            np.concatenate([np.where(right, 0, 2), [1, 1, 1]])
            for right in (base & ~is_better | is_worse, base & ~is_worse | is_better)
        ]
        before, after = (probabilities(np.stack([one, one])) for one in pair)
        found += compare(before, after, labels, [0], resamples=200)["recall 0"].low > 0
    return found / repetitions


@pytest.mark.parametrize("test_images", [12, 40, 150])
@pytest.mark.parametrize("disagreement", [0.0, 0.1])
@pytest.mark.parametrize("power", [0.5, 0.8])
def test_a_gain_of_the_smallest_visible_size_is_found_as_often_as_predicted(test_images, disagreement, power):
    gain = smallest_visible(test_images, disagreement, power=power)
    found = share_found(test_images, disagreement, gain)
    # Counts of a dozen images are coarse; where all turn one way they are skewed, and more is found.
    below, above = (0.2, 0.2) if test_images == 12 else (0.1, 0.2 if disagreement == 0 else 0.1)
    assert power - below <= found <= power + above


@pytest.mark.parametrize(("test_images", "disagreement"), [(12, 0.1), (40, 0.03), (40, 0.1), (150, 0.03)])
def test_a_recall_that_did_not_change_seldom_seems_to_rise(test_images, disagreement):
    assert share_found(test_images, disagreement, gain=0.0) <= 0.04  # 2.5 % on this side


def test_more_images_show_less_and_disagreement_hides():
    sizes = [smallest_visible(n) for n in (1, 5, 12, 50, 500)]
    assert sizes == sorted(sizes, reverse=True)
    assert smallest_visible(50, 0.2) > smallest_visible(50)
    assert smallest_visible(50, power=0.9) > smallest_visible(50)
    assert smallest_visible(0) == math.inf
    assert smallest_visible(1, 1.0) <= 1


def test_each_rare_class_says_what_its_test_images_can_show(rng):
    labels = np.repeat(np.arange(CLASSES), [100, 100, 100, 12])
    same = probabilities(guesses_of(rng, labels, 0.8, hardness=rng.random(len(labels))))
    found = judge({BEST: same, OURS: same}, labelled(labels), [3], EvaluateConfig()).classes[0]
    assert found.smallest_visible == pytest.approx(smallest_visible(12))
    assert "with 12 test images of this class nothing under 40 points can be seen" in found.sentence
    alone = judge({BEST: same}, labelled(labels), [3], EvaluateConfig()).classes[0]
    assert alone.recall is None
    assert "nothing under 40 points" in alone.sentence


def test_images_of_one_group_show_as_much_as_one(rng):
    labels = np.repeat(np.arange(CLASSES), 12)
    groups = [f"photo {row // 4}" for row in range(len(labels))]
    same = probabilities(guesses_of(rng, labels, 0.8, hardness=rng.random(len(labels))))
    found = judge({BEST: same, OURS: same}, labelled(labels, groups), [3], EvaluateConfig()).classes[0]
    assert found.smallest_visible == pytest.approx(smallest_visible(3))


def test_the_verdict_says_what_is_left_of_a_recall_at_one_operating_point(rng):
    labels = np.repeat(np.arange(CLASSES), 50)
    hardness = rng.random(len(labels))
    fits = {
        name: probabilities(guesses_of(rng, labels, accuracy, hardness=hardness))
        for name, accuracy in ((BEST, 0.7), (OURS, 0.8))
    }
    found = judge(fits, labelled(labels), [0], EvaluateConfig())
    assert any("bought with wrong guesses" in note for note in found.notes)


def test_each_seed_is_matched_to_the_same_seed_of_the_other_arm(rng):
    labels = rng.integers(0, CLASSES, 80)
    before, after = (rng.dirichlet(np.ones(CLASSES), (3, 80)).astype(np.float32) for _ in range(2))
    found = matched_recall(labels, after, before, [0, 1])
    for seed, value in enumerate(found):
        target = rare_precision(labels, before[seed], [0, 1])
        assert value == pytest.approx(by_trying(labels, after[seed], [0, 1], target))
    # An arm at its own operating point loses nothing.
    own = matched_recall(labels, before, before, [0, 1])
    assert all(
        value >= score(labels, one, [0, 1])["rare_recall"] for value, one in zip(own, before, strict=True)
    )


def test_no_interval_reaches_further_than_a_share_can_change():
    labels = np.array([0, 1, 2, 3])
    before, after = (probabilities(np.array(one)) for one in ([[0, 0, 0, 0]] * 2, [[3, 3, 3, 3], labels]))
    for name, one in compare(before, after, labels, [1], resamples=200).items():
        assert -1 <= one.low <= one.difference <= one.high <= 1, name
    assert compare(before, after, labels, [1], resamples=200)["rare_recall"].high == 1
    one = compare_all({OURS: after}, before, labels, resamples=200)[0]
    assert (one.low, one.high) == (-1, 1)
