"""Arms: names made of parts, weights by hand, SMOTE, every use of synthetic images, a user's own."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ganaug.arms import ARMS, PARTS, QUICK, STANDARD, STARTED, arm_names, find_arms, make_arm
from ganaug.config import EvaluateConfig, load
from ganaug.dataset import LabelledImages
from ganaug.errors import MissingExtraError, SettingsError
from ganaug.own_arm import code_digest
from ganaug.recipe import COMPUTED, Late, Recipe, problems
from ganaug.run import RunFolder, _key
from ganaug.smote import smote_images
from ganaug.steps import STEPS, open_run
from ganaug.weighting import effective_number, inverse_count, log_priors

COUNTS = (40, 10, 1)


def labelled(counts, seed=0):
    ids = np.repeat(np.arange(len(counts)), counts)
    images = np.random.default_rng(seed).integers(0, 256, (len(ids), 4, 3, 2), np.uint8)
    return LabelledImages(images, pd.DataFrame({"class_id": ids}), tuple("abcdefgh"[: len(counts)]))


def share_of(recipe, class_id, *, synthetic, draws=None):
    draws = recipe.draw_probability if draws is None else draws
    is_synthetic = recipe.source >= sum(COUNTS)
    return draws[(recipe.class_ids == class_id) & (is_synthetic == synthetic)].sum()


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_an_arm_of_its_own_and_says_what_it_is(name):
    arm = make_arm(name)
    assert arm.meaning == PARTS[name].meaning
    recipe = arm.recipe(labelled(COUNTS), labelled((0, 30, 30), 1), [1, 2])
    assert problems(recipe, 51, 60, 3, (4, 3, 2)) == []


def test_parts_combine():
    arm = make_arm("smote+light albumentations+cutmix+synthetic first")
    assert (arm.balance, arm.is_augmented, arm.strength) == ("smote", True, "light")
    assert (arm.mixing, arm.synthetic, arm.has_synthetic) == ("cutmix", "first", True)


def test_thresholds_are_moved_after_the_arm_without_them_was_trained():
    folds = make_arm("oversampling+synthetic+thresholds on folds")
    assert folds.has_synthetic
    synthetic = make_arm("thresholds on synthetic + oversampling")
    assert synthetic.has_synthetic
    alone = make_arm("thresholds on folds")
    assert not alone.has_synthetic
    for arm in (synthetic, alone):
        recipe = arm.recipe(labelled(COUNTS), labelled((0, 30, 30), 1), [1, 2])
        assert not recipe.has_synthetic(sum(COUNTS))


def test_thresholds_are_not_chosen_on_images_that_were_trained_on():
    with pytest.raises(SettingsError, match="take 'thresholds on folds'"):
        make_arm("oversampling+synthetic+thresholds on synthetic")


@pytest.mark.parametrize(
    "name",
    ["oversampling+smote", "mixup+cutmix", "light albumentations+strong albumentations", "mixup+mixup"],
)
def test_parts_that_exclude_each_other_are_refused_by_name(name):
    with pytest.raises(SettingsError, match=re.escape(repr(name.split("+")[0]))):
        make_arm(name)


def test_the_strength_that_an_arm_names_wins_over_that_of_the_settings():
    train = labelled(COUNTS)
    assert make_arm("oversampling+light albumentations").recipe(train, strength="strong").strength == "light"
    assert make_arm("oversampling+albumentations").recipe(train, strength="medium").strength == "medium"


def test_the_budget_chooses_the_arms_unless_they_are_named():
    assert arm_names(EvaluateConfig()) == QUICK
    assert arm_names(EvaluateConfig(budget="standard")) == STANDARD
    assert arm_names(EvaluateConfig(budget="standard", arms=("real",))) == ("real",)
    with_start = (*STANDARD, *STARTED)
    assert arm_names(EvaluateConfig(budget="paper"), has_start=True) == with_start
    assert arm_names(EvaluateConfig(budget="paper", classifier="resnet-32"), has_start=True) == STANDARD
    assert arm_names(EvaluateConfig(), has_start=True) == QUICK
    assert (EvaluateConfig().chosen_seeds, EvaluateConfig(budget="standard").chosen_seeds) == (4, 5)


def test_the_quick_budget_has_each_way_of_moving_thresholds_and_what_it_is_compared_with():
    assert QUICK == (
        "real",
        "oversampling+albumentations",
        "oversampling+albumentations+thresholds on folds",
        "oversampling+albumentations+synthetic",
        "oversampling+albumentations+thresholds on synthetic",
    )
    assert not EvaluateConfig().is_tuned


def test_class_weights_are_those_of_their_formulas():
    counts = np.array([500, 20, 3, 0])
    beta = 0.99
    # 1 + β + β² + ...: each further image adds less of a new one.
    by_sum = [1 / sum(beta**i for i in range(n)) if n else 0.0 for n in counts]
    assert effective_number(counts, beta) == pytest.approx(by_sum)
    assert inverse_count(counts) == pytest.approx([1 / 500, 1 / 20, 1 / 3, 0])
    # Towards β = 1 the effective number is the number.
    assert effective_number(counts, 1 - 1e-9) == pytest.approx(inverse_count(counts), rel=1e-5)
    priors = np.array([500, 20, 3, 0.5]) / 523.5
    assert log_priors(counts, tau=1.5) == pytest.approx(1.5 * np.log(priors))


@pytest.mark.parametrize(
    ("name", "weights"), [("class weights", inverse_count), ("effective number", effective_number)]
)
def test_weighting_arms_weigh_by_their_formula_up_to_a_factor(name, weights):
    recipe = make_arm(name).recipe(labelled(COUNTS))
    expected = weights(np.array(COUNTS))
    assert recipe.loss_weights / recipe.loss_weights[0] == pytest.approx(expected / expected[0], rel=1e-5)


def test_deferred_re_weighting_weighs_in_the_last_fifth_of_the_steps_only():
    recipe = make_arm("deferred re-weighting").recipe(labelled(COUNTS))
    assert recipe.loss_weights_at(79, 100).tolist() == [1, 1, 1]
    late = recipe.loss_weights_at(80, 100)
    assert late[2] > late[1] > 1 > late[0]
    expected = effective_number(np.array(COUNTS), 0.9999)
    assert late / late[0] == pytest.approx(expected / expected[0], rel=1e-4)
    assert recipe.late.draw_probability == pytest.approx(recipe.draw_probability)


def test_logit_adjustment_leaves_the_draws_alone_and_labels_hard():
    recipe = make_arm("logit adjustment").recipe(labelled(COUNTS))
    assert np.exp(recipe.logit_offsets) == pytest.approx(np.array(COUNTS) / 51, rel=1e-5)
    assert recipe.label_smoothing == 0
    assert recipe.draw_probability == pytest.approx(np.full(51, 1 / 51))


def test_smote_images_lie_between_two_of_their_class():
    train = labelled((12, 4, 1))
    images, class_ids = smote_images(train, seed=3)
    assert class_ids.tolist() == [1] * 8  # a class of one image has no neighbour
    own = train.images[train.class_ids == 1].astype(float)
    for image in images.astype(float):
        gaps = []
        for i, first in enumerate(own):
            for second in own[i + 1 :]:
                along = second - first
                t = np.clip(((image - first) * along).sum() / (along**2).sum(), 0, 1)
                gaps.append(np.abs(image - first - t * along).max())
        assert min(gaps) < 1  # rounding to bytes
    assert np.array_equal(images, smote_images(train, seed=3)[0])
    assert not np.array_equal(images, smote_images(train, seed=4)[0])


def test_the_smote_arm_draws_every_class_alike_and_marks_what_it_computed():
    recipe = make_arm("smote").recipe(labelled(COUNTS))
    totals = np.bincount(recipe.class_ids, weights=recipe.draw_probability)
    assert totals == pytest.approx([1 / 3] * 3)
    assert (recipe.source == COMPUTED).sum() == 30


def test_smote_without_imbalanced_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn.over_sampling", None)
    with pytest.raises(MissingExtraError, match=r"ganaug\[train\]"):
        make_arm("smote").recipe(labelled(COUNTS))


def uses(name, synthetic=(0, 60, 100)):
    recipe = make_arm(f"oversampling+{name}").recipe(labelled(COUNTS), labelled(synthetic, 1), [1, 2])
    totals = np.bincount(recipe.class_ids, weights=recipe.draw_probability)
    assert totals == pytest.approx([1 / 3] * 3)  # classes keep their share of the draws
    return recipe


def test_filling_to_balance_takes_synthetic_images_for_what_a_class_lacks():
    recipe = uses("synthetic to balance")
    assert share_of(recipe, 1, synthetic=True) == pytest.approx(30 / 40 / 3)
    assert share_of(recipe, 2, synthetic=True) == pytest.approx(39 / 40 / 3)


def test_a_class_with_few_synthetic_images_is_filled_no_further_than_they_go():
    recipe = uses("synthetic to balance", (0, 5, 0))
    draws = recipe.draw_probability[recipe.class_ids == 1]
    assert draws == pytest.approx(np.full(15, 1 / 45))
    assert share_of(recipe, 2, synthetic=False) == pytest.approx(1 / 3)


def test_synthetic_first_ends_on_real_images_alone():
    recipe = uses("synthetic first")
    assert share_of(recipe, 1, synthetic=True) > 0.2
    late = recipe.late.draw_probability
    assert share_of(recipe, 1, synthetic=True, draws=late) == 0
    assert late[:51] == pytest.approx(make_arm("oversampling").recipe(labelled(COUNTS)).draw_probability)
    assert recipe.late_step(100) == 50


def test_synthetic_only_shows_no_real_image_of_a_wanted_class():
    recipe = uses("synthetic only")
    assert [share_of(recipe, k, synthetic=False) for k in (1, 2)] == [0, 0]
    assert share_of(recipe, 0, synthetic=False) == pytest.approx(1 / 3)


def test_deferred_re_weighting_goes_with_synthetic_images():
    recipe = make_arm("deferred re-weighting+synthetic").recipe(
        labelled(COUNTS), labelled((0, 30, 0), 1), [1]
    )
    assert problems(recipe, 51, 30, 3, (4, 3, 2)) == []
    assert recipe.late.begins == 0.8


OWN = """
from dataclasses import replace
import numpy as np
from ganaug.arms import make_arm

