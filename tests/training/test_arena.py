"""The arena: the same scores whatever happens on the way, and clear ends when it goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ganaug.arms import make_arm
from ganaug.best_baseline import on_baseline
from ganaug.config import EvaluateConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, SettingsError, TrainingError
from ganaug.pooled import SplitResult
from ganaug.thresholds import move
from ganaug.training import contest
from ganaug.training.arena import run_arena
from ganaug.training.contest import Entry, Ground
from ganaug.training.outcomes import FOLDS, measure
from ganaug.training.tuning import Tuned

CHEAP, OURS = "oversampling+albumentations", "oversampling+albumentations+synthetic"
QUICK = EvaluateConfig(arms=("real", CHEAP, OURS), seeds=2, steps=6, workers=2)


def blobs(counts, seed):
    rng = np.random.default_rng(seed)
    class_ids = np.repeat(np.arange(len(counts)), counts)
    images = (
        rng.integers(0, 60, (len(class_ids), 8, 8, 1), np.uint8)
        + (class_ids * 60).astype(np.uint8)[:, None, None, None]
    )
    return LabelledImages(images, pd.DataFrame({"class_id": class_ids}), ("a", "b", "c"))


def arena(folder, config=QUICK, synthetic=(0, 0, 10), **settings):
    return run_arena(
        blobs([20, 20, 5], 0), blobs(synthetic, 1), blobs([8, 8, 8], 2), [2], config, folder, **settings
    )


def modified(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "fits").iterdir()}


def test_the_arena_leaves_scores_predictions_and_a_verdict(tmp_path):
    told = []
    found = arena(tmp_path, progress=lambda done, total: told.append((done, total)))
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(scores.columns) == [
        *("split", "arm", "seed", "macro_f1", "balanced_accuracy", "rare_recall", "rare_average_precision"),
        *("rare_precision", "calibration_error", "head_recall", "middle_recall", "tail_recall"),
        *("matched_rare_recall", "seconds"),
    ]
    assert len(scores) == 3 * 2
    per_class = pd.read_parquet(tmp_path / "per_class.parquet")
    assert len(per_class) == 3 * 2 * 3
    assert set(per_class["test_images"]) == {8}
    confused = pd.read_parquet(tmp_path / "confusion.parquet")
    assert confused.groupby(["arm", "seed"])["images"].sum().tolist() == [24] * 6
    right = confused[confused["class_name"] == confused["called"]].groupby("arm")["images"].sum()
    expected = (per_class["recall"] * per_class["test_images"]).groupby(per_class["arm"]).sum()
    assert right.to_dict() == pytest.approx(expected[expected > 0].to_dict())
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as stored:
        assert stored["probability"].shape == (3, 2, 24, 3)
        assert np.allclose(stored["probability"].astype(float).sum(3), 1, atol=0.01)
        assert stored["labels"].tolist() == [0] * 8 + [1] * 8 + [2] * 8
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["sentence"] == found.verdict.sentence
    assert verdict["after"] == OURS
    assert told[-1] == (3 * 2 * 6 * 64, 3 * 2 * 6 * 64)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


ON_FOLDS, ON_SYNTHETIC = f"{CHEAP}+thresholds on folds", f"{CHEAP}+thresholds on synthetic"


def test_arms_with_moved_thresholds_share_the_classifiers_of_the_arm_without(tmp_path):
    told = []
    config = QUICK.model_copy(update={"arms": (CHEAP, ON_FOLDS, ON_SYNTHETIC), "steps": 40})
    found = arena(tmp_path, config, progress=lambda done, total: told.append((done, total)))
    assert len(modified(tmp_path)) == 2  # two seeds, once
    folds = list((tmp_path / "thresholds").glob("fold-*/fits/*.npz"))
    assert len(folds) == 5
    assert told[-1][0] == told[-1][1]
    # Every classifier moves it: two seeds and five folds.
    assert len({done for done, _ in told}) >= 2 + 5
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as stored:
        of = dict(zip(stored["arms"].tolist(), stored["probability"].astype(float), strict=True))
        labels = stored["labels"]
    # Moving adds one number to the logits of the rare class, so that images stay in their order.
    for name in (ON_FOLDS, ON_SYNTHETIC):
        for before, after in zip(of[CHEAP], of[name], strict=True):
            change = np.log(np.maximum(after, 1e-3) / np.maximum(before, 1e-3))
            gap = change[:, 2] - change[:, 0]
            sure = (np.minimum(before, after) > 0.02).all(1)
            assert np.ptp(gap[sure]) < 0.1
            assert (gap[sure] > -0.1).all()
    assert (of[ON_FOLDS] != of[CHEAP]).any()
    assert of[ON_FOLDS][:, labels == 2, 2].mean() >= of[CHEAP][:, labels == 2, 2].mean()
    scores = found.scores.set_index(["arm", "seed"])["seconds"]
    assert scores[ON_FOLDS, 0] > scores[CHEAP, 0] == scores[ON_SYNTHETIC, 0]
    assert found.verdict.after == ON_SYNTHETIC
    before = modified(tmp_path)
    arena(tmp_path, config)
    assert modified(tmp_path) == before


ON_BEST = ("real", "oversampling", CHEAP, OURS, "best baseline", "best baseline+synthetic")


def on_baseline_of(name, folder, monkeypatch, **settings):
    """The arena after a tuning that has chosen this baseline."""
    use = on_baseline(make_arm("best baseline+synthetic"), name).name
    tuned = Tuned("strong", 0.25, use, name, {"baseline": {}})
    monkeypatch.setattr("ganaug.training.arena.tune", lambda *asked: tuned)
    config = QUICK.model_copy(update={"arms": ON_BEST, "budget": "standard"})
    return arena(folder, config, **settings)


def test_one_split_names_its_best_baseline_and_trains_nothing_twice(tmp_path, monkeypatch):
    found = on_baseline_of("oversampling", tmp_path / "other", monkeypatch)
    names = ["real", "oversampling", CHEAP, OURS, "oversampling+synthetic"]
    assert list(dict.fromkeys(found.scores["arm"])) == names
    assert found.verdict.after == "oversampling+synthetic"
    assert len(modified(tmp_path / "other")) == 5 * 2
    usual = on_baseline_of(CHEAP, tmp_path / "usual", monkeypatch)
    assert list(dict.fromkeys(usual.scores["arm"])) == names[:-1]
    assert usual.verdict.after == OURS
    recipe = json.loads((tmp_path / "usual" / "recipe" / "recipe.json").read_text())
    assert "best baseline" not in recipe["arm"]


def test_splits_that_choose_different_baselines_are_compared_by_what_was_asked_for(tmp_path, monkeypatch):
    on_baseline_of("real", tmp_path / "1", monkeypatch)
    index = blobs([8, 8, 8], 2).index.assign(path=[f"{row}.png" for row in range(24)])
    other = SplitResult.load(tmp_path / "1", index)
    assert list(other.probability) == list(ON_BEST)
    assert np.array_equal(other.probability["best baseline"], other.probability["real"])
    # `synthetic` is `real` with synthetic images.
    assert not np.array_equal(other.probability["best baseline+synthetic"], other.probability["real"])
    assert set(other.scores["arm"]) == set(other.per_class["arm"]) == set(ON_BEST)

    found = on_baseline_of("oversampling", tmp_path / "0", monkeypatch, others=[other])
    assert found.scores.groupby("split")["arm"].unique().map(list).tolist() == [list(ON_BEST)] * 2
    assert {found.verdict.before, found.verdict.after} <= set(ON_BEST)
    assert len(modified(tmp_path / "0")) == 5 * 2
    with np.load(tmp_path / "0" / "predictions.npz") as stored:
        assert found.verdict.after in stored["arms"].tolist()
    recipe = json.loads((tmp_path / "0" / "recipe" / "recipe.json").read_text())
    assert "best baseline" not in recipe["arm"]


def test_thresholds_are_chosen_on_the_calibration_images_and_these_are_not_trained_on(tmp_path):
    train, made, test = blobs([20, 20, 5], 0), blobs([0, 0, 10], 1), blobs([8, 8, 8], 2)
    # Images between two classes: half of the rare class's are called by another name.
    unsure = replace(made, images=made.images - np.uint8(28))
    chosen = {}
    for name, calibration in (("sure", made), ("unsure", unsure)):
        config = QUICK.model_copy(update={"steps": 80})
        ground = Ground(train, made, test, (2,), config, tmp_path / name, calibration=calibration)
        [found] = measure([ground], [Entry(make_arm(ON_SYNTHETIC), 0.25, "strong")], 2)
        chosen[name] = [float(one.offsets[2]) for one in found[ON_SYNTHETIC]]
        [plain] = measure([ground], [Entry(make_arm(CHEAP), 0.25, "strong")], 2)
        for moved, one in zip(found[ON_SYNTHETIC], plain[CHEAP], strict=True):
            assert np.allclose(move(one.probability, moved.offsets), moved.probability, atol=1e-5)
    assert all(more > less for less, more in zip(chosen["sure"], chosen["unsure"], strict=True))


def test_the_classifiers_of_all_arms_and_folds_train_side_by_side(tmp_path, monkeypatch):
    plain, asked = contest.train_fits, []

    def seen(fits, *more):
        asked.append({one.data for one in fits})
        plain(fits, *more)

    monkeypatch.setattr(contest, "train_fits", seen)
    arena(tmp_path, QUICK.model_copy(update={"arms": (CHEAP, ON_FOLDS), "steps": 4}), synthetic=(0, 0, 0))
    assert [len(one) for one in asked] == [1 + FOLDS]
    assert not list(tmp_path.rglob("data-*"))


def test_what_thresholds_were_moved_by_leaves_with_the_winner(tmp_path):
    config = QUICK.model_copy(update={"arms": (ON_FOLDS, OURS), "steps": 80})
    arena(tmp_path, config, synthetic=(0, 0, 0))
    offsets = json.loads((tmp_path / "recipe" / "recipe.json").read_text())["decision_offsets"]
    assert offsets[:2] == [0, 0]
    assert offsets[2] > 0
    assert "def decide" in (tmp_path / "recipe" / "README.md").read_text()


def test_the_number_of_workers_does_not_change_a_score(tmp_path):
    config = QUICK.model_copy(update={"arms": (CHEAP,)})
    one = arena(tmp_path / "one", config.model_copy(update={"workers": 1}))
    two = arena(tmp_path / "two", config)
    pd.testing.assert_frame_equal(one.scores.drop(columns="seconds"), two.scores.drop(columns="seconds"))


def test_what_is_trained_is_not_trained_again_unless_the_data_changed(tmp_path):
    arena(tmp_path, QUICK.model_copy(update={"arms": (CHEAP, OURS)}))
    before = modified(tmp_path)
    arena(tmp_path)
    after = modified(tmp_path)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 2
    arena(tmp_path, synthetic=(0, 0, 11))
    assert len(modified(tmp_path)) == len(after) + 2  # only the arm that sees synthetic images


def test_without_synthetic_images_their_arm_is_left_out(tmp_path):
    found = arena(tmp_path, synthetic=(0, 0, 0))
    assert set(found.scores["arm"]) == {"real", CHEAP}
    assert found.verdict.verdict == "cannot tell"
    assert "no synthetic images were kept" in found.verdict.sentence


OWN = """
from ganaug.arms import make_arm

