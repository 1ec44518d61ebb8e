"""A run that waits for somebody to look at its images, on a real Prefect server."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from support.growing import SMALL, refresh_once, settings, write_first
from support.prefect_server import running_server

from ganaug import review, steps
from ganaug.errors import ReviewError, SettingsError
from ganaug.run import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
REQUIRED = {"review__mode": "required"}
LATER = ("assemble", "evaluate", "publish", "report")


@pytest.fixture(scope="module")
def screened(tmp_path_factory):
    """A finished run whose images nobody has looked at."""
    where = tmp_path_factory.mktemp("screened")
    write_first(where / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        refresh_once(settings())
    return where


@pytest.fixture
def run(screened, tmp_path, monkeypatch):
    """A copy of it that has to wait."""
    shutil.copytree(screened, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    folder = tmp_path / "here" / "series" / "0001"
    opened = RunFolder.open(folder)
    return RunFolder(folder, settings(**REQUIRED).model_copy(update={"run_dir": folder}), opened.fingerprint)


def classes_of(run):
    kept = steps.load_synthetic(run)
    return {kept.class_names[k] for k in np.unique(kept.class_ids)}


def test_without_a_decision_nothing_goes_on_and_the_error_says_how(run):
    with pytest.raises(ReviewError, match="ganaug review"):
        steps.load_synthetic(run)


def test_approved_images_are_used_and_dropped_classes_are_not(run):
    review.decide(run, "approve")
    assert classes_of(run) == {"2", "3"}
    review.decide(run, "approve", drop=["3"], by="Ada", comment="smudges")
    assert classes_of(run) == {"2"}
    assert review.decision_of(run).sentence == "approved in review by Ada, without 3: smudges"


def test_rejected_images_are_not_used_and_not_published(run):
    review.decide(run, "reject", by="Ada")
    assert classes_of(run) == set()
    for step in LATER[:3]:
        summary = steps.do(run, step)[0].record.summary
    assert not summary["published"]
    assert "the images were rejected in review by Ada" in summary["reason"]


def test_a_decision_is_about_these_images_alone(run):
    review.decide(run, "approve")
    path = run.path("screen", "003-3") / "step.json"
    record = json.loads(path.read_text())
    next(iter(record["outputs"].values()))["sha256"] = "0" * 64
    path.write_text(json.dumps(record))
    assert review.decision_of(run) is None


def test_another_decision_makes_what_follows_stale(run):
    from ganaug.run import is_current

    review.decide(run, "approve")
    steps.do(run, "assemble")
    assert is_current(run, steps.STEPS["assemble"])
    review.decide(run, "approve", comment="on second thoughts")
    assert is_current(run, steps.STEPS["assemble"])
    review.decide(run, "approve", drop=["2"])
    assert not is_current(run, steps.STEPS["assemble"])


def test_a_class_without_images_cannot_be_dropped(run):
    with pytest.raises(SettingsError, match=r"\['0'\] have no synthetic images here; those that have: 2, 3"):
        review.decide(run, "approve", drop=["0"])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("prefect")) as server:
        yield server


def start(server, where, *words):
    options = [word for key, value in SMALL.items() for word in (f"--{key}", value)]
    options += [
        "--device",
        "cpu",
        "--publish.store",
        "store",
        "--run-dir",
        "run",
        "--review.mode",
        "required",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "ganaug.cli", "run", "images", *options, *words],
        cwd=where,
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_pause(server, where, process):
    deadline = time.monotonic() + 400
    while True:
        note = where / "run" / "review" / "waiting.json"
        if note.is_file():
            flow_run = json.loads(note.read_text())["flow_run"]
            if server.ask(f"flow_runs/{flow_run}", method="GET")["state_type"] == "PAUSED":
                return flow_run
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.3)


@pytest.mark.servers
def test_the_flow_waits_and_goes_on_when_the_page_or_the_command_answers(server, tmp_path):
    write_first(tmp_path / "images")
    process = start(server, tmp_path)
    flow_run = wait_for_pause(server, tmp_path, process)
    assert (tmp_path / "run" / "review" / "samples.png").stat().st_size > 1000
    assert not (tmp_path / "run" / "evaluate").exists()
    shown = server.ganaug(tmp_path, "review", "run")
    assert "nobody has decided" in shown
    assert "samples.png" in shown
    # What the page's form sends.
    server.ask(
        f"flow_runs/{flow_run}/resume",
        {"run_input": {"decision": "approve", "drop": ["3"], "by": "page", "comment": ""}},
    )
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    run = RunFolder.open(tmp_path / "run")
    assert review.decision_of(run).sentence == "approved in review by page, without 3"
    assert classes_of(run) == {"2"}
    # The same command with other images waits again; the other way of answering.
    process = start(server, tmp_path, "--produce.seed", "5")
    wait_for_pause(server, tmp_path, process)
    os.killpg(process.pid, 9)
    process.communicate()
    process = start(server, tmp_path, "--produce.seed", "5")
    wait_for_pause(server, tmp_path, process)
    told = server.ganaug(tmp_path, "review", "run", "--reject", "--by", "Ada")
    assert "rejected in review by Ada" in told
    assert "does not answer" not in told
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert "the images were rejected in review by Ada" in " ".join(said.split())


@pytest.mark.servers
def test_when_nobody_answers_the_settings_decide(server, tmp_path):
    write_first(tmp_path / "images")
    process = start(server, tmp_path, "--review.timeout-s", "3", "--review.on-timeout", "approve")
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert review.decision_of(RunFolder.open(tmp_path / "run")).sentence == "approved in review by timeout"