def twice_the_rare(train, synthetic, wanted):
    recipe = make_arm("real").recipe(train)
    draws = np.where(np.isin(recipe.class_ids, wanted), 2.0, 1.0)
    return replace(recipe, draw_probability=draws / draws.sum())

def taking_synthetic(train, synthetic, wanted):
    return make_arm("oversampling+synthetic").recipe(train, synthetic, wanted)

def broken(train, synthetic, wanted):
    raise KeyError("column")

def nothing(train, synthetic, wanted):
    return None

def crooked(train, synthetic, wanted):
    recipe = make_arm("real").recipe(train)
    return replace(recipe, draw_probability=recipe.draw_probability * 2, loss_weights=np.ones(1, np.float32))

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_arms.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "own_arms.py"
    sys.modules.pop("own_arms", None)


def test_an_own_arm_is_a_function_that_gives_a_recipe(own):
    [arm] = find_arms(["own_arms:twice_the_rare"])
    recipe = arm.recipe(labelled(COUNTS), None, [1])
    assert recipe.draw_probability[recipe.class_ids == 1].sum() == pytest.approx(20 / 61)
    taking = make_arm("own_arms:taking_synthetic").recipe(labelled(COUNTS), labelled((0, 9, 0), 1), [1])
    assert taking.has_synthetic(51)
    assert not recipe.has_synthetic(51)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_package.arms:mine", "PYTHONPATH"),
        ("own_arms:no_such_function", "check the function's name"),
        ("own_arms:number", "is a int, not a function"),
        ("own_arms:broken", "failed: KeyError: 'column'"),
        ("own_arms:nothing", "gave a NoneType"),
        ("own_arms:crooked", "loss_weights must be 3 finite numbers"),
    ],
)
def test_what_is_wrong_with_an_own_arm_is_said(own, name, words):
    with pytest.raises(SettingsError, match=re.escape(words)):
        make_arm(name).recipe(labelled(COUNTS), None, [1])


