import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ganaug
from ganaug.config import Config, PlanConfig, ScreenConfig, load
from ganaug.errors import MissingStepError, OutputError, RunFolderError
from ganaug.run import Job, RunFolder, Step, code_hash, is_current, perform

calls: list[str] = []


def _work(job: Job):
    calls.append(job.part)
    (job.out / "result.txt").write_text(f"min_images {job.run.config.plan.min_images}")
    return {"parts": 1}


FIRST = Step("plan", _work, ("ganaug.plan",), lambda run, part: (), ("plan",))
SECOND = Step("report", _work, ("ganaug.plan",), lambda run, part: ("plan",), ("report",))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    calls.clear()
    return RunFolder.create(tmp_path / "run", Config(), "dataset-a")


def test_a_step_that_is_done_is_not_done_again(run):
    assert not perform(run, FIRST).was_done
    assert perform(run, FIRST).was_done
    assert is_current(run, FIRST)
    assert calls == [""]


def test_other_settings_of_a_step_do_it_again_and_others_leave_it(run):
    perform(run, FIRST)
    changed = RunFolder.create(run.folder, Config(plan=PlanConfig(min_images=9)), "dataset-a")
    assert not perform(changed, FIRST).was_done
    other = RunFolder.create(run.folder, Config(plan=PlanConfig(min_images=9), device="cpu"), "dataset-a")
    assert perform(other, FIRST).was_done


def test_a_step_that_reads_one_field_of_a_section_is_left_when_another_changes(run):
    step = Step("train", lambda job: {}, ("ganaug.plan",), lambda run, part: (), ("screen.folds",))
    perform(run, step)
    for screen, was_done in ((ScreenConfig(quota=3.0), True), (ScreenConfig(folds=5), False)):
        changed = RunFolder.create(run.folder, Config(screen=screen), "dataset-a")
        assert perform(changed, step).was_done == was_done


def test_a_step_is_done_again_when_what_it_read_has_changed(run):
    perform(run, FIRST)
    perform(run, SECOND)
    changed = RunFolder.create(run.folder, Config(plan=PlanConfig(min_images=9)), "dataset-a")
    perform(changed, FIRST)
    assert not is_current(changed, SECOND)
    assert not perform(changed, SECOND).was_done


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_text("min_images 6")])
def test_a_step_whose_files_are_gone_or_changed_is_done_again(run, harm):
    outcome = perform(run, FIRST)
    harm(outcome.folder / "result.txt")
    assert not perform(run, FIRST).was_done
    assert (outcome.folder / "result.txt").read_text() == "min_images 5"


def test_a_step_before_its_time_says_what_to_run_first(run):
    with pytest.raises(MissingStepError, match="ganaug plan"):
        perform(run, SECOND)


def test_a_failed_step_leaves_the_earlier_result_and_its_own_partial_work(run):
    outcome = perform(run, FIRST)

    def fail(job):
        (job.out / "half.txt").write_text("half")
        raise ValueError("provoked")

    changed = RunFolder.create(run.folder, Config(plan=PlanConfig(min_images=9)), "dataset-a")
    with pytest.raises(ValueError, match="provoked"):
        perform(changed, Step("plan", fail, FIRST.code, FIRST.reads, FIRST.settings))
    assert (outcome.folder / "result.txt").read_text() == "min_images 5"
    seen = []

    def go_on(job):
        seen.extend(path.name for path in job.out.iterdir())
        return {}

    perform(changed, Step("plan", go_on, FIRST.code, FIRST.reads, FIRST.settings))
    assert "half.txt" in seen


def test_partial_work_of_other_settings_is_not_gone_on_from(run):
    partial = run.folder / "plan.partial"
    partial.mkdir()
    (partial / "key").write_text("of other settings")
    (partial / "stale.txt").write_text("stale")
    perform(run, FIRST)
    assert not (run.folder / "plan" / "stale.txt").exists()


def test_a_run_folder_of_another_dataset_is_refused(run):
    with pytest.raises(RunFolderError, match="another dataset"):
        RunFolder.create(run.folder, Config(), "dataset-b")


