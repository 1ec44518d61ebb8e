#!/usr/bin/env python
"""The main job and a production on a Ray cluster of two nodes, one of which is killed in the middle.

Both nodes are started on this machine by `ray start`, with a core each. What comes out is compared,
byte by byte, with what one process makes alone.

    .ci/cluster.py
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from support.ray_nodes import two_nodes  # noqa: E402

SETTINGS = {
    "train.steps": 60,
    # Long enough for both nodes to be in the middle of a class when one of them dies.
    "train.class-steps": 1500,
    "train.checkpoint-every": 20,
    "train.patience": 0,
    "train.processes": 1,
    "split.keep": "{'1': 5, '3': 5, '5': 5, '7': 5, '8': 5}",
    "screen.classifiers": 1,
    "screen.folds": 2,
    "evaluate.seeds": 2,
    "evaluate.steps": 30,
    "evaluate.workers": 1,
    "split.near-duplicates": "false",
    "pipeline.threads": 1,
    "device": "cpu",
}
RUN = ["run", *(word for key, value in SETTINGS.items() for word in (f"--{key}", str(value)))]
PRODUCE = ["produce", "--model", f"{ROOT}/exported/digits@1", "--count", "30000", "--shard-images", "2000"]
PRODUCE += ["--device", "cpu", "--parts", "12", "--batch", "64", "--workers", "1", "--threads", "1"]
EXACT = {".npy", ".onnx", ".safetensors", ".npz"}
"""Other files of a run hold seconds and dates."""


def main() -> None:
    """Run, kill, compare, print."""
    # Told to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        wait(start(where / "alone", [*RUN, "--pipeline.runner", "threads"]), "one process, threads")
        wait(start(where / "alone", [*PRODUCE, "--out", "images"]), "one process, a production")
        with two_nodes() as cluster:
            print(f"two nodes are up: {cluster.joining['RAY_ADDRESS']}")
            job = start(where / "cluster", [*RUN, "--pipeline.runner", "ray"], cluster.joining)
            run = where / "cluster/runs/digits"
            until(lambda: len(at_work(run)) == 2 and len(nodes_of(run, "train/0*")) == 2, job)
            parts = at_work(run)
            cluster.nodes[-1].kill()
            print(f"a node was killed while {' and '.join(parts)} trained, one on each", flush=True)
            cluster.add()
            wait(job, "the main job, and another node in its place")
            for number, (_, names) in enumerate(sorted(nodes_of(run, "*/*").items()), 1):
                print(f"node {number}: {', '.join(names)}")
            if len(nodes_of(run, "train/0*")) < 2:
                raise SystemExit("classes were trained on one node alone")
            compare(exact(where / "alone/runs/digits"), exact(run), "of the run")

            job = start(where / "cluster", [*PRODUCE, "--runner", "ray", "--out", "images"], cluster.joining)
            pieces = where / "cluster/images/manifest"
            alive = cluster.nodes[0], cluster.nodes[-1]
            until(lambda: len(list(pieces.glob("*"))) >= 4 and all(node.tasks() for node in alive), job)
            done = len(list(pieces.glob("*")))
            cluster.nodes[-1].kill()
            print(f"a node was killed when {done} shards were done and both made images", flush=True)
            wait(job, "the production")
            compare(tree(where / "alone/images"), tree(where / "cluster/images"), "of the production")


def start(folder: Path, words: list[str], more: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the command line, which ends when this does."""
    folder.mkdir(exist_ok=True)
    job = subprocess.Popen(
        [sys.executable, "-m", "ganaug.cli", *words],
        cwd=folder,
        env={**os.environ, "PREFECT_HOME": str(folder / "prefect"), **(more or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    atexit.register(job.kill)
    return job


def wait(job: subprocess.Popen[str], what: str) -> None:
    """Wait for its end."""
    started = time.monotonic()
    said, _ = job.communicate()
    if job.returncode:
        raise SystemExit(f"{what} ended with {job.returncode}:\n{said}")
    print(f"{what}: done, {time.monotonic() - started:.0f} s", flush=True)


def until(is_so: Callable[[], bool], job: subprocess.Popen[str]) -> None:
    """Wait for something that happens while a command runs."""
    while not is_so():
        if job.poll() is not None:
            raise SystemExit(
                f"ended with {job.returncode} before anything was killed:\n{job.communicate()[0]}"
            )
        time.sleep(0.02)


def at_work(run: Path) -> list[str]:
    """Classes that are being trained and have a checkpoint."""
    found = {file.parents[1].name for file in run.glob("train/0*.partial/checkpoints/*.safetensors")}
    return sorted(name.removesuffix(".partial") for name in found)


def nodes_of(run: Path, parts: str) -> dict[str, list[str]]:
    """What each node did."""
    found: dict[str, list[str]] = {}
    for file in sorted(run.glob(f"{parts}/step.json")):
        record = json.loads(file.read_text())
        found.setdefault(record["node"], []).append(f"{record['step']}/{record['part']}")
    return found


def exact(run: Path) -> dict[str, str]:
    """Hashes of a run's arrays, weights and graphs; not of the fits, which hold their seconds."""
    found = {}
    for file in run.glob("**/step.json"):
        for name, output in json.loads(file.read_text())["outputs"].items():
            if Path(name).suffix in EXACT and "fits/" not in name:
                found[f"{file.parent.relative_to(run)}/{name}"] = output["sha256"]
    return found


def tree(folder: Path) -> dict[str, str]:
    """The bytes of every file of a production."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes().hex() for file in files}


def compare(alone: dict[str, str], cluster: dict[str, str], what: str) -> None:
    """Print how many are the same, and end if any is not."""
    differ = sorted(name for name in alone.keys() | cluster.keys() if alone.get(name) != cluster.get(name))
    if differ:
        raise SystemExit(f"{what}: {len(differ)} of {len(alone)} differ: {', '.join(differ[:10])}")
    print(f"{len(alone)} files {what}: the same bytes as of one process")


if __name__ == "__main__":
    main()