def test_an_own_arm_that_cannot_be_imported_is_refused_when_the_run_is_opened(tmp_path):
    config = load(None, {"evaluate.arms": ["real", "no_such_package:mine"], "run_dir": str(tmp_path / "run")})
    with pytest.raises(SettingsError, match="PYTHONPATH"):
        open_run(config)
    assert not (tmp_path / "run").exists()


def test_a_changed_own_arm_has_another_digest_and_makes_evaluate_stale(own, tmp_path):
    run = RunFolder(tmp_path, load(None, {"evaluate.arms": ["real", "own_arms:nothing"]}), "")
    assert STEPS["evaluate"].more(RunFolder(tmp_path, load(None), ""), "") is None
    before = code_digest("own_arms:nothing"), STEPS["evaluate"].more(run, "")
    own.write_text(OWN + "\n")
    assert code_digest("own_arms:nothing") != before[0]
    assert STEPS["evaluate"].more(run, "") != before[1]


def test_what_more_a_step_depends_on_is_part_of_its_key(tmp_path):
    def key(more):
        return _key(RunFolder(tmp_path, load(None), ""), replace(STEPS["evaluate"], more=more), "", {})

    assert key(lambda run, part: {"a": "1"}) != key(lambda run, part: {"a": "2"})
    assert key(lambda run, part: {"a": "1"}) != key(lambda run, part: None)


