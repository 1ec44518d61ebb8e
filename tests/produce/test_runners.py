"""Parts over Prefect's runners: the same bytes as in one process."""

import os
import subprocess
import sys

import pytest
from support.productions import order, tree

from ganaug.produce import produce

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MODEL = "exported/digits@1"
RUNNERS = ("processes", "threads", "ray")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A folder with an output for each runner, and the commands, which go on side by side."""
    where = tmp_path_factory.mktemp("runners")
    words = ["-m", "ganaug.cli", "produce", "--model", MODEL, "--count", "60"]
    words += ["--shard-images", "16", "--format", "npz", "--parts", "3", "--device", "cpu"]
    commands = {
        runner: subprocess.Popen(
            # Ray warns of what is its own affair.
            [
                sys.executable,
                *([] if runner == "ray" else ["-W", "error"]),
                *words,
                *["--runner", runner, "--out", str(where / runner)],
            ],
            cwd=where,
            env={
                **os.environ,
                "PREFECT_HOME": str(where / f"prefect-{runner}"),
                "RAY_USAGE_STATS_ENABLED": "0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for runner in RUNNERS
    }
    yield where, commands
    for command in commands.values():
        command.kill()
        command.communicate()


@pytest.mark.parametrize("runner", RUNNERS)
def test_parts_over_a_runner_leave_the_files_of_a_plain_production(running, tmp_path, runner):
    where, commands = running
    said, wrong = commands[runner].communicate()
    assert commands[runner].returncode == 0, wrong
    assert "Traceback" not in wrong
    assert "60" in said
    produce(order(MODEL, tmp_path / "plain", count=60, parts=3))
    assert tree(where / runner) == tree(tmp_path / "plain")
