"""`ganaug run` as a user has it: one process, Prefect's embedded server, real training."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ganaug import steps
from ganaug.run import RunFolder
from ganaug.steps import STEPS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Small enough for seconds; what is made is poor, and that is not what these tests are about.
SMALL = {
    "train.steps": "120",
    "train.class-steps": "40",
    "train.checkpoint-every": "20",
    "plan.target": "60",
    "evaluate.seeds": "2",
    "evaluate.steps": "60",
    "evaluate.workers": "1",
    "screen.classifiers": "1",
    "screen.folds": "2",
    "screen.steps": "150",
    "split.near-duplicates": "false",
}
WORDS = [word for key, value in SMALL.items() for word in (f"--{key}", value)]


def start(where: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PREFECT_HOME": str(where / "prefect"), "COLUMNS": "160"}
    return subprocess.Popen(
        [sys.executable, "-m", "ganaug.cli", *words],
        cwd=where,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == code, output
    return output


def digests(run: Path) -> dict[str, str]:
    """Hash of everything that a step left, apart from what holds times of day."""
    found = {}
    for file in sorted(run.glob("**/step.json")):
        record = json.loads(file.read_text())
        for name, output in record["outputs"].items():
            # Each fit holds the seconds that it took; what was predicted is in predictions.npz.
            if Path(name).suffix in {".npy", ".onnx", ".safetensors", ".npz"} and "fits/" not in name:
                found[f"{file.parent.relative_to(run)}/{name}"] = output["sha256"]
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A folder in which `ganaug run` has ended, and what it printed."""
    where = tmp_path_factory.mktemp("job")
    return where, finish(start(where, "run", *WORDS))


def test_every_step_leaves_its_folder(finished):
    where, _ = finished
    for step in STEPS:
        assert list((where / "runs" / "digits" / step).glob("**/step.json")), step
    trained = RunFolder.open(where / "runs" / "digits").record("train", "classifiers")
    assert (trained.summary["classifiers"], trained.summary["folds"], trained.summary["steps"]) == (1, 2, 150)


def test_the_screen_shows_the_table_the_verdict_and_the_report(finished):
    where, output = finished
    for word in ("real", "deficit", "produced", "kept", "recall before", "recall after"):
        assert word in output
    verdict = json.loads((where / "runs/digits/evaluate/verdict.json").read_text())
    assert " ".join(verdict["sentence"].split()) in " ".join(output.split())
    assert (where / "runs/digits/report/report.html").is_file()


def test_the_training_set_is_balanced_and_every_origin_is_known(finished):
    where, _ = finished
    run = where / "runs" / "digits"
    origins = pd.read_parquet(run / "assemble" / "origins.parquet")
    table = pd.read_parquet(run / "assemble" / "train.parquet")
    assert len(origins) == len(table)
    plan = {row["class_name"]: row for row in json.loads((run / "plan/plan.json").read_text())["classes"]}
    for class_name, rows in origins.groupby("class_name"):
        assert (rows["origin"] == "real").sum() == plan[class_name]["real"]
        assert len(rows) <= max(plan[class_name]["target"], plan[class_name]["real"])
    synthetic = origins[origins["origin"] == "synthetic"]
    assert synthetic[["model_sha256", "seed", "index"]].notna().all(axis=None)


def test_thresholds_may_be_chosen_on_all_images_whose_label_is_right(finished, monkeypatch):
    monkeypatch.chdir(finished[0])
    run = RunFolder.open(Path("runs/digits"))
    found = steps._rightly_labelled(run, [3, 8])
    for plan in steps.load_plan(run).wanted:
        own = found.images[found.class_ids == plan.class_id]
        screened = pd.read_parquet(run.path("screen", plan.part) / "screened.parquet")
        kept = np.load(run.path("screen", plan.part) / "kept.npy")
        if plan.class_name == "5":
            assert not len(own)
            continue
        assert len(own) == (screened["reason"] != "wrong label").sum() > len(kept)
        known = {image.tobytes() for image in own}
        assert all(image.tobytes() in known for image in kept)