def test_the_readme_s_own_arm_is_one(tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    snippet = next(part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def mine" in part)
    (tmp_path / "readme_arm.py").write_text(snippet)
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = make_arm("readme_arm:mine").recipe(labelled(COUNTS), None, [1])
    assert recipe.label_smoothing == 0
    sys.modules.pop("readme_arm")


def test_the_readme_lists_every_part():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| part |") : text.index("An arm of your own")]
    for name in PARTS:
        assert f"`{name}`" in table or name.split()[0] in {"light", "medium"}, name


SOUND = Recipe(
    np.zeros((2, 4, 3, 2), np.uint8),
    np.array([0, 1]),
    np.array([0, 1]),
    np.full(2, 0.5),
    np.zeros(2, bool),
    np.ones(2, np.float32),
    np.zeros(2, np.float32),
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": np.zeros((0, 4, 3, 2), np.uint8)}, "0 images"),
        ({"images": np.zeros((2, 4, 3, 2))}, "uint8 of (4, 3, 2) are needed"),
        ({"images": np.zeros((2, 5, 3, 2), np.uint8)}, "uint8 of (4, 3, 2) are needed"),
        ({"class_ids": np.array([0, 2])}, "class_ids must lie in 0 to 1"),
        ({"class_ids": np.array([0])}, "class_ids has shape (1,)"),
        ({"source": np.array([0, 9])}, "source must lie in -1 to 2"),
        ({"draw_probability": np.array([1.5, -0.5])}, "sum to 1"),
        ({"draw_probability": np.array([0.4, 0.4])}, "sum to 1"),
        ({"logit_offsets": np.array([0, np.nan], np.float32)}, "logit_offsets must be 2 finite"),
        ({"late": Late(1.5, np.full(2, 0.5), np.ones(2, np.float32))}, "late.begins"),
        ({"late": Late(0.5, np.full(3, 1 / 3), np.ones(2, np.float32))}, "sum to 1"),
    ],
)
def test_a_recipe_that_no_trainer_can_follow_is_refused_in_words(changes, words):
    assert problems(SOUND, 2, 1, 2, (4, 3, 2)) == []
    found = problems(replace(SOUND, **changes), 2, 1, 2, (4, 3, 2))
    assert len(found) == 1
    assert words in found[0]


def test_every_arm_that_is_listed_is_made_of_its_name():
    assert list(ARMS) == [arm.name for arm in find_arms(list(ARMS))]
