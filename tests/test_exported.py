"""The model that ships: right after installing it makes digits that are digits."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import ganaug
from ganaug.card import verify
from ganaug.store import packaged_store, resolve

# By its version: `ganaug run` in a checkout may have published others since.
SHIPPED = "exported/digits@1"
DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def generator():
    return ganaug.load(SHIPPED)


def test_its_hashes_and_card_are_right():
    card = verify(resolve(SHIPPED, packaged_store()))
    assert card.name == "digits"
    assert card.image_shape == (8, 8, 1)
    assert list(card.class_names) == DIGITS
    assert card.trained_on["3"] == 5
    assert card.verdict in {"helps", "no difference", "cannot tell"}


def test_the_rare_classes_have_generators_of_their_own(generator):
    own = {name for graph in generator.card.graphs if len(graph.classes) == 1 for name in graph.classes}
    assert own == {"3", "5", "8"}


def test_nine_of_ten_samples_are_recognised_as_their_class_over_all_digits(generator):
    real = load_digits()
    judge = SVC(gamma=0.001).fit(real.data, real.target)
    made = np.concatenate([generator.sample(digit, count=100) for digit in DIGITS]).reshape(1000, 64)
    assert (judge.predict(made / 255 * 16) == np.repeat(np.arange(10), 100)).mean() > 0.9


@pytest.mark.parametrize("digit", DIGITS)
def test_its_samples_are_recognised_as_their_class_by_a_classifier_of_real_digits(generator, digit):
    real = load_digits()
    judge = SVC(gamma=0.001).fit(real.data, real.target)
    images = generator.sample(digit, count=200, seed=0)
    assert images.shape == (200, 8, 8, 1)
    assert images.dtype == np.uint8
    found = judge.predict(images.reshape(200, 64) / 255 * 16)
    # Unscreened samples, which the screen would sort; three classes were learned from 5 images.
    assert (found == int(digit)).mean() > 0.65
    assert len(np.unique(images.reshape(200, 64), axis=0)) > 190


def test_its_samples_are_no_copies_of_real_digits(generator):
    real = load_digits().images.reshape(-1, 64) / 16
    made = np.concatenate([generator.sample(digit, count=50) for digit in DIGITS]).reshape(-1, 64) / 255
    nearest = np.sqrt(((made[:, None] - real[None]) ** 2).mean(axis=-1)).min(axis=1)
    assert (nearest < 0.02).mean() < 0.05


def test_it_works_in_an_empty_folder_without_torch(tmp_path):
    code = (
        "import sys, ganaug\n"
        "images = ganaug.load('exported/digits').sample('3', count=16, seed=0)\n"
        "assert images.shape == (16, 8, 8, 1), images.shape\n"
        "assert not {'torch', 'prefect', 'albumentations', 'pandas'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
