"""The classifier and its batches: they learn, they repeat, they follow the recipe."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ganaug.arms import ARMS
from ganaug.dataset import LabelledImages
from ganaug.errors import ModelError, SettingsError
from ganaug.screen.folds import Fold
from ganaug.training.batches import STRENGTHS, albumentations_pipeline, batches, draw
from ganaug.training.classifier import (
    Classifier,
    fit,
    load_classifiers,
    predict,
    predict_proba,
    train_classifiers,
)

AUGMENTED = "oversampling+albumentations"


def squares(counts, seed=0, size=8, channels=1):
    """Class k has a bright square in its own corner, on noise."""
    rng = np.random.default_rng(seed)
    class_ids = np.repeat(np.arange(len(counts)), counts)
    images = rng.integers(0, 90, (len(class_ids), size, size, channels), np.uint8)
    half = size // 2
    for image, class_id in zip(images, class_ids, strict=True):
        top, left = half * (class_id // 2), half * (class_id % 2)
        image[top + 1 : top + half - 1, left + 1 : left + half - 1] = rng.integers(120, 255)
    names = tuple("abcd"[: len(counts)])
    return LabelledImages(images, pd.DataFrame({"class_id": class_ids}), names)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(8, 8, 1), (12, 9, 3), (16, 16, 1), (32, 48, 3), (64, 64, 4)])
def test_images_of_every_size_and_kind_are_classified(shape):
    model = Classifier(shape, 5).eval()
    probability, features = predict(model, np.zeros((3, *shape), np.uint8))
    assert probability.shape == (3, 5)
    assert features.shape == (3, 128)
    assert np.allclose(probability.sum(1), 1)
    assert predict_proba(model, np.zeros((0, *shape), np.uint8)).shape == (0, 5)


@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS.keys())
def test_a_classifier_learns_by_every_arm(arm):
    train, test = squares([30, 30, 30, 12]), squares([25] * 4, seed=1)
    recipe = arm.recipe(train, squares([0, 0, 0, 20], seed=2), [3], strength="light")
    model = fit(recipe, 4, seed=0, steps=60)
    assert (predict_proba(model, test.images).argmax(1) == test.class_ids).mean() > 0.9


def test_the_same_seed_gives_the_same_classifier_and_another_seed_another():
    recipe = ARMS[AUGMENTED].recipe(squares([20, 5]))
    test = squares([10, 10], seed=1)
    np.random.seed(1)  # noqa: NPY002 - what the process did before must not matter
    torch.manual_seed(1)
    first = predict_proba(fit(recipe, 2, seed=3, steps=5), test.images)
    again = predict_proba(fit(recipe, 2, seed=3, steps=5), test.images)
    other = predict_proba(fit(recipe, 2, seed=4, steps=5), test.images)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_training_tells_how_far_it_is():
    told = []
    recipe = ARMS["real"].recipe(squares([8, 8]))
    fit(recipe, 2, seed=0, steps=3, progress=lambda done, total: told.append((done, total)))
    assert told == [(64, 192), (128, 192), (192, 192)]


def test_batches_hold_the_classes_in_the_recipe_s_shares():
    recipe = ARMS["oversampling"].recipe(squares([90, 10]))
    class_ids = np.concatenate([ids for _, ids in batches(recipe, 50, 16, seed=0)])
    assert np.bincount(class_ids).tolist() == [400, 400]


@pytest.mark.parametrize("arm", ["oversampling", AUGMENTED])
@pytest.mark.parametrize("steps", [1, 8, 13, 25, 47])
def test_every_arm_gets_exactly_the_steps_asked_for(arm, steps):
    recipe = ARMS[arm].recipe(squares([5, 5]))
    assert sum(1 for _ in batches(recipe, 2, steps, seed=0)) == steps


def test_class_weights_move_a_classifier_towards_the_rare_class():
    # The same images under both labels: only the weights decide.
    train = squares([40, 40])
    same = replace(train, images=np.concatenate([train.images[:40], train.images[:40]]))
    recipe = ARMS["real"].recipe(same)
    heavy = replace(recipe, loss_weights=np.array([0.2, 1.8], np.float32))
    model = fit(heavy, 2, seed=0, steps=30)
    assert predict_proba(model, same.images)[:, 1].mean() > 0.7


def test_only_what_the_recipe_marks_is_augmented():
    train, synthetic = squares([20, 5]), squares([0, 20], seed=5)
    recipe = ARMS["oversampling+albumentations+synthetic"].recipe(train, synthetic, [1])
    known = {image.tobytes() for image in synthetic.images}
    real = {image.tobytes() for image in train.images}
    seen = [image.tobytes() for images, _ in batches(recipe, 64, 10, seed=0) for image in images]
    share_synthetic = np.mean([image in known for image in seen])
    assert share_synthetic == pytest.approx(0.5 * 0.25, abs=0.03)
    assert np.mean([image in real for image in seen]) < 0.1  # p = 0.9 of the affine, and the rest


def test_draws_are_those_of_the_probabilities():
    rows = draw(np.array([0.5, 0.0, 0.3, 0.2]), 1000, np.random.default_rng(0))
    assert np.abs(np.bincount(rows, minlength=4) - [500, 0, 300, 200]).max() <= 1


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 12, 3), (32, 32, 4)])
def test_every_strength_keeps_shape_and_kind_and_repeats_by_seed(strength, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    fill = (7,) * shape[2]
    runs = [
        [albumentations_pipeline(strength, 5, fill=fill, flips=True)(image=image)["image"] for _ in range(2)]
        for _ in range(2)
    ]
    assert runs[0][0].shape == shape
    assert runs[0][0].dtype == np.uint8
    assert np.array_equal(runs[0], runs[1])


def test_an_unknown_strength_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match="light, medium, strong"):
        albumentations_pipeline("brutal", 0)


def test_screening_classifiers_are_saved_loaded_and_not_trained_twice(tmp_path):
    train = squares([20, 20, 6])
    summary = train_classifiers(train, 2, tmp_path, seed=0, steps=4)
    assert summary["classifiers"] == 2
    written = [(tmp_path / f"classifier-{k}.safetensors").stat().st_mtime_ns for k in range(2)]
    first, second = load_classifiers(tmp_path)
    assert not np.array_equal(predict_proba(first, train.images), predict_proba(second, train.images))
    assert json.loads((tmp_path / "classifier.json").read_text())["class_names"] == ["a", "b", "c"]
    train_classifiers(train, 2, tmp_path, seed=0, steps=4)
    assert [(tmp_path / f"classifier-{k}.safetensors").stat().st_mtime_ns for k in range(2)] == written


def test_each_fold_leaves_what_a_classifier_sees_in_images_that_it_was_trained_without(tmp_path):
    train = squares([20, 20, 6])
    summary = train_classifiers(train, 1, tmp_path, seed=0, folds=3, steps=30)
    assert summary["folds"] == 3
    folds = [Fold.load(tmp_path / f"fold-{number}.npz") for number in range(3)]
    assert np.sum([fold.held_out for fold in folds], axis=0).tolist() == [1] * 46
    for fold in folds:
        assert fold.class_ids.tolist() == train.class_ids.tolist()
        assert (fold.logits.shape, fold.features.shape) == ((46, 3), (46, 128))
        assert np.bincount(fold.class_ids[fold.held_out]).tolist() in ([7, 7, 2], [7, 6, 2], [6, 7, 2])
    assert not np.array_equal(folds[0].logits, folds[1].logits)


def test_folds_that_are_there_are_not_trained_again_and_missing_ones_come_out_the_same(tmp_path):
    train = squares([12, 12])
    train_classifiers(train, 1, tmp_path, seed=0, folds=2, steps=3)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("fold-*.npz")}
    times = (tmp_path / "fold-0.npz").stat().st_mtime_ns
    (tmp_path / "fold-1.npz").unlink()
    train_classifiers(train, 1, tmp_path, seed=0, folds=2, steps=3)
    assert (tmp_path / "fold-0.npz").stat().st_mtime_ns == times
    assert {path.name: path.read_bytes() for path in tmp_path.glob("fold-*.npz")} == before


def test_a_fold_is_not_trained_on_what_it_holds_out(tmp_path, monkeypatch):
    train, seen = squares([12, 12]), []

    def watched(recipe, *arguments, **more):
        seen.append({image.tobytes() for image in recipe.images})
        return fit(recipe, *arguments, **more)

    monkeypatch.setattr("ganaug.training.folds.fit", watched)
    train_classifiers(train, 1, tmp_path, seed=0, folds=2, steps=2)
    for number, images in enumerate(seen):
        held_out = Fold.load(tmp_path / f"fold-{number}.npz").held_out
        is_in = np.array([image.tobytes() in images for image in train.images])
        assert is_in.tolist() == (~held_out).tolist()


def test_a_class_of_one_image_has_a_fold_that_does_without_it(tmp_path):
    train_classifiers(squares([12, 1]), 1, tmp_path, seed=0, folds=2, steps=2)
    assert sum(Fold.load(tmp_path / f"fold-{number}.npz").held_out[-1] for number in range(2)) == 1


def test_a_damaged_classifier_is_refused(tmp_path):
    train_classifiers(squares([6, 6]), 1, tmp_path, seed=0, steps=2)
    (tmp_path / "classifier-0.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="no usable classifiers"):
        load_classifiers(tmp_path)