def test_a_run_folder_of_another_version_is_refused(run):
    identity = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**identity, "format": 99}))
    with pytest.raises(RunFolderError, match="format 99"):
        RunFolder.open(run.folder)


def test_a_folder_with_other_things_in_it_is_no_run_folder(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not overwrite")
    with pytest.raises(RunFolderError, match="not a run folder"):
        RunFolder.create(tmp_path, Config(), "dataset-a")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_a_clear_error(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OutputError, match="--run-dir"):
        RunFolder.create(tmp_path / "run", Config(), "dataset-a")


def test_a_second_process_in_the_same_run_is_refused(run):
    with run.locked():
        code = (
            "import sys; from pathlib import Path; from ganaug.run import RunFolder; "
            "\nwith RunFolder.open(Path(sys.argv[1])).locked(): pass"
        )
        second = subprocess.run([sys.executable, "-c", code, run.folder], capture_output=True, text=True)
    assert "another ganaug process" in second.stderr


def test_a_file_too_large_for_the_system_is_a_clear_error_and_nothing_is_lost(run):
    code = """
import resource, sys
from pathlib import Path
from ganaug.errors import OutputError
from ganaug.run import RunFolder, Step, perform
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
def work(job):
    (job.out / "big").write_bytes(bytes(1_000_000))
    return {}
try:
    perform(RunFolder.open(Path(sys.argv[1])), Step("plan", work, ("ganaug.plan",), lambda run, part: (), ()))
except OutputError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, run.folder], capture_output=True, text=True, check=True
    )
    assert "cannot write" in done.stdout
    assert not (run.folder / "plan").exists()


def test_a_killed_step_is_gone_on_with_and_never_half_there(run):
    code = """
import sys, time
from pathlib import Path
from ganaug.run import RunFolder, Step, perform
def work(job):
    (job.out / "half.txt").write_text("half")
    print("working", flush=True)
    time.sleep(60)
perform(RunFolder.open(Path(sys.argv[1])), Step("plan", work, ("ganaug.plan",), lambda run, part: (), ("plan",)))
"""
    child = subprocess.Popen([sys.executable, "-c", code, run.folder], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert run.record("plan") is None
    assert (run.folder / "plan.partial" / "half.txt").exists()
    perform(run, FIRST)
    assert (run.folder / "plan" / "result.txt").exists()
    assert not (run.folder / "plan.partial").exists()


def test_killed_between_the_two_renames_the_finished_work_is_found(run):
    outcome = perform(run, FIRST)
    outcome.folder.rename(run.folder / "plan.partial")
    calls.clear()
    perform(run, FIRST)
    assert calls == []
    assert (run.folder / "plan" / "result.txt").exists()


def test_the_code_hash_covers_what_a_module_imports():
    before = code_hash("ganaug.plan")
    assert before == code_hash("ganaug.plan")
    assert before != code_hash("ganaug.dataset")


def test_the_packages_face_and_what_notebooks_show_make_no_step_stale(tmp_path):
    shutil.copytree(
        Path(ganaug.__file__).parent, tmp_path / "ganaug", ignore=shutil.ignore_patterns("exported")
    )
    script = "from ganaug.run import code_hash; print(code_hash('ganaug.produce'))"

    def hash_after(*changed: str) -> str:
        for name in changed:
            with (tmp_path / "ganaug" / name).open("a") as file:
                file.write("# another word\n")
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    before = hash_after()
    assert hash_after("__init__.py", "notebook.py", "to_files.py") == before
    assert hash_after("generate.py") != before


def test_a_run_is_opened_with_the_very_settings_that_it_was_begun_with(tmp_path):
    # Also without a path of data and without cuts, as a deployment may ask for: nothing is filled in.
    for chosen in (Config(), load(None), load(None, {"split.keep": "{3: 7}"})):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        RunFolder.create(folder, chosen, "of the data")
        assert RunFolder.open(folder).config == chosen