def mine(train, synthetic, wanted):
    return make_arm("oversampling+synthetic").recipe(train, synthetic, wanted)

def mistaken(train, synthetic, wanted):
    raise KeyError("patient")
"""


def test_a_function_of_the_user_s_is_an_arm_and_trained_again_when_its_code_changes(tmp_path, monkeypatch):
    (tmp_path / "my_arms.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_arms", raising=False)
    config = QUICK.model_copy(update={"arms": ("real", "my_arms:mine")})
    found = arena(tmp_path / "run", config)
    assert found.verdict.after == "my_arms:mine"  # it takes synthetic images, so it is what is in question
    before = modified(tmp_path / "run")
    (tmp_path / "my_arms.py").write_text(OWN + "\n")
    arena(tmp_path / "run", config)
    assert len(modified(tmp_path / "run")) == len(before) + 2


def test_a_function_that_fails_is_refused_before_training(tmp_path, monkeypatch):
    (tmp_path / "my_arms.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_arms", raising=False)
    with pytest.raises(SettingsError, match="KeyError: 'patient'"):
        arena(tmp_path / "run", QUICK.model_copy(update={"arms": ("real", "my_arms:mistaken")}))
    assert not (tmp_path / "run").exists()


def test_an_arm_s_own_strength_and_the_settings_share_one_fit_s_file_name_only_when_alike(tmp_path):
    arena(tmp_path, QUICK.model_copy(update={"arms": (CHEAP,), "augment": "light"}))
    before = modified(tmp_path)
    arena(tmp_path, QUICK.model_copy(update={"arms": (CHEAP,), "augment": "light", "synthetic_share": 0.5}))
    assert modified(tmp_path) == before
    arena(tmp_path, QUICK.model_copy(update={"arms": (CHEAP,), "augment": "medium"}))
    assert len(modified(tmp_path)) == 4


@pytest.mark.parametrize("arms", [(OURS,), ("real", "magic")])
def test_arms_that_cannot_be_compared_are_refused_before_training(tmp_path, arms):
    with pytest.raises(SettingsError, match=r"evaluate\.arms"):
        arena(tmp_path, QUICK.model_copy(update={"arms": arms}))
    assert not (tmp_path / "fits").exists()


def test_an_empty_test_split_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no test images"):
        run_arena(blobs([5, 5, 5], 0), blobs([0, 0, 0], 1), blobs([0, 0, 0], 2), [2], QUICK, tmp_path)


def children(pid):
    """Process ids below this one, from /proc."""
    found, parents = [], {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(path.parent.name)] = int(fields[1])
    known = {pid}
    for _ in range(5):
        found = [child for child, parent in parents.items() if parent in known]
        known.update(found)
    return sorted(known - {pid})


def training(pid):
    """Those of them that train, which have much processor time or torch's threads: by their pipe."""
    return [child for child in children(pid) if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_a_killed_training_process_is_a_clear_error_and_the_next_call_goes_on(tmp_path):
    config = QUICK.model_copy(update={"arms": (CHEAP,), "steps": 4000, "workers": 1})

    def kill_it():
        server = None
        for _ in range(600):
            found = training(os.getpid())
            server = next((one for one in found if children(one)), server)
            trainers = children(server) if server else []
            if trainers:
                os.kill(trainers[0], signal.SIGKILL)
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_it)
    killer.start()
    with pytest.raises(TrainingError, match=r"was killed|ended with status"):
        arena(tmp_path, config)
    killer.join()
    assert arena(tmp_path).verdict.seeds == 2


_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import signal
import test_arena
from pathlib import Path

# Whoever starts the tests in the background has Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

if __name__ == "__main__":
    config = test_arena.QUICK.model_copy(update={{"steps": 100_000}})
    print("go", flush=True)
    test_arena.arena(Path({folder!r}), config)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_no_training_process_outlives_the_run(tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "run")))
    run = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    deadline = time.monotonic() + 120
    found = []
    while time.monotonic() < deadline and len(found) < 4:  # resource tracker, server, two fits
        found = children(run.pid)
        time.sleep(0.1)
    os.kill(run.pid, how)
    run.wait(30)
    run.stdout.close()
    assert len(found) >= 4
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in found):
        time.sleep(0.1)
    assert [pid for pid in found if Path(f"/proc/{pid}").exists()] == []
