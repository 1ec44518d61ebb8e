"""Tuning: inside the training split alone, every candidate competes, zero too, and the best is used."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ganaug.arms import find_arms
from ganaug.config import EvaluateConfig
from ganaug.dataset import LabelledImages
from ganaug.training import tuning
from ganaug.training.arena import run_arena
from ganaug.training.contest import Ground
from ganaug.training.outcomes import Outcome
from ganaug.training.tuning import FOLDS, NOTHING, SEEDS, Tuned, asked_of, tune

BEST, OURS = "oversampling+albumentations", "oversampling+albumentations+synthetic"
ARMS = (BEST, OURS, f"{OURS} first")
BEGIN = Tuned("strong", 0.25)


def blobs(counts, seed, groups=None):
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(len(counts)), counts)
    images = (
        rng.integers(0, 60, (len(ids), 8, 8, 1), np.uint8) + (ids * 60).astype(np.uint8)[:, None, None, None]
    )
    index = pd.DataFrame({"class_id": ids})
    if groups is not None:
        index["group"] = groups
    return LabelledImages(images, index, ("a", "b", "c"))


def ground(folder, synthetic=(0, 0, 9), **settings):
    config = EvaluateConfig(budget="standard", steps=2, **settings)
    return Ground(blobs([20, 20, 6], 0), blobs(synthetic, 1), blobs([8, 8, 8], 2), (2,), config, folder)


@pytest.fixture
def planted(monkeypatch):
    """Scores that are planted instead of trained; what was looked at is remembered."""
    seen = {"grounds": [], "entries": []}
    gains = {}

    def outcome(labels, gain):
        n_right = round(len(labels) * (0.5 + gain))
        guess = np.where(np.arange(len(labels)) < n_right, labels, (labels + 1) % 3)
        return Outcome(np.eye(3, dtype=np.float32)[guess], 0.0, np.zeros(3, np.float32))

    def measured(grounds, entries, n_seeds, progress, *, keep_for_thresholds):
        seen["grounds"] += grounds
        seen["entries"].append([(entry.arm.name, entry.share, entry.strength) for entry in entries])
        progress(1, 1)
        # A gain may differ by seed.
        of = {entry.arm.name: np.broadcast_to(gains.get(entry.arm.name, 0.0), SEEDS) for entry in entries}
        return [
            {
                name: [outcome(ground.test.class_ids, own[seed]) for seed in range(n_seeds)]
                for name, own in of.items()
            }
            for ground in grounds
        ]

    monkeypatch.setattr(tuning, "measure", measured)
    return gains, seen


def chosen(where, names=ARMS):
    told = []
    arms = find_arms(names)
    found = tune(where, asked_of(where, arms, BEGIN), BEGIN, lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]
    return found


def test_the_best_strength_share_and_use_are_chosen(planted, tmp_path):
    gains, seen = planted
    gains |= {"oversampling+medium albumentations": 0.2, f"{OURS} at 0.1": 0.3}
    found = chosen(ground(tmp_path))
    assert (found.strength, found.share, found.arm) == ("medium", 0.1, OURS)
    assert found.note.endswith(f"albumentations 'medium', and {OURS!r} at a share of 0.1.")
    # What is chosen first is used when the second is.
    assert {strength for _, _, strength in seen["entries"][-1]} == {"medium"}
    names = [name for name, _, _ in seen["entries"][2]]
    assert names == [NOTHING, f"{OURS} at 0.1", f"{OURS} at 0.25", f"{OURS} at 0.5", f"{OURS} first"]
    tree = json.loads((tmp_path / "tuning.json").read_text())
    assert (tree["strength"], tree["synthetic_share"], tree["synthetic_arm"]) == ("medium", 0.1, OURS)


def test_the_worse_half_is_stopped_after_the_first_seed_and_cannot_win(planted, tmp_path):
    gains, seen = planted
    gains |= {
        NOTHING: (-0.4, -0.4),
        f"{OURS} at 0.1": (0.2, -0.4),
        f"{OURS} at 0.25": (0.2, -0.3),
        f"{OURS} at 0.5": (0.3, -0.3),
        f"{OURS} first": (0.1, 0.5),
    }
    found = chosen(ground(tmp_path, augment="strong"))
    assert (found.share, found.arm) == (0.5, OURS)
    going_on = [name for name, _, _ in seen["entries"][1]]
    # The worst of all is what the others are told beside.
    assert going_on == [NOTHING, f"{OURS} at 0.1", f"{OURS} at 0.25", f"{OURS} at 0.5"]
    table = pd.read_parquet(tmp_path / "tuning.parquet")
    assert table.groupby("candidate")["seed"].nunique().to_dict() == dict.fromkeys(going_on, 2) | {
        f"{OURS} first": 1
    }
    # The mean of its one seed is the highest of all.
    assert max(found.scores["synthetic"], key=found.scores["synthetic"].get) == f"{OURS} first"


def test_nobody_is_asked_to_train_on_synthetic_images_alone(tmp_path):
    arms = find_arms((BEST, f"{BEST}+synthetic only"))
    assert asked_of(ground(tmp_path), arms, BEGIN).uses == []


ON_BEST = ("real", BEST, "logit adjustment", OURS, "best baseline", "best baseline+synthetic first")


def test_uses_of_synthetic_images_are_tried_on_the_baseline_that_the_folds_choose(planted, tmp_path):
    gains, seen = planted
    gains |= {"logit adjustment": 0.2, "logit adjustment+synthetic first": 0.3, NOTHING: 0.2}
    found = chosen(ground(tmp_path, augment="strong"), names=ON_BEST)
    assert (found.baseline, found.arm) == ("logit adjustment", "logit adjustment+synthetic first")
    assert "'logit adjustment' as the best baseline, and 'logit adjustment+synthetic first'." in found.note
    assert [name for name, _, _ in seen["entries"][0]] == ["real", BEST, "logit adjustment"]
    assert [name for name, _, _ in seen["entries"][-1]] == [NOTHING, "logit adjustment+synthetic first"]
    tree = json.loads((tmp_path / "tuning.json").read_text())
    assert (tree["baseline"], tree["synthetic_arm"]) == (found.baseline, found.arm)


def test_of_many_candidates_two_thirds_are_stopped_after_the_first_fold_and_again(planted, tmp_path):
    gains, seen = planted
    plain = ("real", "smote", "oversampling", "oversampling+mixup", "oversampling+cutmix", "class weights")
    more = ("logit adjustment", "deferred re-weighting", BEST, "best baseline+synthetic")
    gains |= {"smote": 0.1, "class weights": 0.15, "logit adjustment": 0.2, BEST: -0.2}
    found = chosen(ground(tmp_path, augment="strong"), names=(*plain, *more))
    assert found.baseline == "logit adjustment"
    rounds = [[name for name, _, _ in entries] for entries in seen["entries"][:3]]
    assert rounds[0] == [*plain, *more[:3]]
    # The usual way goes on, worst though it is.
    assert rounds[1:] == [
        ["smote", "class weights", "logit adjustment", BEST],
        ["class weights", "logit adjustment", BEST],
    ]
    table = pd.read_parquet(tmp_path / "tuning.parquet").query("what == 'baseline'")
    counts = table.groupby("candidate").size()
    assert counts.to_dict() == dict.fromkeys((*plain, *more[:3]), 1) | {"smote": 3} | dict.fromkeys(
        rounds[2], 6
    )
    assert not table.duplicated(["candidate", "fold", "seed"]).any()


@pytest.mark.parametrize(
    ("names", "gain", "baseline"),
    [
        (ON_BEST, (0.2, 0.2), "logit adjustment"),
        (
            ON_BEST,
            (0.3, -0.1),
            BEST,
        ),  # the seeds disagree, so that two standard errors are more than the gain
        (ON_BEST, (-0.2, -0.2), BEST),
        (("real", "logit adjustment", "best baseline+synthetic"), (0.3, -0.1), "logit adjustment"),
    ],
)
def test_the_usual_way_is_the_baseline_unless_another_is_better_beyond_chance(
    planted, tmp_path, names, gain, baseline
):
    gains, seen = planted
    gains |= {"logit adjustment": gain}
    assert chosen(ground(tmp_path, augment="strong"), names=names).baseline == baseline
    # It is trained with every seed, so that the others can be told beside it.
    assert BEST not in names or BEST in [name for name, _, _ in seen["entries"][1]]


def test_no_synthetic_images_at_all_compete_and_win_ties(planted, tmp_path):
    found = chosen(ground(tmp_path))
    assert found.arm == ""
    assert found.note.endswith(f"and {NOTHING}.")


def test_the_note_names_a_share_only_of_an_arm_that_mixes():
    scores = {"synthetic": {}}
    assert Tuned("strong", 0.25, f"{OURS} first", scores).note.endswith("first'.")
    assert Tuned("strong", 0.25, OURS, scores).note.endswith("at a share of 0.25.")


def test_the_locked_test_split_is_not_looked_at(planted, tmp_path):
    _, seen = planted
    where = ground(tmp_path)
    chosen(where)
    known = {image.tobytes() for image in where.train.images}
    for one in seen["grounds"]:
        own = {image.tobytes() for image in one.train.images}
        held = {image.tobytes() for image in one.test.images}
        assert own | held == known
        assert not own & held


def test_held_out_images_count_as_often_as_their_class_will_occur(monkeypatch, tmp_path):
    ours = f"{OURS} first"

    def outcome(name, labels):
        # With synthetic images each rare image is named, and a third of one common class is taken for them.
        guesses = np.where(labels == 2, 0, labels)
        if name == ours:
            guesses = labels.copy()
            guesses[np.flatnonzero(labels == 0)[::3]] = 2
        return Outcome(np.eye(3, dtype=np.float32)[guesses], 0.0, np.zeros(3, np.float32))

    def measured(grounds, entries, n_seeds, progress, *, keep_for_thresholds):
        progress(1, 1)
        names = [entry.arm.name for entry in entries]
        return [{name: [outcome(name, one.test.class_ids)] * n_seeds for name in names} for one in grounds]

    monkeypatch.setattr(tuning, "measure", measured)
    where = replace(ground(tmp_path, augment="strong"), train=blobs([200, 200, 6], 0))
    assert chosen(replace(where, test=blobs([100, 100, 3], 2)), (BEST, ours)).arm == ""
    assert chosen(replace(where, test=blobs([100, 100, 100], 2)), (BEST, ours)).arm == ours


def test_synthetic_images_like_a_held_out_one_are_not_trained_on(planted, tmp_path):
    """Otherwise a copy of the validation images in the training set would be taken for a gain."""
    _, seen = planted
    where = ground(tmp_path)
    copies = where.train.take(np.flatnonzero(where.train.class_ids == 2))
    chosen(replace(where, synthetic=copies))
    for one in seen["grounds"]:
        held = {image.tobytes() for image in one.test.images}
        made = {image.tobytes() for image in one.synthetic.images}
        assert not held & made
        assert made == {image.tobytes() for image in one.train.images[one.train.class_ids == 2]}


@pytest.mark.parametrize(
    ("settings", "strengths", "uses"),
    [
        ({}, 3, 5),
        ({"augment": "light"}, 0, 5),
        ({"synthetic_share": 0.4}, 3, 3),
        ({"synthetic": (0, 0, 0)}, 3, 0),
    ],
)
def test_what_the_settings_name_is_not_tuned(tmp_path, settings, strengths, uses):
    asked = asked_of(ground(tmp_path, **settings), find_arms(ARMS), BEGIN)
    assert (len(asked.strengths), len(asked.uses)) == (strengths, uses)


def test_a_use_without_augmentation_is_a_candidate_only_where_none_has_it(tmp_path):
    where, plain = ground(tmp_path), find_arms(["real", "synthetic first"])
    assert len(asked_of(where, [*find_arms(ARMS), *plain], BEGIN).uses) == 5
    assert [name for _, _, name in asked_of(where, plain, BEGIN).uses] == ["", "synthetic first"]


def test_the_quick_budget_tunes_nothing(tmp_path):
    where = ground(tmp_path)
    quick = Ground(where.train, where.synthetic, where.test, (2,), EvaluateConfig(), tmp_path)
    assert asked_of(quick, find_arms(ARMS), BEGIN).fits == 0


def test_the_arena_uses_what_was_chosen_and_goes_on_where_it_was(tmp_path):
    where = ground(tmp_path, arms=ARMS, seeds=2, workers=2)
    told = []

    def arena():
        return run_arena(
            where.train,
            where.synthetic,
            where.test,
            [2],
            where.config,
            tmp_path,
            progress=lambda done, total: told.append((done, total)),
        )

    found = arena()
    tree = json.loads((tmp_path / "tuning.json").read_text())
    assert any("validation folds" in note for note in found.verdict.notes)
    if tree["synthetic_arm"]:
        assert found.verdict.after == tree["synthetic_arm"]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (told[0][1], told[0][1])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("**/fits/*.npz")}
    # Every classifier moves it.
    assert len({done for done, _ in told}) >= len(before)
    table = pd.read_parquet(tmp_path / "tuning.parquet")
    uses = table[(table["what"] == "synthetic") & (table["candidate"] != NOTHING)]
    # No synthetic images is the chosen strength, which was trained before.
    assert len(before) == FOLDS * (3 + 2) + len(uses) + 3 * 2
    arena()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("**/fits/*.npz")} == before


def test_thresholds_can_be_moved_with_shares_that_are_tuned(tmp_path):
    """Candidates have names of their own, which are no arm's."""
    arms = (BEST, f"{OURS}+thresholds on folds", f"{BEST}+thresholds on synthetic")
    where = ground(tmp_path, arms=arms, seeds=2, workers=2, augment="strong")
    found = run_arena(where.train, where.synthetic, where.test, [2], where.config, tmp_path)
    assert set(found.scores["arm"]) == set(arms)
    table = pd.read_parquet(tmp_path / "tuning.parquet")
    assert {f"{arms[1]} at {share:g}" for share in tuning.SHARES} < set(table["candidate"])
    # What chooses thresholds on synthetic images trains nothing that doing without has not trained.
    plain = {path.name for path in tmp_path.glob("tuning/fold-*/fits/oversample-strong-seed*")}
    assert len(plain) == FOLDS * SEEDS
