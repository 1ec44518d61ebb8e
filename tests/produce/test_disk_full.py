"""A disk that fills up: a clear error, and what is finished is gone on with when there is room."""

import contextlib
import json
import os
import subprocess
import sys

import pytest
from support.productions import order, tree

from ganaug.errors import OutputError
from ganaug.places import PART
from ganaug.produce import produce

DISK_KIB = 1200
LIMITED = """
import json, resource, sys
from ganaug.errors import OutputError
from ganaug.produce import Production, calibrate, produce
calibrate.TRY_S = 0.0
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    produce(Production(**json.loads(sys.argv[1])))
except OutputError as error:
    print(error)
"""
TOLD = (
    "What is finished is kept: free the space, or mend the permissions or the connection, and give the same"
)


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, with little room."""
    where = tmp_path / "disk"
    where.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(where)]
    if os.geteuid() or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk; a limit on files tests the same below")
    yield where
    subprocess.run(["umount", str(where)], check=True)


# Every file takes whole pages: room for some shards of twelve.
@pytest.mark.parametrize(("name", "room_kib"), [("npz", 120), ("parquet", 140), ("folder", 1000)])
def test_a_full_disk_is_a_clear_error_and_with_room_it_goes_on(tiny_model, tmp_path, disk, name, room_kib):
    (disk / "ballast").write_bytes(bytes((DISK_KIB - room_kib) * 1024))
    asked = order(tiny_model, disk / "out", count=200, format=name, shard_images=50)
    with pytest.raises(OutputError, match=f"cannot write to .*out: No space left on device. {TOLD}"):
        produce(asked)
    assert not list((disk / "out").rglob(f"*{PART}"))
    finished = {path.name: path.stat().st_mtime_ns for path in (disk / "out" / "manifest").iterdir()}
    assert 1 <= len(finished) < 12
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    assert produce(asked).made == 600 - 50 * len(finished)
    after = {path.name: path.stat().st_mtime_ns for path in (disk / "out" / "manifest").iterdir()}
    assert {file: after[file] for file in finished} == finished
    produce(order(tiny_model, tmp_path / "calm", count=200, format=name, shard_images=50))
    assert tree(disk / "out") == tree(tmp_path / "calm")


def test_a_disk_that_is_full_from_the_start_is_a_clear_error(tiny_model, disk):
    with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(DISK_KIB):
            file.write(bytes(4096))
    with pytest.raises(OutputError, match=f"No space left on device. {TOLD}"):
        produce(order(tiny_model, disk / "out", count=200))


def test_a_file_that_the_system_cuts_off_is_a_clear_error_and_finished_shards_stay(tiny_model, tmp_path, out):
    # Of 50 images a shard is small enough, of 400 it is not.
    small = order(tiny_model, out, counts={"cat": 50, "dog": 0}, shard_images=400)
    produce(small)
    held = tree(out / "data")
    large = order(tiny_model, out, counts={"cat": 50, "dog": 400}, shard_images=400)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, large.model_dump_json()], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"File too large. {TOLD}" in done.stdout
    assert tree(out / "data") == held
    assert json.loads((out / "production.json").read_text())["state"] == "unfinished"
    assert produce(large).made == 400
    produce(large.model_copy(update={"out": str(tmp_path / "calm")}))
    assert tree(out) == tree(tmp_path / "calm")


def test_a_folder_that_may_not_be_written_is_a_clear_error(tiny_model, out):
    out.mkdir()
    (out / "data").write_text("in the way of a folder")
    with pytest.raises(OutputError, match=f"cannot write to .*{TOLD}"):
        produce(order(tiny_model, out, count=5))
