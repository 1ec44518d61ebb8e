"""Two attempts at one part: a task that a cluster took for lost may still be writing."""

import threading
from pathlib import Path

import pytest

from ganaug import run as run_module
from ganaug.config import Config
from ganaug.errors import OutputError, RunFolderError
from ganaug.run import RunFolder, Step, perform
from pipeline.tasks import do_part


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", Config(), "0" * 64)


def step_of(work) -> Step:
    return Step("train", work, (), lambda run, part: (), ("train",))


def test_a_second_attempt_at_a_part_waits_and_finds_it_done(run):
    begun, gate, attempts = threading.Event(), threading.Event(), []

    def work(job):
        attempts.append(job.part)
        begun.set()
        assert gate.wait(60)
        (job.out / "weights").write_text("w")
        return {}

    outcomes = []
    both = [
        threading.Thread(target=lambda: outcomes.append(perform(run, step_of(work), "a", node="somewhere")))
        for _ in range(2)
    ]
    both[0].start()
    assert begun.wait(60)
    both[1].start()
    both[1].join(0.5)
    assert attempts == ["a"]
    gate.set()
    for attempt in both:
        attempt.join()
    assert attempts == ["a"]
    assert sorted(outcome.was_done for outcome in outcomes) == [False, True]
    assert {outcome.record.node for outcome in outcomes} == {"somewhere"}


def test_an_attempt_that_does_not_end_is_an_error_that_a_retry_may_mend(run, monkeypatch):
    monkeypatch.setattr(run_module, "PATIENCE_S", 0.2)
    heard = []

    def inner(job):
        with pytest.raises(OutputError, match="another process has been writing"):
            perform(run, step_of(lambda job: {}), "a")
        heard.append("refused")
        return {}

    perform(run, step_of(inner), "a")
    assert heard == ["refused"]


def test_other_parts_do_not_wait(run):
    def work(job):
        if job.part == "a":
            perform(run, step_of(work), "b")
        return {}

    perform(run, step_of(work), "a")
    assert run.record("train", "b") is not None


def test_a_machine_that_does_not_see_the_run_folder_says_so(tmp_path):
    with pytest.raises(RunFolderError, match="every machine that does tasks must see the run folder"):
        do_part("train", tmp_path / "elsewhere", "a")
