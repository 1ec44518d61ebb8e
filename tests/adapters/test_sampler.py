# X and y are scikit-learn's names, capital and all.
# ruff: noqa: N803, N806
import pickle
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from imblearn.pipeline import Pipeline
from imblearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
)
from imblearn.utils.estimator_checks import parametrize_with_checks as imblearn_checks
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.utils.estimator_checks import parametrize_with_checks as sklearn_checks

from ganaug import GanOverSampler
from ganaug.errors import DatasetError, ModelError, SettingsError, TrainingError, UnknownClassError


def every(checks):
    """pytest wants lists, and both packages make generators."""
    mark = checks.mark
    return pytest.mark.parametrize(mark.args[0], list(mark.args[1]), **mark.kwargs)


@pytest.mark.slow
@every(imblearn_checks([GanOverSampler()]))
def test_it_keeps_every_contract_of_imbalanced_learn(estimator, check):
    check(estimator)


@every(sklearn_checks([GanOverSampler()]))
def test_it_keeps_every_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_every_parameter_is_checked():
    check_param_validation("GanOverSampler", GanOverSampler())


def test_names_of_columns_are_looked_at():
    check_dataframe_column_names_consistency("GanOverSampler", GanOverSampler())


@pytest.fixture(scope="module")
def wine():
    """Two classes of wine, one of them cut to 6 of its rows."""
    X, y = load_wine(return_X_y=True)
    rows = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:6]]
    return X[rows], y[rows]


def quick(**parameters):
    return GanOverSampler(**{"steps": 12, **parameters})


def test_originals_come_first_in_their_order_and_synthetic_rows_of_the_rare_class_after_them(wine):
    X, y = wine
    more_X, more_y = quick().fit_resample(X, y)
    np.testing.assert_array_equal(more_X[: len(X)], X)
    np.testing.assert_array_equal(more_y[: len(y)], y)
    assert set(more_y[len(y) :]) == {1}
    assert Counter(more_y)[1] == Counter(y)[0]


def test_synthetic_rows_are_of_their_class_to_a_forest_that_knows_all_real_rows():
    X, y = load_breast_cancer(return_X_y=True)
    forest = RandomForestClassifier(random_state=0).fit(X, y)
    rows = np.r_[np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:10]]
    more_X, more_y = GanOverSampler().fit_resample(X[rows], y[rows])
    made = more_X[len(rows) :]
    assert (forest.predict(made) == more_y[len(rows) :]).mean() > 0.9
    # No copies of ten rows: that would be RandomOverSampler.
    assert len(np.unique(made[:, 0])) > 100


def test_the_same_seed_gives_the_same_rows_and_another_one_gives_others(wine):
    first, again, other = (quick(random_state=seed).fit_resample(*wine)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_state_gives_its_next_seed_and_none_a_new_one(wine):
    first, second = (
        quick(random_state=state).fit_resample(*wine)[0] for state in [np.random.RandomState(5)] * 2
    )
    same = quick(random_state=5).fit_resample(*wine)[0]
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, second)
    drawn = [quick(random_state=None, steps=1).fit_resample(*wine)[0] for _ in range(2)]
    assert not np.array_equal(*drawn)


@pytest.mark.parametrize("recipe", ["pair", "cgan", "sgan", "multi-discriminator"])
def test_every_recipe_of_perceptrons_makes_rows(wine, recipe):
    sampler = quick(recipe=recipe).fit(*wine)
    more_X, _ = sampler.fit_resample(*wine)
    assert sampler.generator_.summary["recipe"] == recipe
    assert np.isfinite(more_X).all()


def test_settings_reach_the_training(wine):
    sampler = quick(steps=7, batch=16, learning_rate=1e-4, train={"loss": "hinge", "width": 8})
    sampler.fit_resample(*wine)
    settings = sampler.generator_.summary["settings"]
    asked = {"steps": 7, "batch": 16, "learning_rate": 1e-4, "loss": "hinge", "width": 8}
    assert {name: settings[name] for name in asked} == asked


def test_a_frame_keeps_its_columns_and_their_kinds_and_labels_stay_words():
    frame = load_wine(as_frame=True).frame.iloc[:70].astype({"proline": "int32", "hue": "float32"})
    y = frame.pop("target").map({0: "barolo", 1: "grignolino"}).rename("grape")
    frame["is_dry"] = frame["alcohol"] > 13
    more_frame, more_y = quick().fit_resample(frame, y)
    assert list(more_frame.columns) == list(frame.columns)
    assert (more_frame.dtypes == frame.dtypes).all()
    pd.testing.assert_frame_equal(more_frame.iloc[: len(frame)], frame)
    assert isinstance(more_y, pd.Series)
    assert (more_y.name, more_y.dtype) == ("grape", y.dtype)
    assert more_y.value_counts().to_dict() == {"barolo": 59, "grignolino": 59}
    assert more_frame["proline"].between(frame["proline"].min(), frame["proline"].max()).all()


