from pathlib import Path

import numpy as np
import pytest

from ganaug.adapters.lacking import lacking
from ganaug.config import PlanConfig
from ganaug.plan import make_plan

COUNTS = {"cat": 100, "dog": 25, "emu": 95, "yak": 2}


@pytest.fixture
def plan():
    return make_plan(np.array([*COUNTS.values()]), list(COUNTS), PlanConfig())


def test_a_share_is_what_lacks_to_the_target(plan):
    assert lacking(plan) == {"dog": 0.75}


def test_a_plan_is_found_as_file_as_folder_and_in_its_run(plan, tmp_path):
    (tmp_path / "run" / "plan").mkdir(parents=True)
    plan.save(tmp_path / "run" / "plan")
    for path in ("run", "run/plan", "run/plan/plan.json"):
        assert lacking(tmp_path / path) == lacking(str(tmp_path / path)) == {"dog": 0.75}


def test_numbers_of_images_aim_at_the_largest_class():
    assert lacking(COUNTS) == {"dog": 0.75, "yak": 0.98}
    assert lacking({3: np.int64(1), 4: 4}) == {"3": 0.75}


def test_where_nothing_lacks_there_are_no_shares():
    assert lacking({"cat": 10, "dog": 10}) == {}


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"target": "majority", "classes": [{"name": 1}]}'])
def test_a_damaged_plan_is_refused(tmp_path, content):
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(ValueError, match=r"plan\.json is no plan"):
        lacking(tmp_path)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Path("no-such-run"), "ganaug plan"),
        ({"cat": 0.5}, "`probabilities`"),
        ({"cat": -1}, "0 images or more"),
        ({}, "one class or more"),
        (3, "not int"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_plan_is_refused(plan, message):
    with pytest.raises(ValueError, match=message):
        lacking(plan)
