"""Quality of generators: every metric against an independent one, and what each is to notice."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from ganaug import cli, steps
from ganaug.arms import ARMS
from ganaug.config import load
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, RunFolderError, SettingsError
from ganaug.quality.evaluate import Asked, evaluate, evaluate_run
from ganaug.quality.held_out import fold_rows
from ganaug.run import StepRecord, perform
from ganaug.training.accuracy_score import accuracy_score, fill_with_real
from ganaug.training.classifier import Classifier, fit, predict, train_classifiers
from ganaug.training.features import ClassifierFeatures, frechet_distance, kernel_distance
from ganaug.training.measure import OVERALL, matched_rows, measure


class Pixels(nn.Module):
    """The pixels themselves as features, so that a reference can be computed by hand."""

    num_features = 12

    def forward(self, images):
        return images.flatten(1).float() / 64


# Of the module, so that it comes before `digits`: threads that spin are slow on a busy machine.
@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_sets():
    """Small images of two distributions that overlap, in different numbers."""
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 200, (60, 2, 2, 3), np.uint8),
        rng.integers(40, 255, (90, 2, 2, 3), np.uint8),
    )


def pixels(images):
    """(N, 12) in the order of NCHW."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1).astype(np.float64) / 64


def test_frechet_distance_is_that_of_the_formula_with_a_matrix_root(two_sets):
    real, synthetic = two_sets
    a, b = pixels(real), pixels(synthetic)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(first @ second).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(first + second - 2 * root)
    assert frechet_distance(real, synthetic, Pixels()) == pytest.approx(expected, rel=1e-4)


def test_kernel_distance_is_the_unbiased_double_sum(two_sets):
    real, synthetic = two_sets[0], two_sets[1][:60]
    a, b = pixels(real), pixels(synthetic)

    def kernel(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / 12 + 1) ** 3

    n = len(a)
    within = sum(kernel(s[i], s[j]) for s in (a, b) for i in range(n) for j in range(n) if i != j)
    across = sum(kernel(x, y) for x in a for y in b)
    expected = within / (n * (n - 1)) - 2 * across / n**2
    assert kernel_distance(real, synthetic, Pixels()) == pytest.approx(expected, rel=1e-3)


def test_the_kernel_distance_repeats_and_leaves_the_global_generator_alone(two_sets):
    state = torch.random.get_rng_state()
    first = kernel_distance(*two_sets, Pixels())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert kernel_distance(*two_sets, Pixels()) == first
    assert kernel_distance(*two_sets, Pixels(), seed=1) != first


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_one_image_has_no_distance(two_sets, distance):
    assert distance(two_sets[0][:1], two_sets[1], Pixels()) is None
    assert distance(two_sets[0], two_sets[1][:0], Pixels()) is None
    assert distance(two_sets[0][:2], two_sets[1], Pixels()) is not None