def test_counts_stay_counts_and_constants_stay_constant(wine):
    X, y = wine
    X = np.c_[3 * np.arange(len(X)), np.full(len(X), 3.7), X[:, 0]]
    made = quick().fit_resample(X, y)[0][len(X) :]
    assert (made[:, 0] == np.rint(made[:, 0])).all()
    assert (made[:, 0] % 3 != 0).any()
    assert (made[:, 1] == 3.7).all()
    assert len(np.unique(made[:, 2])) > 20


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_sparse_stays_sparse_and_zeros_stay_zero(form):
    rng = np.random.default_rng(0)
    X = sparse.random_array((60, 20), density=0.1, rng=rng, format=form)
    y = np.r_[np.zeros(50, int), np.ones(10, int)]
    more, _ = quick().fit_resample(X, y)
    assert more.format == form
    np.testing.assert_allclose(more.toarray(), quick().fit_resample(X.toarray(), y)[0])
    assert more[60:].nnz < 0.3 * 40 * 20


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_of_one_or_two_rows_is_filled(wine, count):
    X, y = wine[0][: 59 + count], wine[1][: 59 + count]
    more_X, more_y = quick().fit_resample(X, y)
    assert Counter(more_y) == {0: 59, 1: 59}
    assert len(np.unique(more_X[len(X) :], axis=0)) > 1


def test_where_nothing_is_lacking_nothing_is_trained(wine):
    X, y = wine[0][53:], wine[1][53:]
    sampler = GanOverSampler()
    more_X, _ = sampler.fit_resample(X, y)
    np.testing.assert_array_equal(more_X, X)
    assert sampler.generator_ is None


@pytest.mark.parametrize("features", [13, 3000])
def test_rows_do_not_depend_on_the_threads_of_torch_and_leave_them_as_they_are(features):
    import torch

    X = np.random.default_rng(0).normal(size=(70, features))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            found.append(quick().fit_resample(X, np.arange(70) < 10)[0])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)


# Cross-validation


def test_each_fold_trains_on_its_own_rows_and_on_no_others(wine):
    X, y = wine
    pipe = Pipeline([("gan", quick()), ("forest", RandomForestClassifier(5, random_state=0))])
    found = cross_validate(
        pipe, X, y, cv=StratifiedKFold(3), return_estimator=True, return_indices=True, error_score="raise"
    )
    for pipe, train, test in zip(
        found["estimator"], found["indices"]["train"], found["indices"]["test"], strict=True
    ):
        generator = pipe["gan"].generator_
        assert generator.trained_on == {str(label): count for label, count in Counter(y[train]).items()}
        # The generator holds the very rows that it varies.
        held = {tuple(row) for row in generator.module.exemplars.flatten(1).numpy()}
        assert held == {tuple(row) for row in generator.ranks.places(X[train])}
        assert not held & {tuple(row) for row in generator.ranks.places(X[test])}


def test_processes_side_by_side_get_what_one_alone_gets(wine):
    pipe = Pipeline([("gan", quick()), ("model", LogisticRegression(max_iter=5000))])
    found = [
        cross_validate(pipe, *wine, cv=2, n_jobs=jobs, return_estimator=True, error_score="raise")[
            "estimator"
        ]
        for jobs in (1, 2)
    ]
    for alone, beside in zip(*found, strict=True):
        samples = (one["gan"].generator_.sample("1", 20, seed=1) for one in (alone, beside))
        np.testing.assert_array_equal(*samples)


def test_a_grid_is_searched_over_its_settings(wine):
    pipe = Pipeline([("gan", quick()), ("model", RandomForestClassifier(5, random_state=0))])
    grid = {"gan__recipe": ["pair", "cgan"], "gan__steps": [1, 2], "gan__sampling_strategy": [0.5, "auto"]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=2, error_score="raise").fit(*wine)
    assert set(search.best_params_) == set(grid)
    assert search.best_estimator_["gan"].generator_.trained_on == {"0": 59, "1": 6}


def test_a_fitted_sampler_pickles_and_makes_the_same_samples_elsewhere(wine):
    sampler = quick()
    sampler.fit_resample(*wine)
    again = pickle.loads(pickle.dumps(sampler))
    np.testing.assert_array_equal(
        again.generator_.sample("1", 9, seed=3), sampler.generator_.sample("1", 9, seed=3)
    )


