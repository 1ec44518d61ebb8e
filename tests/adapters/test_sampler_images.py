# X and y are scikit-learn's names, capital and all.
# ruff: noqa: N803, N806
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from imblearn.pipeline import Pipeline
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.preprocessing import FunctionTransformer

import ganaug
from ganaug import GanOverSampler
from ganaug.errors import DatasetError, ModelError, UnknownClassError, UnmatchedLabelError

GREY = np.zeros((9, 8, 8), np.uint8)
Y = np.array([0] * 6 + [1] * 3)


@pytest.fixture(scope="module")
def few_digits():
    """(N, 64) digits 0, 1 and 2 from 0 to 16; of 2 there are five."""
    X, y = load_digits(return_X_y=True)
    rows = np.r_[np.flatnonzero(y == 0)[:40], np.flatnonzero(y == 1)[:40], np.flatnonzero(y == 2)[:5]]
    return X[rows], y[rows]


def quick(**parameters):
    return GanOverSampler(**{"steps": 12, **parameters})


def test_each_fold_of_images_trains_on_all_of_its_own_images():
    X, y = load_digits(n_class=3, return_X_y=True)
    images = np.rint(X * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    # No digit comes twice, so that a training image is not a test image too.
    assert len(np.unique(images, axis=0)) == len(images)
    for train, test in StratifiedKFold(2, shuffle=True, random_state=0).split(X, y):
        sampler = quick(sampling_strategy={1: 95})
        sampler.fit_resample(images[train], y[train])
        held = {row.tobytes() for row in sampler.generator_.module.exemplars.numpy()[:, 0]}
        assert held == {image.tobytes() for image in images[train]}
        assert not held & {image.tobytes() for image in images[test]}


def test_images_in_any_form_are_the_same_images(few_digits):
    X, y = few_digits
    levels = np.rint(X * 255 / 16).astype(np.uint8)
    forms = {
        "flat": (levels, {"image_shape": (8, 8)}),
        "with channels": (levels.reshape(-1, 8, 8, 1), {}),
        "without": (levels.reshape(-1, 8, 8), {"image_shape": (8, 8, 1)}),
        "int64": (levels.astype(np.int64).reshape(-1, 8, 8), {}),
        "0 to 1": (levels.reshape(-1, 8, 8) / 255, {}),
        "0 to 16": (X.astype(np.float32), {"image_shape": (8, 8, 1), "white": 16}),
        "sparse": (sparse.csr_matrix(levels), {"image_shape": (8, 8, 1)}),
    }
    made = {}
    for name, (values, parameters) in forms.items():
        more, more_y = quick(**parameters).fit_resample(values, y)
        assert type(more) is type(values)
        assert more.dtype == values.dtype
        assert more.shape[1:] == values.shape[1:]
        assert Counter(more_y) == {0: 40, 1: 40, 2: 40}
        dense = (more.toarray() if sparse.issparse(more) else more).reshape(-1, 64)
        np.testing.assert_array_equal(
            dense[: len(X)].reshape(values.shape), values.toarray() if name == "sparse" else values
        )
        white = {"0 to 1": 1, "0 to 16": 16}.get(name, 255)
        made[name] = np.rint(dense[len(X) :] * (255 / white))
    for images in made.values():
        np.testing.assert_array_equal(images, made["flat"])
    assert made["flat"].std() > 20


def test_whole_levels_of_another_white_are_rounded(few_digits):
    X, y = few_digits
    floats, _ = quick(image_shape=(8, 8), white=16).fit_resample(X, y)
    whole, _ = quick(image_shape=(8, 8), white=16).fit_resample(X.astype(np.int16), y)
    assert whole.dtype == np.int16
    np.testing.assert_array_equal(whole, np.rint(floats))


def test_colour_images_of_lists_stay_lists():
    images = np.random.default_rng(0).integers(0, 256, (14, 8, 9, 3), dtype=np.uint8)
    more, more_y = quick(steps=2, batch=8).fit_resample(images.tolist(), ["a"] * 9 + ["b"] * 5)
    assert np.shape(more) == (18, 8, 9, 3)
    assert Counter(more_y) == {"a": 9, "b": 9}


def test_a_generator_of_images_is_saved_as_a_model_that_needs_no_training(few_digits, tmp_path):
    X, y = few_digits
    sampler = quick(image_shape=(8, 8), white=16)
    more, _ = sampler.fit_resample(X, y)
    model = sampler.generator_.save(tmp_path / "model")
    assert dict(model.card.trained_on) == {"0": 40, "1": 40, "2": 5}
    again, _ = sampler.set_params(model=tmp_path / "model").fit_resample(X, y)
    # A grey level of 255.
    np.testing.assert_allclose(again, more, atol=1.01 * 16 / 255)


# A model that is given


@pytest.fixture
def pets():
    """8 px images under the names of the tiny model's classes."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (12, 8, 8), dtype=np.uint8), np.array(["cat"] * 6 + ["dog"] * 4 + ["emu"] * 2)


def test_a_model_is_taken_by_folder_by_name_or_opened(tiny_model, pets):
    images, y = pets
    generator = ganaug.load(tiny_model)
    found = [
        GanOverSampler(model=model).fit_resample(images, y)[0]
        for model in (tiny_model, str(tiny_model), generator, clone(generator, safe=False))
    ]
    for more in found[1:]:
        np.testing.assert_array_equal(more, found[0])
    flat, _ = GanOverSampler(model=tiny_model).fit_resample(images.reshape(12, 64), y)
    np.testing.assert_array_equal(flat, found[0].reshape(-1, 64))


def test_the_model_that_ships_fills_digits_by_the_names_of_their_classes():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]
    sampler = GanOverSampler(model="digits@1", white=16, sampling_strategy={3: 60, 5: 70})
    more, more_y = sampler.fit_resample(X, y)
    assert (Counter(more_y)[3], Counter(more_y)[5]) == (60, 70)
    judge = RandomForestClassifier(random_state=0).fit(*load_digits(return_X_y=True))
    assert (judge.predict(more[300:]) == more_y[300:]).mean() > 0.7


@pytest.mark.parametrize(
    ("strategy", "counts"),
    [
        ("auto", (6, 6, 6)),
        ("not majority", (6, 6, 6)),
        ("minority", (6, 4, 6)),
        ("not minority", (6, 6, 2)),
        ("all", (6, 6, 6)),
        ({"dog": 5}, (6, 5, 2)),
        (lambda y: {"emu": 3}, (6, 4, 3)),
    ],
    # Without the function's address: processes beside must find the same tests.
    ids=lambda value: "function" if callable(value) else str(value),
)
def test_a_strategy_means_what_it_means_in_imbalanced_learn(tiny_model, pets, strategy, counts):
    _, y = GanOverSampler(model=tiny_model, sampling_strategy=strategy).fit_resample(*pets)
    assert tuple(Counter(y)[name] for name in ("cat", "dog", "emu")) == counts


def test_a_ratio_is_of_the_majority(tiny_model, pets):
    images, y = pets[0][:9], np.array(["cat"] * 6 + ["dog"] * 3)
    _, more_y = GanOverSampler(model=tiny_model, sampling_strategy=0.9).fit_resample(images, y)
    assert Counter(more_y) == {"cat": 6, "dog": 5}


def test_labels_are_matched_with_the_classes_of_a_model_by_a_table(tiny_model, pets):
    images, y = pets
    numbers = np.array([{"cat": 7, "dog": 8, "emu": 9}[name] for name in y])
    table = {7: "cat", 8: "dog", 9: "emu"}
    more, more_y = GanOverSampler(model=tiny_model, class_names=table).fit_resample(images, numbers)
    np.testing.assert_array_equal(more, GanOverSampler(model=tiny_model).fit_resample(images, y)[0])
    assert (more_y.dtype, Counter(more_y)) == (numbers.dtype, {7: 6, 8: 6, 9: 6})


def test_an_error_of_a_process_beside_says_the_same(tiny_model, pets):
    sampler = GanOverSampler(model=tiny_model, class_names={"emu": "cow"})
    pipe = Pipeline(
        [("gan", sampler), ("flat", FunctionTransformer(flatten)), ("model", LogisticRegression())]
    )
    with pytest.raises(UnmatchedLabelError, match=r"\{'emu': 'cow'\}") as caught:
        cross_validate(pipe, *pets, cv=2, n_jobs=2, error_score="raise")
    assert caught.value.labels == {"emu": "cow"}


def flatten(images):
    return images.reshape(len(images), -1)


def run_without(package, code):
    """Run code where a package is not installed, as far as an import can tell."""
    blocked = f"""
import sys

class Absent:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
    return subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True)


