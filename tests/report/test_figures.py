"""The plots of the report: what they say of their values by place."""

import re

import numpy as np
import pytest
from support.evaluation import write_tuning

from ganaug.report import figures
from ganaug.report.amounts import read_amounts
from ganaug.report.arena import Estimate


@pytest.mark.parametrize("values", [[0.5], [0.0, 1.0], [-0.031, 0.002], [0.91234, 0.91239], [1e-7]])
def test_an_axis_holds_all_its_values_between_its_ticks(values):
    axis = figures.axis_for(values)
    assert axis.ticks[0] == pytest.approx(axis.low)
    assert axis.ticks[-1] == pytest.approx(axis.high)
    assert axis.low < min(values) <= max(values) < axis.high or {0.0, 1.0} & set(values)
    assert 3 <= len(axis.ticks) <= 8


def test_larger_values_stand_farther_right():
    axis = figures.axis_for([0.8, 0.9])
    row = figures.interval_row(axis, Estimate(0.85, 0.82, 0.88))
    left, right = (float(re.search(rf'{end}="([\d.]+)%"', row)[1]) for end in ("x1", "x2"))
    interval = re.search(r'class="interval" x1="([\d.]+)%" x2="([\d.]+)%"', row)
    assert 0 <= left <= right
    assert float(interval[1]) < axis.percent(0.85) < float(interval[2])


def test_a_larger_gain_stands_higher_and_a_larger_share_farther_right(tmp_path):
    write_tuning(tmp_path, "oversampling+synthetic")
    (_, ones), *_ = read_amounts(tmp_path).doses
    places = re.findall(r'class="mean" cx="([\d.]+)%" cy="([\d.]+)%"', figures.dose(ones).svg)
    along, down = zip(*((float(x), float(y)) for x, y in places), strict=True)
    assert list(along) == sorted(along)
    gains = [0.0, *(one.gain for one in ones)]
    assert np.argsort(down).tolist() == np.argsort(gains)[::-1].tolist()


def test_a_ring_stands_for_before_and_a_dot_for_after():
    row = figures.change_row(figures.axis_for([0.8, 0.9], is_share=True), 0.8, 0.9)
    ring, dot = (float(re.search(rf'class="{kind}" cx="([\d.]+)%"', row)[1]) for kind in ("ring", "mean"))
    assert ring < dot


@pytest.mark.parametrize("values", [[0.93, 1.0], [0.0, 0.02], [1.0], [0.0, 1.0], [0.87, 0.999]])
def test_no_share_is_drawn_on_an_axis_beyond_none_and_all(values):
    axis = figures.axis_for(values, is_share=True)
    assert 0 <= axis.low <= min(values)
    assert max(values) <= axis.high <= 1.0 + 1e-9
    assert len(axis.ticks) >= 2


@pytest.mark.parametrize("values", [[-5.4, 0.3, 6.4], [0.2, 40.0], [-3.0, -2.0], [2.0, 3.0]])
def test_intervals_far_wider_than_shares_leave_an_axis_of_shares(values):
    axis = figures.axis_for(values, is_share=True)
    assert 0 <= axis.low < axis.high <= 1.0 + 1e-9
    assert all(0 <= axis.percent(value) <= 100 for value in values)
