"""A million images, produced, screened and written, with a kill -9 in the middle: rate and memory.

    python tests/benchmarks/million.py --model runs/cifar10/model --screener runs/cifar10/screen/screener
    python tests/benchmarks/million.py --images 100000 --no-kill

Starts `ganaug produce` as a child, watches its resident memory, kills it half way, starts it
again, and then checks that every image is there once: rows of the manifest, hashes of the shards.
Nothing here passes or fails by the clock.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from ganaug.generate import Generator
from ganaug.places import LocalPlace
from ganaug.produce import manifest

POLL_S = 0.2
EARLY = (10_000, 30_000)
LATE = 0.95
"""Memory at the end, from this share of the images on, is compared with memory when so many were done."""


@dataclass
class Watched:
    """What was seen of a child.

    Attributes:
        seconds: From start to end.
        rss: (images noted in the manifest, resident bytes of its own) over time.
    """

    seconds: float = 0.0
    rss: list[tuple[int, int]] = field(default_factory=list)


def main() -> None:
    """Run, kill, run again, check, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="digits")
    parser.add_argument("--screener", help="folder of a screener; none: nothing is screened")
    parser.add_argument("--images", type=int, default=1_000_000, help="images tried, of all classes together")
    parser.add_argument("--format", default="parquet")
    parser.add_argument("--encoding", default="auto")
    parser.add_argument("--out", type=Path, help="where they go; none: a temporary folder")
    parser.add_argument("--no-kill", action="store_true", help="one run from start to end")
    asked = parser.parse_args()
    out = asked.out or Path(tempfile.mkdtemp()) / "million"
    command = [sys.executable, "-m", "ganaug.cli", "produce", "--model", asked.model, "--out", str(out)]
    each = asked.images // len(Generator.open(asked.model).class_names)
    command += ["--count", str(each), "--device", "cpu"]
    command += ["--format", asked.format, "--encoding", asked.encoding]
    command += ["--screener", asked.screener] if asked.screener else []
    first = _watch(command, out, kill_at=None if asked.no_kill else asked.images // 2)
    done = _noted(out)
    second = first if asked.no_kill else _watch(command, out, kill_at=None)
    table = pd.read_parquet(out / manifest.FOLDER, columns=["class_name", "index", "kept", "reason", "file"])
    intact = _intact(out)
    early = statistics.median(rss for images, rss in first.rss if EARLY[0] <= images <= EARLY[1])
    late = statistics.median(rss for images, rss in second.rss if images >= LATE * asked.images)
    peak = max(rss for watched in (first, second) for _, rss in watched.rss)
    made, seconds = len(table), first.seconds + (0 if asked.no_kill else second.seconds)
    print(f"tried {made:,} images, kept {int(table['kept'].sum()):,}, in {seconds:,.0f} s")
    if not asked.no_kill:
        print(f"killed with SIGKILL after {first.seconds:,.0f} s, at {done:,} images; went on and finished")
    print(f"rate {made / seconds:,.0f} images/s, both runs, start-up and what the kill lost included")
    print(f"each image once: {not table.duplicated(['class_name', 'index']).any()}; shards intact: {intact}")
    print(f"resident memory: {early / 2**20:,.0f} MiB at {EARLY[0]:,} to {EARLY[1]:,} images,")
    print(f"  {late / 2**20:,.0f} MiB at the end ({late / early - 1:+.0%}), {peak / 2**20:,.0f} MiB at most")
    print(table["reason"].value_counts().to_string())
    print(f"{sum(path.stat().st_size for path in out.rglob('*') if path.is_file()) / 2**20:,.0f} MiB written")
    if asked.out is None:
        shutil.rmtree(out)


def _watch(command: list[str], out: Path, kill_at: int | None) -> Watched:
    """Run the command to its end, or to its kill when so many images are noted."""
    watched, started = Watched(), time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    process = psutil.Process(child.pid)
    while child.poll() is None:
        noted = _noted(out)
        try:
            watched.rss.append((noted, _own_bytes(process)))
        except psutil.Error:
            break
        if kill_at is not None and noted >= kill_at:
            child.kill()
            break
        time.sleep(POLL_S)
    code = child.wait()
    if kill_at is None and code not in {0, 3}:
        raise SystemExit(f"the child ended with {code}")
    watched.seconds = time.monotonic() - started
    return watched


def _own_bytes(process: psutil.Process) -> int:
    """Resident memory that is the process's own: files that it has mapped are the system's to keep or drop."""
    memory = process.memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


_seen: dict[str, int] = {}
"""Images of each piece of the manifest that was looked at."""


def _noted(out: Path) -> int:
    """Images that the manifest has so far."""
    place = LocalPlace(out)
    for name in place.names(manifest.FOLDER):
        if name not in _seen:
            found = manifest.read_piece(place.read(f"{manifest.FOLDER}/{name}"), [])
            _seen[name] = 0 if found is None else found[0].tried
    return sum(_seen.values())


def _intact(out: Path) -> bool:
    """Whether every shard has the hash that the manifest says."""
    place = LocalPlace(out)
    for name in place.names(manifest.FOLDER):
        found = manifest.read_piece(place.read(f"{manifest.FOLDER}/{name}"), ["file"])
        if found is None:
            return False
        files = [file for file in found[1].column("file").unique().to_pylist() if file]
        if not manifest.is_intact(place, found[0], files):
            return False
    return True


if __name__ == "__main__":
    main()
