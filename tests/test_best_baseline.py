"""The best baseline: which arms it is chosen among, what it makes of an arm, and when it cannot be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ganaug.arms import ARMS, STANDARD, find_arms, make_arm
from ganaug.best_baseline import candidates, check, on_baseline
from ganaug.config import EvaluateConfig, load
from ganaug.dataset import LabelledImages
from ganaug.errors import SettingsError
from ganaug.steps import check_settings

STANDARD_BUDGET = EvaluateConfig(budget="standard")


def labelled(counts):
    ids = np.repeat(np.arange(len(counts)), counts)
    return LabelledImages(
        np.zeros((len(ids), 4, 4, 1), np.uint8), pd.DataFrame({"class_id": ids}), tuple("abc")
    )


def test_it_is_chosen_among_what_trains_on_real_images_alone():
    names = [arm.name for arm in candidates(list(ARMS.values()))]
    assert names[0] == "real"
    assert "oversampling+albumentations" in names
    assert len(names) == 15
    for name in names:
        assert not any(word in name for word in ("synthetic", "thresholds", "discriminator", "best baseline"))
    own = [*find_arms(["real", "best baseline"]), make_arm("mine.arms:f")]
    assert [arm.name for arm in candidates(own)] == ["real"]


@pytest.mark.parametrize("way", [arm.name for arm in candidates(list(ARMS.values()))])
@pytest.mark.parametrize("use", ["synthetic", "synthetic first", "thresholds on synthetic"])
def test_on_a_baseline_an_arm_is_the_one_that_names_it(way, use):
    found, named = (
        on_baseline(make_arm(f"best baseline+{use}"), way),
        make_arm(use if way == "real" else f"{way}+{use}"),
    )
    assert found == named if way != "real" else (found.name, found.synthetic) == (named.name, named.synthetic)
    train, made = labelled([9, 9, 3]), labelled([0, 0, 6])
    recipe, other = (arm.recipe(train, made, [2]) for arm in (found, named))
    assert np.array_equal(recipe.draw_probability, other.draw_probability)
    assert np.array_equal(recipe.logit_offsets, other.logit_offsets)
    assert np.array_equal(recipe.augmented, other.augmented)
    assert (recipe.mixing, recipe.late is None) == (other.mixing, other.late is None)


def test_an_arm_that_is_not_on_it_stays_what_it_is():
    arm = make_arm("oversampling+mixup")
    assert on_baseline(arm, "smote") is arm


@pytest.mark.parametrize("part", ["oversampling", "albumentations", "light albumentations", "mixup", "real"])
def test_the_baseline_brings_balance_augmentation_and_mixing_itself(part):
    with pytest.raises(SettingsError, match="excludes the other"):
        make_arm(f"best baseline+{part}+synthetic")


def test_a_budget_that_tunes_nothing_cannot_choose_it(tmp_path):
    with pytest.raises(SettingsError, match=r"evaluate\.budget standard"):
        check(EvaluateConfig(), find_arms(["real", "best baseline+synthetic"]))
    config = load(None, {"run_dir": str(tmp_path), "evaluate.arms": ["real", "best baseline+synthetic"]})
    with pytest.raises(SettingsError, match="'best baseline\\+synthetic' needs validation folds"):
        check_settings(config)


def test_there_must_be_something_to_choose_among():
    with pytest.raises(SettingsError, match="nothing to choose its baseline among"):
        check(STANDARD_BUDGET, find_arms(["oversampling+thresholds on folds", "best baseline+synthetic"]))
    check(STANDARD_BUDGET, find_arms(["oversampling", "best baseline+synthetic"]))
    check(STANDARD_BUDGET, find_arms(STANDARD))