def test_with_a_model_no_torch_is_needed_and_without_one_the_extra_is_named(tiny_model):
    done = run_without(
        "torch",
        f"""
import numpy as np
from ganaug import GanOverSampler
X, y = np.zeros((9, 8, 8), np.uint8), ["cat"] * 6 + ["dog"] * 3
print(len(GanOverSampler(model={str(tiny_model)!r}).fit_resample(X, y)[0]))
GanOverSampler().fit_resample(X, y)
""",
    )
    assert done.stdout == "12\n"
    assert "MissingExtraError: GanOverSampler without a model needs" in done.stderr
    assert "pip install 'ganaug[train]'" in done.stderr


def test_without_imbalanced_learn_its_extra_is_named():
    done = run_without("imblearn", "from ganaug import GanOverSampler")
    assert "MissingExtraError: ganaug.GanOverSampler needs" in done.stderr
    assert "pip install 'ganaug[sampler]'" in done.stderr


@pytest.mark.parametrize(
    ("X", "y", "parameters", "error", "says"),
    [
        (GREY, Y, {}, UnmatchedLabelError, "class_names={label: name}"),
        (GREY, Y, {"class_names": {1: "cow"}}, UnknownClassError, "{1: 'cow'}"),
        (np.zeros((9, 16, 16, 3), np.uint8), Y, {}, ModelError, "makes images of (8, 8, 1)"),
        (np.zeros((9, 16, 16, 3), np.uint8), Y, {}, ModelError, "X holds images of (16, 16, 3)"),
        (np.zeros((9, 60), np.uint8), Y, {}, DatasetError, "image_shape (8, 8, 1)"),
        (GREY, Y, {"model": "digits@99"}, ModelError, "digits"),
        (GREY, Y, {"model": "no-such-model"}, ModelError, "no-such-model"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_what_to_do(tiny_model, X, y, parameters, error, says):
    with pytest.raises(error, match=re.escape(says)):
        GanOverSampler(**{"model": tiny_model, **parameters}).fit_resample(X, y)
