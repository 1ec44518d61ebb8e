"""`ganaug run` over Prefect's runners: the same images and models, with processes that train together."""

import os
import subprocess
import sys

import pytest
from test_main_job import digests

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

# The smallest run with a base, a class of its own, and everything after it.
SETTINGS = {
    "split.keep": "{'3': 5, '5': 45, '8': 45}",
    "split.near-duplicates": "false",
    "plan.target": "60",
    "train.steps": "40",
    "train.class-steps": "20",
    # torchrun starts them, inside a task.
    "train.processes": "2",
    "screen.classifiers": "1",
    "screen.folds": "2",
    "screen.steps": "100",
    "evaluate.seeds": "2",
    "evaluate.steps": "20",
    "evaluate.workers": "1",
    "device": "cpu",
    "pipeline.threads": "1",
    "pipeline.workers": "2",
}
# Ray, on two nodes: .ci/cluster.py.
RUNNERS = ("processes", "dask")


def start(where, runner):
    words = [word for key, value in SETTINGS.items() for word in (f"--{key}", value)]
    where.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "ganaug.cli", "run", *words, "--pipeline.runner", runner],
        cwd=where,
        env={**os.environ, "PREFECT_HOME": str(where / "prefect")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run by each runner, all side by side."""
    where = tmp_path_factory.mktemp("everywhere")
    commands = {runner: start(where / runner, runner) for runner in ("threads", *RUNNERS)}
    try:
        said = {runner: command.communicate()[0] for runner, command in commands.items()}
        yield where, said, {runner: command.returncode for runner, command in commands.items()}
    finally:
        for command in commands.values():
            command.kill()


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_runner_leaves_the_bytes_that_threads_leave(runs, runner):
    where, said, codes = runs
    for name in ("threads", runner):
        assert codes[name] == 0, said[name]
        assert "Traceback" not in said[name]
    # Told by the flow, wherever the task was done.
    assert "✓ train 003-3" in said[runner]
    alone = digests(where / "threads/runs/digits")
    assert len(alone) > 10
    assert digests(where / runner / "runs/digits") == alone
