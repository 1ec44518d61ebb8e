"""Cores that this process may use: bound, limited by groups around it, or all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ganaug import cores

V1 = "3:cpuset:/\n2:cpu,cpuacct:{path}\n0::/\n"
V2 = "0::{path}\n"
PROGRAM = """
import contextlib, os, sys
import ganaug.cli
from ganaug.cores import cores
sys.argv = ["ganaug", "--version"]
with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):
    ganaug.cli.main()
import torch
print(cores(), torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))
"""


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (V2.format(path="/"), {"cpu.max": "150000 100000"}, [1.5]),
        (V2.format(path="/"), {"cpu.max": "max 100000"}, []),
        (V2.format(path="/"), {}, []),
        # A service in a slice: both limits hold.
        (V2.format(path="/a/b"), {"a/cpu.max": "100000 100000", "a/b/cpu.max": "400000 100000"}, [4.0, 1.0]),
        # As in a container: the path is the host's, and what is seen at the top is the container's own.
        (V2.format(path="/docker/0a"), {"cpu.max": "200000 100000"}, [2.0]),
        (V1.format(path="/docker/0a"), {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, [0.5]),
        (V1.format(path="/"), {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        # Of another controller, whose folder has no such files.
        ("3:cpuset:/a\n", {"cpuset/a/cpu.max": "100000 100000"}, []),
    ],
)  # fmt: skip
def test_limits_of_the_groups_around_a_process(own, files, expected, tmp_path):
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "own").write_text(own)
    assert list(cores._limits(tmp_path / "cgroup", tmp_path / "own")) == expected


def test_without_linux_groups_there_is_no_limit(tmp_path):
    assert list(cores._limits(tmp_path, tmp_path / "none")) == []


@pytest.fixture
def limited(tmp_path):
    """A group with half a core of time; processes join it by writing their number to its `cgroup.procs`."""
    top, name = Path("/sys/fs/cgroup"), f"ganaug-test-{os.getpid()}"
    v1 = (top / "cpu").is_dir()
    group = (top / "cpu" if v1 else top) / name
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no right to make a group of processes")
    try:
        if v1:
            (group / "cpu.cfs_quota_us").write_text("50000")
        elif not (group / "cpu.max").exists():
            pytest.skip("groups of processes without the controller of time")
        else:
            (group / "cpu.max").write_text("50000 100000")
        yield group
    finally:
        group.rmdir()


def say(before: str = "", **environment: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    program = [sys.executable, "-c", before + PROGRAM]
    return subprocess.check_output(program, env={**kept, **environment}, text=True).split()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="there is one core anyway")
def test_a_limit_of_time_limits_processes_and_threads(limited):
    join = f"open('{limited}/cgroup.procs', 'w').write('0')\n"
    assert say(join) == ["1", "1", "1"]
    assert say(join, OMP_NUM_THREADS="2") == ["1", "2", "2"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="there is one core anyway")
def test_a_process_bound_to_one_core_has_one():
    one = min(os.sched_getaffinity(0))
    assert say(f"import os\nos.sched_setaffinity(0, {{{one}}})\n") == ["1", "1", "1"]


def test_the_environment_is_left_alone_where_nothing_is_limited():
    if cores.cores() < os.cpu_count():
        pytest.skip("it is limited here")
    assert say()[2] == "None"