def test_test_images_are_in_no_training_set(finished):
    where, _ = finished
    run = where / "runs" / "digits"
    index = pd.read_parquet(run / "split" / "index.parquet")
    images = np.load(run / "split" / "images.npy")
    parts = {
        part: {image.tobytes() for image in images[index["split"] == part]} for part in ("train", "test")
    }
    assert parts["train"]
    assert parts["test"]
    assert not parts["train"] & parts["test"]


def test_the_same_command_again_does_nothing_again(finished):
    where, _ = finished
    before = digests(where / "runs" / "digits")
    output = finish(start(where, "run", *WORDS))
    assert output.count("done before") >= len(STEPS)
    assert " s\n" not in "".join(line for line in output.splitlines(keepends=True) if line.startswith("✓"))
    assert digests(where / "runs" / "digits") == before


def test_other_settings_do_only_what_depends_on_them_again(finished):
    where, _ = finished
    output = finish(start(where, "run", *WORDS, "--report.samples", "3"))
    again = [line for line in output.splitlines() if line.startswith("✓") and "done before" not in line]
    assert [line.split()[1] for line in again] == ["report"]


def test_a_model_is_in_the_store_and_verified_if_its_verdict_ships(finished):
    where, output = finished
    published = json.loads((where / "runs/digits/publish/publish.json").read_text())
    verdict = json.loads((where / "runs/digits/evaluate/verdict.json").read_text())
    assert published["published"] == (verdict["verdict"] == "helps")
    assert " ".join(published["reason"].split()) in " ".join(output.split())
    assert ("verified" in finish(start(where, "models"))) == published["published"]


@pytest.fixture(scope="module")
def refused(finished, tmp_path_factory) -> tuple[Path, str]:
    """The same run, of whose images every one would have to be of its class; and what it printed."""
    where = tmp_path_factory.mktemp("refused") / "job"
    shutil.copytree(finished[0], where)
    return where, finish(start(where, "run", *WORDS, "--evaluate.min-right-label", "1"))


def test_a_generator_that_is_refused_before_the_arena_is_not_trained_on_and_not_published(refused):
    where, output = refused
    run = where / "runs" / "digits"
    verdict = json.loads((run / "evaluate/verdict.json").read_text())
    assert (verdict["verdict"], verdict["after"]) == ("cannot tell", "")
    assert [rate["class_name"] for rate in verdict["label_rates"]] == ["3", "5", "8"]
    for rate in verdict["label_rates"]:
        screened = pd.read_parquet(
            next((run / "screen").glob(f"*-{rate['class_name']}")) / "screened.parquet"
        )
        assert rate["right_label"] == pytest.approx((screened["reason"] != "wrong label").mean())
        assert rate["is_refused"] == (rate["right_label"] < 1)
    assert not any("synthetic" in arm for arm in pd.read_parquet(run / "evaluate/scores.parquet")["arm"])
    assert "synthetic" not in json.loads((run / "evaluate/recipe/recipe.json").read_text())["arm"]
    assert "refused before the arena" in " ".join(output.split())
    written = pd.read_parquet(run / "assemble/origins.parquet")
    refused = [rate["class_name"] for rate in verdict["label_rates"] if rate["is_refused"]]
    assert refused
    assert not (written["origin"].eq("synthetic") & written["class_name"].isin(refused)).any()


def test_a_refusal_is_told_everywhere_and_is_no_failure(refused):
    where, output = refused
    published = json.loads((where / "runs/digits/publish/publish.json").read_text())
    report = (where / "runs/digits/report/report.html").read_text()
    assert published["published"] is False
    assert "To ship, " in published["reason"]
    assert " ".join(published["reason"].split()) in " ".join(output.split())
    assert "To ship, " in report
    assert not (where / "exported").exists()
    assert _states(where)[-1] == "COMPLETED"