def test_a_fitted_generator_makes_more_samples_after_those_it_made(wine):
    sampler = quick()
    sampler.fit_resample(*wine)
    all_at_once = sampler.generator_.sample("1", 13, seed=3)
    np.testing.assert_allclose(sampler.generator_.sample("1", 9, seed=3, start=4), all_at_once[4:], rtol=1e-5)
    both = sampler.generator_.sample(["1", "0"], [13, 2], seed=3)
    np.testing.assert_allclose(both[:13], all_at_once, rtol=1e-5)
    assert both.shape == (15, 13)
    in_turn = sampler.generator_.sample(["1", "1"], [4, 9], seed=3)
    np.testing.assert_allclose(in_turn, all_at_once, rtol=1e-5)


def test_a_fitted_generator_refuses_what_it_cannot_make(wine):
    sampler = quick(steps=1)
    sampler.fit_resample(*wine)
    with pytest.raises(UnknownClassError, match="it knows"):
        sampler.generator_.sample("2")
    with pytest.raises(SettingsError, match="2 classes with 1 counts"):
        sampler.generator_.sample(["0", "1"], [3])
    with pytest.raises(SettingsError, match="count: -1"):
        sampler.generator_.sample("0", -1)


def test_a_generator_of_rows_is_not_saved_as_an_image_model(wine, tmp_path):
    sampler = quick(steps=1)
    sampler.fit_resample(*wine)
    with pytest.raises(ModelError, match="pickle it"):
        sampler.generator_.save(tmp_path)


# What is refused

GREY = np.zeros((9, 8, 8), np.uint8)
Y = np.array([0] * 6 + [1] * 3)


@pytest.mark.parametrize(
    ("X", "parameters", "error", "says"),
    [
        (np.zeros((9, 60)), {"image_shape": (8, 8)}, DatasetError, "X has 60 columns"),
        (GREY, {"image_shape": (4, 16)}, DatasetError, "image_shape says (4, 16, 1); leave it out"),
        (np.zeros((9, 64)), {"image_shape": (64,)}, DatasetError, "an image_shape of (H, W)"),
        (np.zeros((9, 64)), {"image_shape": (8.0, 8)}, DatasetError, "an image_shape of (H, W)"),
        (np.zeros((9, 300, 4), np.uint8), {}, DatasetError, "sides go up to 256 px"),
        (np.zeros((9, 8, 8, 2), np.uint8), {}, DatasetError, "channels are 1, 3 or 4"),
        (np.zeros((9, 3, 8, 8), np.uint8), {}, DatasetError, "stand last"),
        (np.zeros((9, 2, 2, 2, 1)), {}, DatasetError, "X is (N, H, W)"),
        (GREY - 1.0, {}, DatasetError, "floats from -1 to -1"),
        (GREY + 255.0, {}, DatasetError, "white=255 for floats up to 255"),
        (GREY.astype(int) + 256, {}, DatasetError, "integers from 256 to 256"),
        (GREY + 17.0, {"white": 16}, DatasetError, "0 (black) to 16 (white)"),
        (np.full((9, 8, 8), np.nan), {}, ValueError, "Input X contains NaN"),
        (np.full((9, 4), np.inf), {}, ValueError, "Input X contains infinity"),
        (np.full((9, 4), "red", object), {}, ValueError, "could not convert string to float"),
        (np.zeros((9, 4)), {"recipe": "dcgan"}, SettingsError, "'dcgan' is made of convolutions"),
        (np.zeros((9, 4)), {"recipe": "vanilla"}, ValueError, "The 'recipe' parameter of GanOverSampler"),
        (np.zeros((9, 4)), {"train": {"los": "hinge"}}, SettingsError, "did you mean loss?"),
        (np.zeros((9, 4)), {"train": {"steps": 5}}, SettingsError, "steps: is a parameter of its own"),
        (np.zeros((9, 4)), {"train": {"processes": 2}}, SettingsError, "processes: has no use in a sampler"),
        (np.zeros((9, 4)), {"train": {"conditioning": "none"}}, SettingsError, "learns no classes"),
        (np.zeros((9, 4)), {"train": {"z_dim": -1}}, SettingsError, "z_dim"),
        (np.zeros((9, 4)), {"sampling_strategy": {1: 2}}, ValueError, "should be greater or equal"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_do(X, parameters, error, says):
    with pytest.raises(error, match=re.escape(says)):
        quick(**parameters).fit_resample(X, Y)


def test_classes_of_one_row_each_are_refused():
    with pytest.raises(TrainingError, match="no class has two"):
        quick(sampling_strategy={1: 5}).fit_resample(np.eye(2), [0, 1])
