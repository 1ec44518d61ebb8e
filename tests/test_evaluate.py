"""Arms, metrics, intervals and the verdict, on predictions whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, recall_score

from ganaug.arms import ARMS, find_arms
from ganaug.config import EvaluateConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, SettingsError
from ganaug.evaluate import judge
from ganaug.intervals import compare
from ganaug.recipe import problems
from ganaug.scores import score, score_classes

CHEAP, BEST, OURS = "oversampling", "oversampling+albumentations", "oversampling+albumentations+synthetic"
CLASSES = 5


def labelled(class_ids, n_classes=CLASSES, groups=None):
    class_ids = np.asarray(class_ids, np.int64)
    images = np.zeros((len(class_ids), 2, 2, 1), np.uint8)
    index = pd.DataFrame({"class_id": class_ids})
    if groups is not None:
        index["group"] = groups
    return LabelledImages(images, index, tuple(f"class {k}" for k in range(n_classes)))


def predictions(rng, labels, accuracy, seeds=4, training_noise=0.01, hardness=None):
    """(S, N, K) probabilities of classifiers of this accuracy; images have a hardness of their own."""
    n = len(labels)
    hardness = rng.random(n) if hardness is None else hardness
    found = rng.random((seeds, n, CLASSES)) * 0.3
    for seed in range(seeds):
        own = accuracy + rng.normal(0, training_noise)
        is_right = 0.6 * hardness + 0.4 * rng.random(n) < own
        guess = np.where(is_right, labels, (labels + rng.integers(1, CLASSES, n)) % CLASSES)
        found[seed, np.arange(n), guess] += 1.0
    return (found / found.sum(2, keepdims=True)).astype(np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS.keys())
def test_every_arm_gives_a_recipe_that_adds_up(arm):
    recipe = arm.recipe(labelled([0] * 20 + [1] * 4 + [2] * 1), labelled([1] * 30 + [2] * 30), [1])
    assert recipe.draw_probability.sum() == pytest.approx(1.0)
    n = len(recipe.images)
    assert len(recipe.class_ids) == len(recipe.draw_probability) == len(recipe.augmented) == n
    weight = np.sum(recipe.draw_probability * recipe.loss_weights[recipe.class_ids])
    assert weight == pytest.approx(1.0)
    is_synthetic = recipe.source >= 25
    assert not recipe.augmented[is_synthetic].any()  # synthetic images are never augmented
    assert (recipe.augmented[~is_synthetic] == arm.is_augmented).all()
    assert recipe.has_synthetic(25) == (arm.synthetic != "none")
    assert problems(recipe, 25, 60, CLASSES, (2, 2, 1)) == []


def test_only_wanted_classes_get_their_share_of_synthetic_draws():
    train, synthetic = labelled([0] * 20 + [1] * 4), labelled([0] * 30 + [1] * 30)
    recipe = ARMS[OURS].recipe(train, synthetic, [1], synthetic_share=0.25)
    is_synthetic = np.arange(len(recipe.images)) >= len(train)
    is_rare = recipe.class_ids == 1
    draws = recipe.draw_probability
    assert draws[is_rare].sum() == pytest.approx(0.5)
    assert draws[is_rare & is_synthetic].sum() == pytest.approx(0.5 * 0.25)
    assert draws[~is_rare & is_synthetic].sum() == 0


def test_a_single_synthetic_image_is_not_drawn_more_often_than_a_real_one():
    train, synthetic = labelled([0] * 20 + [1] * 9), labelled([1])
    draws = ARMS[OURS].recipe(train, synthetic, [1], synthetic_share=0.9).draw_probability
    assert draws[-1] == pytest.approx(draws[20])


def test_unknown_arms_are_named_together_with_the_known_ones():
    with pytest.raises(SettingsError) as caught:
        find_arms(["real", "magic", "smoke"])
    assert len(caught.value.problems) == 2
    assert "'magic'" in str(caught.value)
    assert "'oversampling', 'smote', 'albumentations'" in str(caught.value)


def test_an_arm_refuses_to_train_on_nothing():
    with pytest.raises(DatasetError, match="0 images"):
        ARMS["real"].recipe(labelled([]))


def test_scores_are_those_of_scikit_learn(rng):
    labels = rng.integers(0, 4, 200)  # class 4 has no test images
    probability = predictions(rng, labels, 0.7, seeds=1)[0]
    guess, found = probability.argmax(1), score(labels, probability, [1, 2, 4])
    assert found["macro_f1"] == pytest.approx(
        f1_score(labels, guess, labels=range(4), average="macro", zero_division=0)
    )
    recalls = recall_score(labels, guess, labels=range(4), average=None)
    assert found["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert found["rare_recall"] == pytest.approx(recalls[[1, 2]].mean())
    ranked = [average_precision_score(labels == k, probability[:, k]) for k in (1, 2)]
    assert found["rare_average_precision"] == pytest.approx(np.mean(ranked))
    assert found["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(labels[guess != 4], guess[guess != 4]), abs=0.1
    )
    assert np.isnan(score_classes(labels, probability, "abcde")["recall"][4])


def test_the_observed_measures_of_a_comparison_are_those_of_scikit_learn(rng):
    labels = rng.integers(0, CLASSES, 150)
    before, after = predictions(rng, labels, 0.6), predictions(rng, labels, 0.8)
    found = compare(before, after, labels, [0, 3], resamples=20)
    for name, value in found.items():
        if name.startswith("recall "):
            continue
        expected = [np.mean([score(labels, one, [0, 3])[name] for one in arm]) for arm in (before, after)]
        assert (value.before, value.after) == pytest.approx(tuple(expected), abs=1e-6)
        assert value.low <= value.difference <= value.high


def test_the_interval_is_the_same_every_time(rng):
    labels = rng.integers(0, CLASSES, 100)
    pair = predictions(rng, labels, 0.6), predictions(rng, labels, 0.7)
    assert compare(*pair, labels, [1], resamples=50) == compare(*pair, labels, [1], resamples=50)


def test_arms_that_agree_on_a_handful_of_images_are_not_shown_to_agree(rng):
    labels = np.repeat(np.arange(CLASSES), 12)
    same = predictions(rng, labels, 0.9)
    main = compare(same, same, labels, [0], resamples=50)
    assert main["macro_f1"].difference == 0
    assert main["macro_f1"].high > 0.01
    assert main["recall 0"].reach > 1 / 12


def test_grouped_test_images_are_worth_less_than_independent_ones(rng):
    labels = np.repeat(np.arange(CLASSES), 60)
    groups = [f"photo {row // 20}" for row in range(len(labels))]
    # Whether an image is hard is a matter of its photograph.
    of_group = rng.random(len(labels) // 20)
    hardness = of_group[np.arange(len(labels)) // 20]
    before = predictions(rng, labels, 0.6, hardness=hardness)
    after = predictions(rng, labels, 0.6, hardness=1 - hardness)
    alone = compare(before, after, labels, [0], resamples=300)["macro_f1"]
    grouped = compare(before, after, labels, [0], groups=groups, resamples=300)["macro_f1"]
    assert grouped.reach > 1.5 * alone.reach


def test_noise_between_seeds_widens_the_interval(rng):
    labels = np.repeat(np.arange(CLASSES), 400)
    hardness = rng.random(len(labels))
    steady = [predictions(rng, labels, 0.7, training_noise=0.0, hardness=hardness) for _ in range(2)]
    shaky = [predictions(rng, labels, 0.7, training_noise=0.1, hardness=hardness) for _ in range(2)]
    reaches = [compare(*pair, labels, [0], resamples=200)["macro_f1"].reach for pair in (steady, shaky)]
    assert reaches[1] > 2 * reaches[0]


@pytest.mark.parametrize("training_noise", [0.0, 0.05], ids=["steady training", "noisy training"])
def test_arms_of_one_distribution_are_seldom_told_apart(training_noise):
    rng, wrong, repetitions = np.random.default_rng(8), 0, 200
    for _ in range(repetitions):
        labels = np.repeat(np.arange(CLASSES), 40)
        hardness = rng.random(len(labels))
        pair = [
            predictions(rng, labels, 0.7, training_noise=training_noise, hardness=hardness) for _ in range(2)
        ]
        main = compare(*pair, labels, [], resamples=200)["macro_f1"]
        wrong += main.low > 0 or main.high < 0
    assert wrong <= 0.08 * repetitions


def verdict_of(rng, before, after, count=300, **settings):
    labels = np.repeat(np.arange(CLASSES), count)
    hardness = rng.random(len(labels))
    arms = {
        BEST: predictions(rng, labels, before, training_noise=0.002, hardness=hardness),
        OURS: predictions(rng, labels, after, training_noise=0.002, hardness=hardness),
    }
    return judge(arms, labelled(labels), [0, 1], EvaluateConfig(**settings))


@pytest.mark.parametrize(
    ("before", "after", "count", "margin", "expected"),
    [
        (0.7, 0.8, 300, 0.01, "helps"),
        (0.8, 0.7, 300, 0.01, "hurts"),
        (0.7, 0.7, 300, 0.08, "no difference"),
        (0.7, 0.7, 12, 0.01, "cannot tell"),
    ],
)
def test_each_of_the_four_verdicts_is_found_where_it_is_true(rng, before, after, count, margin, expected):
    found = verdict_of(rng, before, after, count, margin=margin)
    assert found.verdict == expected
    assert found.low < found.difference < found.high


def test_the_sentence_carries_what_a_reader_must_know(rng):
    found = verdict_of(rng, 0.7, 0.8, count=12)
    for part in (
        BEST,
        OURS,
        "4 classifier seeds",
        "60 real test images",
        "24 are of the rare",
        "show is about",
    ):
        assert part in found.sentence
    assert "with 12 test images of this class nothing under" in found.classes[0].sentence
    assert json.loads(json.dumps(found.to_dict()))["verdict"] == found.verdict


def test_the_opponent_is_the_best_arm_without_synthetic_images(rng):
    labels = np.repeat(np.arange(CLASSES), 30)
    arms = {name: predictions(rng, labels, share) for name, share in ((CHEAP, 0.5), (BEST, 0.8), (OURS, 0.9))}
    found = judge(arms, labelled(labels), [0], EvaluateConfig())
    assert (found.before, found.after) == (BEST, OURS)
    assert any("flatters" in note for note in found.notes)


@pytest.mark.parametrize(
    ("best", "partner", "told"),
    [
        (BEST, OURS, ""),
        (f"{BEST}+mixup", OURS, f'"[{BEST}+mixup, {BEST}+mixup+synthetic]"'),
        ("real", OURS, '"[real, synthetic]"'),
        ("logit adjustment", "logit adjustment+thresholds on synthetic", ""),
    ],
)
def test_where_the_best_arm_has_no_synthetic_images_beside_it_a_command_compares_both(
    best, partner, told, rng
):
    labels = np.repeat(np.arange(CLASSES), 30)
    arms = {
        name: predictions(rng, labels, share) for name, share in ((best, 0.8), (CHEAP, 0.5), (partner, 0.6))
    }
    notes = [
        note for note in judge(arms, labelled(labels), [0], EvaluateConfig()).notes if "together with" in note
    ]
    assert len(notes) == bool(told)
    for note in notes:
        assert f"--evaluate.arms {told}" in note
        named = yaml.safe_load(note.split("--evaluate.arms ")[1].rstrip(".").strip('"'))
        assert [arm.has_synthetic for arm in find_arms(named)] == [False, True]


def test_without_synthetic_images_there_is_nothing_to_compare(rng):
    labels = np.repeat(np.arange(CLASSES), 10)
    found = judge({BEST: predictions(rng, labels, 0.7)}, labelled(labels), [0], EvaluateConfig())
    assert found.verdict == "cannot tell"
    assert "no synthetic images were kept" in found.sentence
    assert found.after == ""


def test_a_wanted_class_without_test_images_is_said_to_show_nothing(rng):
    labels = np.repeat(np.arange(CLASSES - 1), 10)
    arms = {BEST: predictions(rng, labels, 0.7), OURS: predictions(rng, labels, 0.7)}
    found = judge(arms, labelled(labels), [CLASSES - 1], EvaluateConfig())
    assert found.classes[0].recall is None
    assert "no test images" in found.classes[0].sentence
    assert "rare_recall" not in found.measures
