"""A series of runs on data that grow: what is trained again, what is kept, and the lock that holds."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from safetensors.torch import load_file
from support.growing import SMALL, refresh_once, settings, write_digits, write_first

from ganaug import refresh, series, steps
from ganaug.errors import RunFolderError, SettingsError
from ganaug.steps import STEPS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder with images and a series of one run."""
    where = tmp_path_factory.mktemp("first")
    write_first(where / "images")
    with contextlib.chdir(where):
        refresh_once(settings())
    return where


@pytest.fixture
def where(first, tmp_path, monkeypatch):
    """A copy of it, where the test works; dates of files stay, as they are part of a fingerprint."""
    shutil.copytree(first, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture(scope="module")
def grown(first, tmp_path_factory):
    """The series after one of the rare classes got more images."""
    where = tmp_path_factory.mktemp("grown") / "here"
    shutil.copytree(first, where)
    write_digits(where / "images", 3, 15, 25)
    with contextlib.chdir(where):
        run = refresh_once(settings())
    return where, series.RunFolder.open(where / "series" / run.folder.name)


def decided(**more):
    """The decision on the data and settings as they are."""
    run = series.begin(settings(**more)).run
    for step in ("split", "plan"):
        steps.do(run, step)
    return steps.decide_refresh(run)


def test_where_nothing_changed_nothing_is_done(where):
    begun = series.begin(settings())
    assert begun.is_done
    assert "nothing changed since run 1" in begun.reason
    assert [path.name for path in (where / "series").glob("0*")] == ["0001"]


def test_files_with_other_dates_are_no_change_and_the_next_time_that_is_known(where):
    for path in (where / "images").glob("*/*.png"):
        os.utime(path, (1, 1))
    chosen = settings()
    begun = series.begin(chosen)
    assert not begun.is_done
    assert decided().kind == "nothing"
    assert series.drop_unchanged(chosen, begun.run).is_done
    assert not (where / "series" / "0002").exists()
    assert series.begin(chosen).is_done


def test_only_the_gan_of_the_class_that_changed_is_trained_on(grown):
    _, run = grown
    decision = refresh.load(run)
    assert (decision.kind, decision.warm, decision.kept) == ("changed", ("003-3",), ("base", "002-2"))
    assert decision.reason == "images of 1 of 4 classes changed: 3 (+10)"
    last = refresh.last_of(run)
    for part, is_same in (("base", True), ("002-2", True), ("003-3", False)):
        weights = [
            (folder / "train" / part / "generator.safetensors").read_bytes() for folder in (last, run.folder)
        ]
        assert (weights[0] == weights[1]) == is_same, part
    assert run.record("train", "base").summary["kept_from"] == "0001"


def test_training_goes_on_from_the_last_weights_of_the_class(grown):
    _, run = grown
    assert refresh.start_of(run, "003-3").resolve() == (run.folder.parent / "0001/train/003-3").resolve()
    last = run.folder.parent / "0001/train"
    now, class_, base = (
        load_file(folder / "players.safetensors")
        for folder in (run.path("train", "003-3"), last / "003-3", last / "base")
    )

    def distance(one, other):
        return sum(float(((one[name] - other[name]) ** 2).sum()) for name in one)

    # On some CPUs the class's own steps never score better than the base, whose weights it then keeps.
    assert distance(class_, base) == 0 or distance(now, class_) < distance(now, base) / 2


def test_what_was_tested_on_once_is_never_trained_on(grown):
    _, run = grown
    before, now = (
        pd.read_parquet(folder / "split" / "split.parquet") for folder in (refresh.last_of(run), run.folder)
    )
    tested = set(before.loc[before["split"] == "test", "sha256"])
    assert tested <= set(now.loc[now["split"] == "test", "sha256"])
    new = now[~now["sha256"].isin(before["sha256"])]
    assert new["split"].value_counts().to_dict() == {"train": 6, "test": 4}


def test_the_series_is_listed_with_why_and_what(grown):
    where, _ = grown
    one, two = series.history(where / "series")
    assert (one.number, one.kind, two.number, two.warm) == (1, "first", 2, ("003-3",))
    assert two.verdict in {"helps", "no difference", "cannot tell", "hurts"}


def test_a_later_step_s_settings_do_that_step_again_in_the_same_run(where):
    begun = series.begin(settings(report__samples="3"))
    assert begun.run.folder.name == "0001"
    assert "report of run 1 again" in begun.reason


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"train__steps": "61"}, "settings of training are others: steps 60 → 61"),
        ({"refresh__mode": "full", "split__seed": "1"}, "refresh.mode is full"),
    ],
)
def test_other_settings_of_training_train_everything_anew(where, more, why):
    decision = decided(**more)
    assert decision.kind == "full"
    assert why in decision.reason
    assert not decision.kept
    assert not decision.warm


def test_other_code_that_trains_trains_everything_anew(where):
    path = where / "series/0001/refresh/decision.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "code": "another"}))
    write_digits(where / "images", 3, 15, 16)
    assert "the code that trains is another" in decided().reason