def test_torchmetrics_takes_the_classifier_and_cannot_put_it_in_training_mode():
    classifier = Classifier((8, 8, 1), 3, rng=torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    expected = predict(classifier.eval(), images)[1]
    metric = FrechetInceptionDistance(feature=ClassifierFeatures(classifier)).train()
    found = metric.inception(torch.from_numpy(images).permute(0, 3, 1, 2)).detach().numpy()
    assert np.allclose(found, expected, atol=1e-5)
    assert not classifier.training


@pytest.fixture(scope="module")
def digits():
    """Training digits, held-out digits and a classifier of the former."""
    bunch = load_digits()
    images = (bunch.images * (255 / 16)).round().astype(np.uint8)[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    data = LabelledImages(
        images[order], pd.DataFrame({"class_id": bunch.target[order]}), tuple(map(str, range(10)))
    )
    train, held_out = data.take(np.arange(800)), data.take(np.arange(800, 1500))
    return train, held_out, fit(ARMS["oversampling"].recipe(train), 10, seed=0, steps=150)


def test_the_score_of_real_images_is_near_the_real_classifier(digits):
    train, held_out, classifier = digits
    expected = (predict(classifier, held_out.images)[0].argmax(1) == held_out.class_ids).mean()
    found = accuracy_score(train, held_out, seeds=(3,), steps=150)
    assert found.accuracy == pytest.approx(expected, abs=0.03)
    assert found.accuracy > 0.9
    assert np.mean(found.recall) == pytest.approx(found.macro_f1, abs=0.03)


def test_the_score_of_shuffled_labels_is_near_chance(digits):
    train, held_out, _ = digits
    labels = np.random.default_rng(0).permutation(train.class_ids)
    shuffled = replace(train, index=pd.DataFrame({"class_id": labels}))
    assert accuracy_score(shuffled, held_out, steps=80).accuracy < 0.3


def test_the_score_can_augment_and_refuses_what_it_cannot_do(digits):
    train, held_out, _ = digits
    some = train.take(np.arange(100))
    plain = accuracy_score(some, held_out, steps=8)
    assert accuracy_score(some, held_out, steps=8, augment="light") != plain
    with pytest.raises(SettingsError, match="no strength"):
        accuracy_score(some, held_out, steps=8, augment="wild")
    with pytest.raises(DatasetError, match="held-out"):
        accuracy_score(some, held_out.take(np.arange(0)), steps=8)


def test_classes_that_are_not_made_are_filled_with_real_images_and_named(digits):
    train, held_out, classifier = digits
    made = train.take(np.flatnonzero(train.class_ids < 8))
    filled, names = fill_with_real(made, train)
    assert names == ("8", "9")
    assert (filled.counts() == train.counts()).all()
    quality = measure(made, train, held_out, classifier, steps=10)
    assert quality.filled_with_real == ("8", "9")
    assert [row.is_filled_with_real for row in quality.classes] == [False] * 8 + [True] * 2
    assert quality.classes[9].frechet_distance is None
    assert quality.classes[9].score_recall is not None


def test_real_images_of_another_draw_are_as_good_as_it_gets(digits):
    train, held_out, classifier = digits
    half = held_out.take(np.arange(350)), held_out.take(np.arange(350, 700))
    heard = []
    quality = measure(
        *(half[0], train, half[1], classifier),
        with_score=False,
        progress=lambda done, total: heard.append(done / total),
    )
    assert quality.score is None
    overall = quality.overall
    assert overall.class_name == OVERALL
    assert 0.8 < overall.memorisation_pixels < 1.2
    assert 0.8 < overall.memorisation_features < 1.2
    assert overall.precision > 0.6
    assert overall.recall > 0.6
    assert overall.right_label_rate > 0.9
    assert heard == sorted(heard)
    assert heard[-1] == 1


def test_copies_of_training_images_are_noticed(digits):
    train, held_out, classifier = digits
    held_out = held_out.take(np.arange(250))
    quality = measure(train, train, held_out, classifier, with_score=False)
    assert quality.overall.copies == 1
    assert quality.overall.memorisation_pixels < 0.01
    assert quality.overall.memorisation_features < 0.01
    halves = train.take(np.arange(400)), train.take(np.arange(400, 800))
    assert measure(halves[0], halves[1], held_out, classifier, with_score=False).overall.copies < 0.1
    told = measure(halves[0], halves[1], held_out, classifier, seen=train, with_score=False)
    assert told.overall.copies == 1


def test_noise_images_are_far_from_all_and_wrongly_labelled(digits):
    train, held_out, classifier = digits
    held_out = held_out.take(np.arange(250))
    noise = np.random.default_rng(0).integers(0, 256, train.images.shape, np.uint8)
    good = measure(train, train, held_out, classifier, with_score=False).overall
    bad = measure(replace(train, images=noise), train, held_out, classifier, with_score=False).overall
    assert bad.frechet_distance > 10 * good.frechet_distance
    assert bad.kernel_distance > 10 * abs(good.kernel_distance)
    assert bad.right_label_rate < 0.3
    # Features of what no training image looked like may lie anywhere, but not as densely.
    assert bad.precision < good.precision - 0.3
    assert bad.memorisation_pixels > 1.5


def test_sets_that_do_not_fit_are_refused(digits):
    train, held_out, classifier = digits
    with pytest.raises(DatasetError, match="`synthetic`"):
        measure(train.take(np.arange(0)), train, held_out, classifier)
    with pytest.raises(DatasetError, match="same order"):
        measure(replace(train, class_names=tuple("abcdefghij")), train, held_out, classifier)
    with pytest.raises(DatasetError, match="shape"):
        measure(replace(train, images=train.images[:, :4]), train, held_out, classifier)


def test_matched_rows_have_the_shares_of_the_other_set():
    rows = matched_rows(np.repeat([0, 1, 2, 3], 50), np.repeat([0, 1, 2], [100, 50, 4]))
    assert np.bincount(np.repeat([0, 1, 2, 3], 50)[rows]).tolist() == [50, 25, 2]
    assert len(matched_rows(np.zeros(3, int), np.ones(3, int))) == 0


def test_a_fold_holds_a_third_of_each_class_and_cuts_no_group():
    class_ids = np.repeat([0, 1, 2], [300, 30, 1])
    groups = [*(f"a{i // 3}" for i in range(300)), *(f"b{i // 3}" for i in range(30)), ""]
    index = pd.DataFrame({"class_id": class_ids, "group": groups})
    data = LabelledImages(np.zeros((331, 8, 8, 1), np.uint8), index, ("a", "b", "c"))
    rows = fold_rows(data)
    assert data.take(rows).counts().tolist() == [99, 9, 0]
    inside = set(index["group"][rows])
    assert not inside & set(index["group"].drop(rows))
    with pytest.raises(DatasetError, match="--held-out test"):
        fold_rows(replace(data, index=index.assign(group="one")))


CLASS_NAMES = ("cat", "dog", "emu")


def record(run, step, part):
    """Make a folder look like a finished step."""
    done = StepRecord(step, part, "", {}, 0.0, 0, {})
    (run.path(step, part) / "step.json").write_text(json.dumps(asdict(done)))


@pytest.fixture
def run(tmp_path, write_model):
    """A run of three grey levels, with a classifier and a linear generator of cat and dog."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    images = (60 + 70 * labels[:, None, None] + rng.normal(0, 12, (120, 8, 8))).clip(0, 255).astype(np.uint8)
    np.savez(tmp_path / "greys.npz", images=images, labels=np.array(CLASS_NAMES)[labels])
    settings = {"run_dir": str(tmp_path / "run"), "train.scope": "base", "split.near_duplicates": "false"}
    made = steps.open_run(load(None, settings, data=tmp_path / "greys.npz"))
    for step in ("split", "plan"):
        perform(made, steps.STEPS[step])
    train_classifiers(steps.load_training(made), 1, made.path("train", "classifiers"), seed=0, steps=20)
    made.path("train", "base").mkdir()
    write_model(made.path("export", "base"), class_ids=(0, 1))
    for step, part in (("train", "classifiers"), ("train", "base"), ("export", "base")):
        record(made, step, part)
    return made


def test_a_run_is_measured_on_a_fold_and_leaves_its_file(run):
    found = evaluate(None, run.config, Asked(count=30, steps=8))
    tree = json.loads((run.folder / "quality" / "quality.json").read_text())
    assert [row["class_name"] for row in tree["classes"]] == list(CLASS_NAMES)
    assert tree["overall"]["frechet_distance"] == found.quality.overall.frechet_distance
    assert tree["filled_with_real"] == ["emu"]
    assert "a fold of the training split, 30 of 90" in tree["notes"][0]
    assert not list(run.folder.glob("quality/*.new"))


def test_images_that_training_kept_back_are_what_is_held_out(run):
    rows = np.arange(0, 90, 6)
    np.save(run.path("train", "base") / "held_out.npy", rows)
    found = evaluate_run(run, Asked(count=20, with_score=False))
    assert sum(row.held_out for row in found.quality.classes) == len(rows)
    assert sum(row.train for row in found.quality.classes) == 90 - len(rows)
    assert "did not train on" in found.notes[0]
    assert "a fold" not in found.notes[0]
    labels = steps.load_training(run).class_ids
    np.save(run.path("train", "base") / "held_out.npy", np.flatnonzero(labels < 2)[::6])
    mixed = evaluate_run(run, Asked(count=20, with_score=False))
    assert [row.held_out for row in mixed.quality.classes] == [5, 5, 10]
    assert "kept back of (emu) it is a fold of 10 images" in mixed.notes[0]
    np.save(run.path("train", "base") / "held_out.npy", np.array([90]))
    with pytest.raises(RunFolderError, match=r"held_out\.npy"):
        evaluate_run(run, Asked(count=20, with_score=False))


def ganaug(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["ganaug", "evaluate-generator", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_verb_shows_a_row_per_class_and_warns_of_the_test_split(run, monkeypatch, capsys):
    monkeypatch.setattr(cli, "console", Console(width=110))
    words = ("--run-dir", run.folder, "--count", 12, "--no-score", "--held-out", "test")
    assert ganaug(monkeypatch, *words) == 0
    shown = capsys.readouterr()
    for word in (*CLASS_NAMES, OVERALL, "coverage", "memorisation", "30 of the locked test"):
        assert word in " ".join(shown.out.split())
    assert "spoils the final verdict" in shown.err


def test_the_verb_measures_a_published_model(monkeypatch, capsys):
    settings = ("--split.near-duplicates", "false", "--count", 8, "--no-score")
    assert ganaug(monkeypatch, "--model", "exported/digits", *settings) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "digits@1" in shown
    assert "219 of 645 images" in shown


def test_what_cannot_be_measured_says_what_to_do(run, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cases = {
        ("--run-dir", tmp_path / "nowhere"): "`ganaug run` makes one",
        ("--run-dir", run.folder, "--synthetic", "screened"): "--synthetic produced",
        ("--run-dir", run.folder, "--count", 0): "at least 1",
        ("--model", tiny_model): "it knows ['cat', 'dog', 'emu']",
        ("--model", tiny_model, "--synthetic", "screened"): "no screened images",
        ("--model", "nothing"): "`ganaug models` lists",
    }
    for words, expected in cases.items():
        assert ganaug(monkeypatch, *words) == 1, words
        assert expected in capsys.readouterr().err
    (run.path("export", "base") / "step.json").unlink()
    assert ganaug(monkeypatch, "--run-dir", run.folder) == 1
    assert "Run `ganaug export` first" in capsys.readouterr().err
