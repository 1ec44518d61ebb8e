"""What the orchestration itself costs: the `balance` flow with many classes whose work takes no time.

    python tests/benchmarks/scale_flow.py --classes 50 200 1000
    python tests/benchmarks/scale_flow.py --classes 200 1000 --without-prefect

Reading, splitting and planning are real; every other step writes one small file. So what is seen is
Prefect, the run folder (keys, records, hashes, locks) and the order of the tasks: seconds and bytes
per task must not grow with the number of classes.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

EACH = 12
_ANSWERS = {
    "evaluate": {"verdict": "cannot tell", "sentence": "Nothing was trained."},
    "publish": {"reason": "nothing was trained", "published": False},
    "report": {"report": "none"},
}


def main() -> None:
    """Run each number of classes in a process of its own and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--without-prefect", action="store_true")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside is not None:
        _inside(asked.classes[0], asked.inside, with_prefect=not asked.without_prefect)
        return
    print("| classes | tasks | s | core-ms/task | database bytes/task | peak memory, MiB |", flush=True)
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for classes in asked.classes:
        with tempfile.TemporaryDirectory() as folder:
            # The embedded server takes up to 20 s, and longer on a busy machine.
            more = {
                "PREFECT_HOME": f"{folder}/prefect",
                "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            }
            more |= {"PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL"}
            command = [sys.executable, __file__, "--classes", str(classes), "--inside", folder]
            command += ["--without-prefect"] if asked.without_prefect else []
            # Prefect's server, which ends while it still writes, says so on the error output.
            done = subprocess.run(command, env={**os.environ, **more}, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)


def _inside(classes: int, folder: Path, *, with_prefect: bool) -> None:
    import numpy as np

    from ganaug import steps
    from ganaug.config import load
    from ganaug.run import peak_rss_bytes

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (classes * EACH, 8, 8, 1), np.uint8)
    np.savez(folder / "many.npz", images=images, labels=np.repeat(np.arange(classes), EACH))
    overrides = {"run_dir": str(folder / "run"), "plan.target": 100, "split.near_duplicates": False}
    config = load(overrides=overrides, data=folder / "many.npz")
    for name, step in list(steps.STEPS.items()):
        if name not in {"split", "plan"}:
            steps.STEPS[name] = replace(step, work=lambda job, name=name: _leave(job, name))
    started, before = time.monotonic(), _core_seconds()
    if with_prefect:
        from pipeline import artifacts
        from pipeline.flows import balance

        artifacts.sample_sheet = lambda run: None
        balance(config)
    else:
        run = steps.open_run(config)
        for step in steps.STEPS:
            steps.do(run, step)
    seconds, cores = time.monotonic() - started, _core_seconds() - before
    tasks = sum(1 for _ in (folder / "run").glob("*/step.json"))
    tasks += sum(1 for _ in (folder / "run").glob("*/*/step.json"))
    held, database = 0.0, folder / "prefect" / "prefect.db"
    if with_prefect:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        held = database.stat().st_size / tasks
    print(
        f"| {classes:,} | {tasks:,} | {seconds:.1f} | {1000 * cores / tasks:.1f} | {held:,.0f} "
        f"| {peak_rss_bytes() / 2**20:,.0f} |",
        flush=True,
    )


def _leave(job: Any, step: str) -> dict[str, Any]:
    (job.out / "done.txt").write_text(f"{step} {job.part}")
    return _ANSWERS.get(step, {})


def _core_seconds() -> float:
    """Processor time of this process; the server's is its own."""
    return time.process_time()


if __name__ == "__main__":
    main()