def test_a_new_class_trains_everything_anew(where):
    write_digits(where / "images", 4, 0, 20)
    decision = decided()
    assert decision.kind == "full"
    assert "the classes are others (new: 4)" in decision.reason


def test_classes_that_drift_train_everything_anew(where):
    write_digits(where / "images", 3, 15, 120)
    decision = decided()
    assert decision.kind == "full"
    assert "the classes' shares have moved" in decision.reason
    assert decided(refresh__max_class_drift="5").kind == "full"  # it stands, once decided


def test_images_that_look_different_train_everything_anew_and_others_do_not(where):
    for digit in (0, 1):
        write_digits(where / "images", digit, 60, 100, darker=90)
    decision = decided()
    assert decision.kind == "full"
    assert "new images look different" in decision.reason


def test_more_of_the_same_does_not_look_different(where):
    for digit in (0, 1):
        write_digits(where / "images", digit, 60, 100)
    decision = decided()
    assert decision.kind == "changed"
    assert 0.3 < decision.feature_drift < 0.75
    # Common classes have no GAN of their own.
    assert decision.kept == ("base", "002-2", "003-3")


def test_a_class_that_is_asked_for_is_trained_on_without_any_change(where):
    chosen = settings()
    run = series.begin(chosen, ("2",)).run
    for step in ("split", "plan"):
        steps.do(run, step)
    decision = steps.decide_refresh(run)
    assert (decision.kind, decision.warm, decision.kept) == ("changed", ("002-2",), ("base", "003-3"))
    run = series.begin(chosen, ("0",)).run
    for step in ("split", "plan"):
        steps.do(run, step)
    with pytest.raises(SettingsError, match=r"have no GAN of their own; those that have: 2, 3"):
        steps.decide_refresh(run)


def test_a_kept_gan_that_is_damaged_is_not_taken_over(where):
    write_digits(where / "images", 3, 15, 25)
    decided()
    (where / "series/0001/train/002-2/generator.safetensors").write_bytes(b"damaged")
    run = series.begin(settings()).run
    with pytest.raises(RunFolderError, match=r"refresh\.mode full"):
        refresh.take_over(run, "002-2", where)


def test_data_that_change_while_a_run_was_stopped_begin_it_anew(where):
    write_digits(where / "images", 3, 15, 20)
    begun = series.begin(settings())
    steps.do(begun.run, "split")
    assert "which was stopped" in series.begin(settings()).reason
    write_digits(where / "images", 3, 20, 25)
    again = series.begin(settings())
    assert again.run.folder == begun.run.folder
    assert again.run.record("split") is None


def test_a_stopped_run_that_is_given_other_settings_of_training_keeps_nothing(where):
    write_digits(where / "images", 3, 15, 25)
    assert decided().kept == ("base", "002-2")
    assert decided().kept == ("base", "002-2")
    decision = decided(train__steps="61")
    assert (decision.kind, decision.kept) == ("full", ())


def test_a_single_run_is_no_series(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_first(tmp_path / "images")
    chosen = settings()
    steps.open_run(chosen)
    with pytest.raises(RunFolderError, match="a single run, not a series"):
        series.begin(chosen)


def test_runs_whose_turn_has_come_shrink_to_their_records(grown, tmp_path, monkeypatch):
    shutil.copytree(grown[0], tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    chosen = settings(refresh__keep_runs="1")
    last = series.RunFolder.open(tmp_path / "here/series/0002")
    found = {step: last.record(step).summary for step in ("evaluate", "publish")}
    series.end(last, chosen, found)
    kept = {path.name for path in (tmp_path / "here/series/0001").iterdir()}
    assert {"report", "outcome.json", "evaluate"} <= kept
    assert not {"train", "split", "produce", "export"} & kept


def _command(where, *words):
    options = [word for key, value in SMALL.items() for word in (f"--{key}", value)]
    options += ["--run-dir", "series", "--publish.store", "store", "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-m", "ganaug.cli", "refresh", "images", *options, *words],
        cwd=where,
        env={**os.environ, "PREFECT_HOME": str(where / "prefect"), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _weights(run):
    return {path.parent.name: path.read_bytes() for path in run.glob("train/*/generator.safetensors")}


def test_killed_in_the_training_the_same_command_goes_on_to_the_same_end(grown, where):
    write_digits(where / "images", 3, 15, 25)
    killed = _command(where)
    wanted = where / "series/0002/train/003-3.partial/checkpoint"
    deadline = time.monotonic() + 300
    while not wanted.exists() and not (where / "series/0002/train/003-3").exists():
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.005)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    again = _command(where)
    said, _ = again.communicate(timeout=500)
    assert again.returncode == 0, said
    assert "run 2 goes on, which was stopped" in said
    assert "trained on from their last weights: 003-3" in said
    assert _weights(where / "series/0002") == _weights(grown[1].folder)
    nothing = _command(where)
    said, _ = nothing.communicate(timeout=100)
    assert "nothing changed since run 2" in said
    listed = _command(where, "--list").communicate(timeout=100)[0]
    assert "images of 1 of 4 classes changed: 3 (+10)" in listed
    assert list((where / "series/0002").glob("*/step.json"))
    assert set(STEPS) <= {path.name for path in (where / "series/0002").iterdir()}