def test_where_a_gain_is_required_a_refusal_ends_with_4_after_all_is_written(refused):
    where, _ = refused
    (where / "runs/digits/report/report.html").unlink()
    again = ("run", *WORDS, "--evaluate.min-right-label", "1", "--require-gain")
    output = finish(start(where, *again), code=4)
    assert "publish.require_gain" in output
    assert "recall before" in output
    assert "Traceback" not in output
    assert (where / "runs/digits/report/report.html").is_file()
    assert _states(where)[-1] == "FAILED"
    # What is required changes nothing of what was done.
    did = [
        line.split()[1] for line in output.splitlines() if line.startswith("✓") and "done before" not in line
    ]
    assert did == ["report"]
    assert "not published" in finish(start(where, "publish", "--require-gain"), code=4)
    assert "not published" in finish(start(where, "publish", "--publish.require-gain", "false"))


def _states(where: Path) -> list[str]:
    """How the flow runs ended, in their order."""
    with contextlib.closing(sqlite3.connect(where / "prefect" / "prefect.db")) as database:
        rows = database.execute("SELECT state_type FROM flow_run ORDER BY start_time").fetchall()
    return [state for (state,) in rows]


def test_test_images_among_the_synthetic_ones_stop_the_evaluation_before_it_trains(finished, tmp_path):
    where = tmp_path / "job"
    shutil.copytree(finished[0], where)
    run = where / "runs" / "digits"
    index, images = pd.read_parquet(run / "split/index.parquet"), np.load(run / "split/images.npy")
    plan = {row["class_name"]: row for row in json.loads((run / "plan/plan.json").read_text())["classes"]}
    for name in ("3", "5", "8"):
        (folder,) = (run / "screen").glob(f"*-{name}")
        screened = pd.read_parquet(folder / "screened.parquet")
        is_test = (index["split"] == "test") & (index["class_id"] == plan[name]["class_id"])
        test = images[is_test][:5]
        screened.assign(kept=np.arange(len(screened)) < len(test), reason="").to_parquet(
            folder / "screened.parquet"
        )
        np.save(folder / "kept.npy", test)
    output = finish(start(where, "evaluate", "--evaluate.confidence", "0.9"), code=1)
    assert "copies of locked test images" in output
    assert "5 are test images to the last pixel" in output
    assert not list(run.glob("evaluate.partial/fits"))


def test_the_dry_run_says_what_is_done(finished):
    where, _ = finished
    output = finish(start(where, "run", *WORDS, "--report.samples", "4", "--dry-run"))
    assert [line.split()[1] for line in output.splitlines() if "to do" in line] == ["report"]
    changed = finish(start(where, "run", *WORDS, "--evaluate.seeds", "3", "--dry-run"))
    assert "to do" in changed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing/"], "missing"),
        (["--evaluate.arms", "[real, mymodule:mine]"], "mymodule"),
        (["--run-dir", "notes"], "is not a run folder"),
    ],
)
def test_the_dry_run_says_what_would_stop_the_run(words, said, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    told = finish(start(tmp_path, "run", *words, "--dry-run"), code=1)
    assert said in told
    # The run says the same, and before a server is started.
    assert finish(start(tmp_path, "run", *words), code=1) == told
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "prefect").exists()


def test_killed_in_one_step_after_another_the_same_command_goes_on_to_the_same_end(
    finished, tmp_path_factory
):
    reference, _ = finished
    where = tmp_path_factory.mktemp("killed")
    run = where / "runs" / "digits"
    for step in ("train", "produce", "evaluate", "publish"):
        process = start(where, "run", *WORDS)
        # Its folder: a short step may be over before anybody looks at its `.partial`.
        while not (run / step).exists() and not (run / f"{step}.partial").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    output = finish(start(where, "run", *WORDS))
    assert "done before" in output
    assert digests(run) == digests(reference / "runs" / "digits")
    assert not list(run.glob("**/*.partial"))


def test_ctrl_c_stops_at_once_and_says_how_to_go_on(tmp_path):
    process = start(tmp_path, "run", *WORDS, "--train.steps", "20000")
    while not (tmp_path / "runs/digits/train/base.partial").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    output = finish(process, code=130)
    assert "the same command goes on" in output
    assert "Traceback" not in output
