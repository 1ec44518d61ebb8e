import numpy as np
import pytest

from ganaug.config import PlanConfig
from ganaug.errors import SettingsError
from ganaug.plan import BalancePlan, make_plan, part_name

COUNTS = np.array([100, 95, 40, 5, 2])
NAMES = ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("target", "deficits"),
    [
        ("majority", [0, 5, 60, 95, 98]),
        ("median", [0, 0, 0, 35, 38]),
        (50, [0, 0, 10, 45, 48]),
        (0.5, [0, 0, 10, 45, 48]),
        ({"d": 30}, [0, 0, 0, 25, 0]),
    ],
)
def test_a_deficit_is_what_lacks_to_the_target(target, deficits):
    plan = make_plan(COUNTS, NAMES, PlanConfig(target=target))
    assert [row.deficit for row in plan.classes] == deficits


def test_a_class_within_the_tolerance_is_left_alone():
    plan = make_plan(COUNTS, NAMES, PlanConfig(tolerance=0.1))
    assert [row.class_name for row in plan.wanted] == ["c", "d"]
    assert "tolerance" in plan.classes[1].note


def test_a_class_too_rare_to_learn_is_named_and_left_alone_or_served_by_the_base():
    skipped = make_plan(COUNTS, NAMES, PlanConfig()).classes[4]
    assert not skipped.is_wanted
    assert "too few" in skipped.note
    served = make_plan(COUNTS, NAMES, PlanConfig(too_rare="base")).classes[4]
    assert served.is_wanted
    assert not served.trains_own


def test_only_the_per_class_scope_trains_a_gan_for_each_class():
    plan = make_plan(COUNTS, NAMES, PlanConfig(), scope="base")
    assert plan.wanted
    assert not any(row.trains_own for row in plan.classes)


def test_a_target_for_an_unknown_class_is_refused():
    with pytest.raises(SettingsError, match="zebra"):
        make_plan(COUNTS, NAMES, PlanConfig(target={"zebra": 5}))


def test_a_plan_comes_back_as_it_was_saved(tmp_path):
    plan = make_plan(COUNTS, NAMES, PlanConfig())
    plan.save(tmp_path)
    assert BalancePlan.load(tmp_path) == plan


def test_part_names_are_safe_and_distinct_for_odd_class_names():
    names = ["../up", "a b", "a/b", "ü", "", "x" * 300]
    parts = [part_name(k, name) for k, name in enumerate(names)]
    assert len(set(parts)) == len(names)
    assert all("/" not in part and ".." not in part and len(part) < 60 for part in parts)
