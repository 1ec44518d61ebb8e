"""Several splits: intervals where the truth is known, how splits are put together, and real runs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score

from ganaug import steps
from ganaug.arms import arm_names
from ganaug.config import EvaluateConfig, load
from ganaug.evaluate import judge
from ganaug.intervals import compare
from ganaug.pooled import SplitResult, pool
from ganaug.run import perform
from ganaug.simultaneous import compare_all

CLASSES, BEST, OURS = 3, "oversampling+albumentations", "oversampling+albumentations+synthetic"


def guesses(rng, labels, hardness, accuracy, seeds):
    """(S, N) guesses; how hard an image is belongs to the image, whatever the split."""
    difficulty = 0.8 * hardness + 0.2 * rng.random((seeds, len(labels)))
    wrong = (labels + rng.integers(1, CLASSES, (seeds, len(labels)))) % CLASSES
    return np.where(difficulty < accuracy, labels, wrong)


def probabilities(found):
    return np.eye(CLASSES, dtype=np.float32)[found] * 0.9 + np.float32(0.1 / CLASSES)


def trial(rng, *, gain=0.0, images=300, n_splits=8, seeds=2, spread=0.03):
    """Splits of one set of images: what two arms name, with a gain that differs between splits."""
    all_labels = np.repeat(np.arange(CLASSES), images // CLASSES)
    hardness = rng.random(len(all_labels))
    parts = []
    for number in range(n_splits):
        rows = np.flatnonzero(rng.random(images) < 0.5)
        labels, hard = all_labels[rows], hardness[rows]
        common = 0.7 + rng.normal(0, spread)
        arms = [guesses(rng, labels, hard, common + shift, seeds) for shift in rng.normal([0, gain], spread)]
        parts.append((number, rows, labels, arms))
    before, after = (
        probabilities(np.concatenate([part[3][arm] for part in parts], axis=1)) for arm in (0, 1)
    )
    return {
        "before": before,
        "after": after,
        "labels": np.concatenate([part[2] for part in parts]),
        "groups": [f"image {row}" for part in parts for row in part[1]],
        "splits": np.concatenate([np.full(len(part[1]), part[0]) for part in parts]),
    }


def compared(found, **settings):
    return compare(
        found["before"],
        found["after"],
        found["labels"],
        [0],
        groups=found["groups"],
        splits=found["splits"],
        **{"resamples": 200, **settings},
    )


def test_arms_that_are_alike_over_splits_are_seldom_told_apart():
    rng, wrong, wrong_recall = np.random.default_rng(1), 0, 0
    for _ in range(100):
        found = compared(trial(rng))
        wrong += found["macro_f1"].low > 0 or found["macro_f1"].high < 0
        wrong_recall += found["rare_recall"].low > 0 or found["rare_recall"].high < 0
    assert wrong <= 5
    assert wrong_recall <= 5


def test_a_planted_gain_is_found_and_lies_in_the_interval():
    rng = np.random.default_rng(2)
    found = [compared(trial(rng, gain=0.1))["macro_f1"] for _ in range(20)]
    truth = np.mean([one.difference for one in found])
    assert sum(one.low > 0 for one in found) >= 19
    assert sum(one.low < truth < one.high for one in found) >= 18


def test_the_difference_is_the_mean_over_splits_of_what_scikit_learn_says():
    found = trial(np.random.default_rng(3), gain=0.05)
    expected = []
    for arm in ("before", "after"):
        scores = []
        for number in np.unique(found["splits"]):
            rows = found["splits"] == number
            scores += [
                f1_score(found["labels"][rows], one[rows].argmax(1), average="macro") for one in found[arm]
            ]
        expected.append(np.mean(scores))
    main = compared(found)["macro_f1"]
    assert (main.before, main.after) == pytest.approx(expected, abs=1e-6)


def test_the_same_split_many_times_is_not_many_splits():
    rng = np.random.default_rng(4)
    one = trial(rng, n_splits=1, gain=0.05, seeds=1)
    many = {
        "before": np.concatenate([one["before"]] * 9, axis=1),
        "after": np.concatenate([one["after"]] * 9, axis=1),
        "labels": np.tile(one["labels"], 9),
        "groups": one["groups"] * 9,
        "splits": np.repeat(np.arange(9), len(one["labels"])),
    }
    alone = compare(one["before"], one["after"], one["labels"], [0], resamples=1000)["macro_f1"]
    together = compared(many, resamples=1000)["macro_f1"]
    # With one seed what is left is the choice of test images, and there are no more of them.
    assert together.reach == pytest.approx(alone.reach, rel=0.1)
    loose = {**many, "groups": [f"{row}" for row in range(len(many["labels"]))]}
    assert compared(loose, resamples=1000)["macro_f1"].reach < 0.5 * together.reach


def test_many_arms_over_splits_have_wider_intervals_than_one():
    rng = np.random.default_rng(5)
    found = trial(rng)
    where = {"groups": found["groups"], "splits": found["splits"], "resamples": 500}
    arms = {"a": found["after"]}
    for name in "bcd":
        # Each calls a fifth of the images like the other arm.
        as_before = rng.random((1, len(found["labels"]), 1)) < 0.2
        arms[name] = np.where(as_before, found["before"], found["after"])
    many = compare_all(arms, found["before"], found["labels"], **where)
    [alone] = compare_all({"a": found["after"]}, found["before"], found["labels"], **where)
    assert many[0].high - many[0].low >= alone.high - alone.low
    single = compared(found, resamples=2000)["macro_f1"]
    assert alone.high - alone.low == pytest.approx(single.high - single.low, rel=0.25)


def result(names, rows, labels, seed):
    rng = np.random.default_rng(seed)
    index = pd.DataFrame(
        {"class_id": labels, "path": [f"{row}.png" for row in rows], "group": [str(row) for row in rows]}
    )
    fits = {name: probabilities(guesses(rng, labels, rng.random(len(rows)), 0.8, 2)) for name in names}
    return SplitResult(index, fits, pd.DataFrame(), pd.DataFrame())


def test_the_verdict_counts_each_test_image_once_and_says_how_many_splits():
    labels = np.repeat(np.arange(CLASSES), 20)
    results = [result((BEST, OURS), np.arange(60), labels, seed) for seed in range(3)]
    pooled = pool(results, tuple("abc"), {OURS: BEST})
    verdict = judge(pooled.probability, pooled.test, [1], EvaluateConfig())
    assert (verdict.splits, verdict.seeds, verdict.test_images, verdict.rare_test_images) == (3, 2, 60, 20)
    assert verdict.classes[0].test_images == 20
    assert "over 3 splits of the images with 2 classifier seeds each" in verdict.sentence
    assert any("3 splits say little" in note for note in verdict.notes)


def test_a_split_without_synthetic_images_counts_as_what_its_user_would_have_had():
    labels = np.repeat(np.arange(CLASSES), 20)
    results = [result((BEST, OURS), np.arange(60), labels, 0), result((BEST,), np.arange(60), labels, 1)]
    pooled = pool(results, tuple("abc"), {OURS: BEST})
    assert np.array_equal(pooled.probability[OURS][:, 60:], pooled.probability[BEST][:, 60:])
    assert f"{OURS!r} had no synthetic images in 1 of 2 splits and counts there as {BEST!r}." in pooled.notes
    lost = pool(results, tuple("abc"), {OURS: "real"})
    assert list(lost.probability) == [BEST]
    assert "is left out" in lost.notes[0]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Digits of four classes, one of which is rare, and training that takes seconds."""
    where = tmp_path_factory.mktemp("splits")
    digits = load_digits(n_class=4)
    np.savez(where / "digits.npz", images=(digits.images * 15).astype(np.uint8), labels=digits.target)
    return where, {
        "run_dir": str(where / "run"),
        "split.keep": {"3": 8},
        "split.near_duplicates": False,
        "plan.target": 40,
        "train.steps": 40,
        "train.class_steps": 10,
        "screen.classifiers": 1,
        "screen.folds": 2,
        "screen.steps": 150,
        "screen.min_confidence": 0.1,
        "screen.min_realism": 0,
        "evaluate.steps": 60,
        "evaluate.seeds": 2,
        "evaluate.splits": 2,
    }


