import numpy as np
import pytest

from ganaug.training import rows as rows_module
from ganaug.training.rows import Ranks, RowReals

RNG = np.random.default_rng(0)


def test_values_come_back_from_their_places():
    table, class_ids = RNG.normal(size=(200, 3)) * [1, 1e9, 1e-9], RNG.integers(0, 2, 200)
    ranks = Ranks(table, class_ids)
    places = ranks.places(table)
    assert places.dtype == np.float32
    assert np.abs(places).max() <= 1
    # Next to an outlier a step of float32 is wide.
    assert (np.abs(ranks.values(places) - table) < 1e-4 * table.std(axis=0)).all()


def test_order_is_kept():
    table = RNG.normal(size=(50, 1))
    places = Ranks(table, np.zeros(50, np.int64)).places(table)
    assert (np.argsort(table[:, 0]) == np.argsort(places[:, 0])).all()


def test_values_that_come_more_than_once_come_back_exactly_from_all_around_them():
    table = np.r_[np.zeros(60), np.full(30, 7.25), np.linspace(8, 9, 10)][:, None]
    values = Ranks(table, np.zeros(100, np.int64)).values(
        np.linspace(-1, 0.79, 500, dtype=np.float32)[:, None]
    )
    assert set(np.unique(values)) == {0.0, 7.25}


def test_what_comes_back_lies_between_the_smallest_and_the_largest_value():
    table = RNG.exponential(size=(40, 2))
    values = Ranks(table, np.zeros(40, np.int64)).values(np.array([[-1, 1], [1, -1]], np.float32))
    np.testing.assert_allclose(
        values, [[table[:, 0].min(), table[:, 1].max()], [table[:, 0].max(), table[:, 1].min()]]
    )


def test_a_rare_class_far_from_the_others_owns_its_share_of_the_scale():
    table = np.r_[RNG.normal(size=1000), 8 + RNG.normal(size=10)][:, None]
    class_ids = np.r_[np.zeros(1000, np.int64), np.ones(10, np.int64)]
    places = Ranks(table, class_ids).places(table)
    assert np.ptp(places[class_ids == 1]) > 0.8
    assert places[class_ids == 1].min() > places[class_ids == 0].max()


def test_a_feature_of_whole_numbers_gives_whole_numbers():
    table = np.stack([RNG.permutation(40), RNG.random(40)], axis=1)
    values = Ranks(table, np.zeros(40, np.int64)).values(RNG.uniform(-1, 1, (300, 2)).astype(np.float32))
    assert (values[:, 0] == np.rint(values[:, 0])).all()
    assert not (values[:, 1] == np.rint(values[:, 1])).any()


def test_a_constant_feature_stays_what_it_is():
    table = np.full((20, 1), 3.7)
    ranks = Ranks(table, np.arange(20) % 2)
    assert ranks.places(table) == pytest.approx(0)
    assert (ranks.values(np.array([[-1], [0.3], [1]], np.float32)) == 3.7).all()


def test_a_class_of_very_many_rows_is_thinned_and_small_ones_are_not(monkeypatch):
    monkeypatch.setattr(rows_module, "MOST_KNOTS", 100)
    table, class_ids = np.arange(1020.0)[:, None], np.r_[np.zeros(1000, np.int64), np.ones(20, np.int64)]
    feature = Ranks(table, class_ids, seed=3).features[0]
    assert len(feature.known) == 120
    assert set(range(1000, 1020)) <= set(feature.known)
    assert (feature.known == Ranks(table, class_ids, seed=3).features[0].known).all()


@pytest.mark.parametrize("class_ids", [[0, 1, 0, 1, 1], [5, 2, 5, 2, 2]])
def test_rows_are_drawn_by_class_as_they_are(class_ids):
    import torch

    places = RNG.uniform(-1, 1, (5, 4)).astype(np.float32)
    reals = RowReals(places, np.array(class_ids), "cpu")
    first, second = reals.draw_rows(torch.tensor([0, 1] * 50), torch.Generator().manual_seed(0))
    by_position = np.array(reals.class_ids)[[0, 1] * 50]
    for rows in (first, second):
        assert (np.array(class_ids)[rows.numpy()] == by_position).all()
        np.testing.assert_array_equal(reals.take(rows)[:, :, 0, 0].numpy(), places[rows.numpy()])
    assert (first != second).all()
