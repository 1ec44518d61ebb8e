"""An estimator sees what the recipe draws, weighted as it says, and its columns become class ids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.digits import digits

from ganaug.arms import make_arm
from ganaug.errors import TrainingError
from ganaug.training.classifiers import estimator as module
from ganaug.training.classifiers.estimator import count_of, drawn, fit_estimator

TRAIN = digits(30)
UNEVEN = TRAIN.take(np.concatenate([np.arange(0, 30), np.arange(30, 50), np.arange(60, 64)]))


class Remembering(LogisticRegression):
    """Keeps what it was fitted on."""

    def fit(self, X, y, sample_weight=None):  # noqa: N803 - scikit-learn's name
        self.seen = X, y, sample_weight
        return super().fit(X, y, sample_weight)


def fitted(recipe, made, seed=0, steps=1000, n_classes=3):
    return fit_estimator(made, recipe, n_classes, TRAIN.images, seed=seed, steps=steps)


def test_without_oversampling_an_estimator_sees_the_real_images_as_it_would_without_ganaug():
    recipe = make_arm("real").recipe(TRAIN)
    made = Remembering(max_iter=1000)
    probability = fitted(recipe, made)
    pixels, labels, weights = made.seen
    # 90 images fill eight batches of twelve: six come twice.
    assert {row.tobytes() for row in pixels} == {
        row.tobytes() for row in (TRAIN.images.reshape(90, -1) / np.float32(255)).astype(np.float32)
    }
    assert len(pixels) == 96
    assert pixels.dtype == np.float32
    assert (pixels.min(), pixels.max()) == (0, 1)
    assert weights is None
    assert (probability.argmax(1) == TRAIN.class_ids).mean() > 0.9
    assert np.bincount(labels).min() >= 30


def test_oversampling_and_synthetic_shares_reach_an_estimator():
    made = Remembering()
    fitted(make_arm("oversampling").recipe(UNEVEN), made)
    assert np.ptp(np.bincount(made.seen[1])) <= 2
    synthetic = TRAIN.take(np.flatnonzero(TRAIN.class_ids == 2)[10:])
    recipe = make_arm("oversampling+synthetic").recipe(UNEVEN, synthetic, [2], synthetic_share=0.5)
    fitted(recipe, made)
    known = {(image.reshape(-1) / np.float32(255)).astype(np.float32).tobytes() for image in synthetic.images}
    share = np.mean([row.tobytes() in known for row in made.seen[0]])
    assert share == pytest.approx(recipe.draw_probability[recipe.source >= len(UNEVEN)].sum(), abs=0.02)
    assert share > 0.1


def test_augmented_images_are_all_different():
    recipe = make_arm("oversampling+albumentations").recipe(TRAIN)
    images, _ = drawn(recipe, count_of(recipe, 1000), 0)
    assert len(images) == pytest.approx(4 * 90, abs=8)
    assert len({image.tobytes() for image in images}) > 0.98 * len(images)


def test_images_are_bounded_by_steps_by_number_and_by_pixels(monkeypatch):
    recipe = make_arm("oversampling+albumentations").recipe(TRAIN)
    assert count_of(recipe, 2) == 128
    monkeypatch.setattr(module, "MOST_IMAGES", 100)
    assert count_of(recipe, 1000) == 100
    monkeypatch.setattr(module, "MOST_VALUES", 64 * 50)
    assert count_of(recipe, 1000) == 50


@pytest.mark.parametrize("wrap", [lambda made: made, lambda made: make_pipeline(StandardScaler(), made)])
def test_loss_weights_become_sample_weights(wrap):
    # The same images under both labels: only the weights decide.
    twice = replace(TRAIN, images=np.concatenate([TRAIN.images[:30]] * 3))
    recipe = make_arm("real").recipe(twice)
    heavy = replace(recipe, loss_weights=np.array([0.1, 0.1, 2.8], np.float32))
    probability = fit_estimator(wrap(LogisticRegression()), heavy, 3, TRAIN.images[:30], seed=0, steps=100)
    assert probability[:, 2].mean() > 0.8


def test_columns_go_to_the_classes_that_were_seen():
    only = make_arm("real").recipe(TRAIN.take(np.flatnonzero(TRAIN.class_ids != 1)))
    probability = fitted(only, KNeighborsClassifier(3))
    assert probability.shape == (90, 3)
    assert (probability[:, 1] == 0).all()
    is_seen = TRAIN.class_ids != 1
    assert (probability.argmax(1) == TRAIN.class_ids)[is_seen].mean() > 0.9


def test_the_seed_is_the_estimator_s_random_state_unless_it_has_one():
    recipe = make_arm("real").recipe(TRAIN)
    make = RandomForestClassifier

    def of(made, seed):
        return fitted(recipe, make_pipeline(StandardScaler(), made), seed=seed).tobytes()

    assert of(make(5), 1) == of(make(5), 1) != of(make(5), 2)
    free, fixed = make(5), make(5, random_state=9)
    of(free, 3)
    of(fixed, 3)
    assert (free.random_state, fixed.random_state) == (3, 9)


class Crooked(LogisticRegression):
    def predict_proba(self, X):  # noqa: N803
        return super().predict_proba(X)[:, :2]


class Failing(LogisticRegression):
    def fit(self, X, y):  # noqa: N803
        raise ValueError("no memory for this")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Crooked(), "a column for each of 3 classes"),
        (Failing(), "failed on 96 images: ValueError: no memory"),
    ],
)
def test_an_estimator_that_goes_wrong_says_how(made, words):
    with pytest.raises(TrainingError, match=words):
        fitted(make_arm("real").recipe(TRAIN), made)