@pytest.mark.slow
def test_each_further_split_is_a_run_of_its_own_and_the_verdict_is_about_all(settings):
    where, tree = settings
    run = steps.open_run(load(None, tree, data=where / "digits.npz"))
    told = []
    for step in ("split", "plan", "train", "export", "produce", "screen"):
        steps.do(run, step)
    outcome = perform(
        run, steps.STEPS["evaluate"], "", progress=lambda done, total: told.append(done / total)
    )
    verdict = json.loads((outcome.folder / "verdict.json").read_text())
    assert verdict["splits"] == 2
    scores = pd.read_parquet(outcome.folder / "scores.parquet")
    assert scores.groupby("split").size().tolist() == [10, 10]
    assert pd.read_parquet(outcome.folder / "per_class.parquet")["split"].nunique() == 2
    assert told == sorted(told)
    assert len(set(told)) > 20
    assert told[-1] == 1
    assert (outcome.folder / "recipe" / "manifest.parquet").is_file()

    further = run.folder / "splits" / "1"
    indexes = [pd.read_parquet(folder / "split" / "index.parquet") for folder in (run.folder, further)]
    tests = [set(index.loc[index["split"] == "test", "path"]) for index in indexes]
    assert tests[0] != tests[1]
    assert verdict["test_images"] == len(set.union(*tests))
    mean = scores.groupby("arm")["macro_f1"].mean()
    for name in ("before", "after"):
        assert verdict["measures"]["macro_f1"][name] == pytest.approx(mean[verdict[name]], abs=2e-3)

    stamps = {file: file.stat().st_mtime_ns for file in further.glob("**/*") if file.is_file()}
    shutil.rmtree(outcome.folder)
    again = perform(run, steps.STEPS["evaluate"], "")
    assert json.loads((again.folder / "verdict.json").read_text()) == verdict
    of_steps = [file for file in stamps if file.name not in {"config.yaml"}]
    assert [stamps[file] for file in of_steps] == [file.stat().st_mtime_ns for file in of_steps]


def test_the_paper_budget_is_the_standard_one_on_ten_splits_with_three_seeds():
    paper, standard = (EvaluateConfig(budget=budget) for budget in ("paper", "standard"))
    assert (paper.chosen_splits, paper.chosen_seeds, paper.is_tuned) == (10, 3, True)
    assert standard.chosen_splits == 1
    assert arm_names(paper) == arm_names(standard)
