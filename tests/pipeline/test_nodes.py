"""A real Ray cluster of two nodes: tasks go to both, and those of a node that dies run again."""

import json
import os
import subprocess
import sys
import time

import pytest
from support.ray_nodes import two_nodes

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

# Each task says where it runs, and ends when the file `go` is there.
_FLOW = """
import json, sys, time
from pathlib import Path
from prefect import flow, task
from ganaug.config import Config
from pipeline.runners import running, this_node
from pipeline.submission import Submission

@task(persist_result=False)
def work(folder, part, threads=None):
    (folder / f"{part} {time.time_ns()}").write_text(this_node())
    while not (folder / "go").exists():
        time.sleep(0.05)
    return part, this_node()

@flow
def two(folder):
    submission = Submission()
    with running(Config(pipeline={"runner": "ray"})) as runners:
        parts = [
            submission.ask(lambda before, part=part: runners.submit("train", work, {"folder": folder, "part": part}))
            for part in "ab"
        ]
        return [part.result() for part in parts]

print(json.dumps(dict(two(Path(sys.argv[1])))))
"""


def began(folder) -> dict[str, list[str]]:
    """The nodes that each task began on, in order."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.glob("[ab] *")):
        found.setdefault(file.name[0], []).append(file.read_text())
    return found


def wait_until(is_so, flow) -> None:
    while not is_so():
        assert flow.poll() is None, flow.communicate()
        time.sleep(0.05)


def test_tasks_of_a_node_that_dies_run_again_on_another_and_the_flow_completes(tmp_path):
    (tmp_path / "flow.py").write_text(_FLOW)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    with two_nodes() as cluster:
        flow = subprocess.Popen(
            [sys.executable, str(tmp_path / "flow.py"), str(tasks)],
            env={
                **os.environ,
                **cluster.joining,
                "PREFECT_HOME": str(tmp_path / "prefect"),
                "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(lambda: all(began(tasks).values()) and len(began(tasks)) == 2, flow)
            first = {part: nodes[0] for part, nodes in began(tasks).items()}
            assert first["a"] != first["b"]
            cluster.nodes[-1].kill()
            (tasks / "go").touch()
            said, wrong = flow.communicate(timeout=200)
        finally:
            flow.kill()
            flow.communicate()
    assert flow.returncode == 0, wrong
    # One task was begun twice: first on the node that died, then where the other one was.
    (lost,) = (part for part, nodes in began(tasks).items() if len(nodes) == 2)
    (kept,) = {"a", "b"} - {lost}
    assert began(tasks) == {lost: [first[lost], first[kept]], kept: [first[kept]]}
    assert json.loads(said.strip().splitlines()[-1]) == {lost: first[kept], kept: first[kept]}
