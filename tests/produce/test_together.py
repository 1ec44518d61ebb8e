"""Several processes at one place: each part is one process's, and parts go on side by side."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.productions import order, tree

from ganaug.errors import OutputError
from ganaug.places import LocalPlace
from ganaug.produce import produce

COUNTS = {"cat": 70, "emu": 41}

# A process that begins at a word, and waits for another one when its first images are made.
WORKER = """
import json, sys
from ganaug.produce import Production, calibrate, produce
calibrate.TRY_S = 0.0
is_first = True
def wait(done, total):
    global is_first
    if is_first and "wait" in sys.argv:
        print("begun", flush=True)
        sys.stdin.readline()
    is_first = False
print("ready", flush=True)
sys.stdin.readline()
print(produce(Production(**json.loads(sys.argv[1])), wait).made)
"""


def worker(asked, *words):
    """A process that is ready to begin."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, asked.model_dump_json(), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def test_a_second_process_is_refused_while_the_first_is_at_work(tiny_model, tmp_path, out):
    asked = order(tiny_model, out, counts=COUNTS)
    first = worker(asked, "wait")
    first.stdin.write("\n")
    first.stdin.flush()
    assert first.stdout.readline() == "begun\n"
    for refused in (asked, asked.model_copy(update={"seed": 3})):
        with pytest.raises(
            OutputError, match=r"another ganaug process is producing into .*--shard 1/2 for one"
        ):
            produce(refused)
    said, _ = first.communicate("\n")
    assert (first.returncode, said) == (0, "111\n")
    produce(order(tiny_model, tmp_path / "calm", counts=COUNTS))
    assert tree(out) == tree(tmp_path / "calm")
    assert produce(asked).made == 0


def test_a_process_that_died_keeps_nobody_out(tiny_model, out):
    asked = order(tiny_model, out, counts=COUNTS)
    first = worker(asked, "wait")
    first.stdin.write("\n")
    first.stdin.flush()
    assert first.stdout.readline() == "begun\n"
    first.kill()
    first.communicate()
    assert produce(asked).is_finished


def test_different_parts_at_once_are_done_by_different_processes(tiny_model, tmp_path, out):
    parts = 3
    asked = order(tiny_model, out, counts=COUNTS, parts=parts)
    workers = [worker(asked.model_copy(update={"part": part})) for part in range(1, parts + 1)]
    for process in workers:
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [(process.communicate(), process.returncode) for process in workers]
    assert [code for _, code in ended] == [0] * parts, [said[1] for said, _ in ended]
    assert sum(int(said[0]) for said, _ in ended) == 111
    produce(order(tiny_model, tmp_path / "whole", counts=COUNTS, parts=parts))
    assert tree(out) == tree(tmp_path / "whole")


def test_a_part_is_refused_to_a_second_process_and_another_is_not(tiny_model, out):
    asked = order(tiny_model, out, counts=COUNTS, parts=2)
    first = worker(asked.model_copy(update={"part": 1}), "wait")
    first.stdin.write("\n")
    first.stdin.flush()
    assert first.stdout.readline() == "begun\n"
    with pytest.raises(OutputError, match="part-00001-of-00002"):
        produce(asked.model_copy(update={"part": 1}))
    with pytest.raises(OutputError, match="part-00001-of-00002"):
        produce(asked)
    assert not produce(asked.model_copy(update={"part": 2})).is_finished
    first.communicate("\n")
    assert first.returncode == 0
    assert json.loads((out / "production.json").read_text())["state"] == "finished"


def test_parts_that_begin_together_do_not_get_into_each_others_way(tiny_model, tmp_path, monkeypatch):
    opened, both, done = LocalPlace._opened, threading.Barrier(2), []

    def slow(place, path):
        """The first description is open in both before one goes on."""
        file = opened(place, path)
        if path.name.startswith("production.json") and threading.current_thread() not in done:
            done.append(threading.current_thread())
            both.wait(timeout=20)
        return file

    monkeypatch.setattr(LocalPlace, "_opened", slow)
    asked = order(tiny_model, tmp_path / "both", counts={"cat": 32}, parts=2)
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(produce, asked.model_copy(update={"part": part})) for part in (1, 2)]
        assert [one.result().made for one in results] == [16, 16]
    assert json.loads((tmp_path / "both/production.json").read_text())["state"] == "finished"
