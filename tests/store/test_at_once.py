"""Several processes at one store: none is lost, no number is given twice, nobody sees half a version."""

import random
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.stores import Held, ask

from ganaug import store
from ganaug.errors import ModelError, OutputError
from ganaug.fetch import Source
from ganaug.store import conditional, remote
from ganaug.store.conditional import Conditional
from ganaug.store.shelf import open_shelf

PROGRAM = Path(__file__).parents[1] / "support" / "at_once.py"
PUBLISHERS, EACH = 3, 4


@pytest.fixture(params=["folder", "s3", "flags"])
def shared(request, tmp_path):
    """Where processes can meet, and how they keep each other out."""
    if request.param == "folder":
        return tmp_path / "exported", []
    return request.getfixturevalue("bucket"), ["flags"] if request.param == "flags" else []


def started(verb, place, model, *words):
    return subprocess.Popen(
        [sys.executable, PROGRAM, verb, str(place), str(model), *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process):
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return [int(line) for line in out.split() if line.isdigit()]


@pytest.mark.slow
def test_publishers_at_once_lose_nothing_and_a_reader_never_sees_half_a_version(shared, tiny_model):
    place, words = shared
    reader = started("read", place, tiny_model, *words)
    assert reader.stdout.readline() == "reading\n"
    publishers = [started("publish", place, tiny_model, EACH, *words) for _ in range(PUBLISHERS)]
    told = [version for process in publishers for version in said(process)]
    assert said(reader)[0] > 0
    assert sorted(told) == list(range(1, PUBLISHERS * EACH + 1))
    entries = store.list_models(place, hashes=True)
    assert [(entry.version, entry.problem) for entry in entries] == [
        (version, None) for version in sorted(told)
    ]
    assert entries[-1].aliases == ("production", "candidate")
    assert sorted(event.version for event in store.history("pets", place)) == sorted(told)


@pytest.mark.slow
def test_aliases_that_are_moved_at_once_are_all_moved(shared, tiny_model):
    place, words = shared
    store.publish(tiny_model, place, "pets")
    movers = [started("promote", place, tiny_model, f"m{number}", 6, *words) for number in range(3)]
    for process in movers:
        assert said(process) == [1] * 6
    (entry,) = store.list_models(place)
    assert len(entry.aliases) == 2 + 18


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["folder", "s3"], indirect=True)
def test_a_publisher_killed_at_any_moment_leaves_a_whole_store(shared, tiny_model):
    place, _ = shared
    rng, told = random.Random(7), []
    for _ in range(3):
        process = started("publish", place, tiny_model, 0)
        told += [int(process.stdout.readline()) for _ in range(rng.randrange(1, 4))]
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
        entries = store.list_models(place, hashes=True)
        assert {entry.version for entry in entries} >= set(told)
        assert [entry.problem for entry in entries if entry.problem] == []
        assert ask(place, "pets").version >= max(told)
    assert store.publish(tiny_model, place, "pets") > max(told)
    assert ask(place, "pets").version > max(told)


@pytest.mark.parametrize("times", [1, 5])
def test_a_file_that_is_replaced_while_it_is_read_is_read_again(bucket, monkeypatch, times):
    Held(bucket).write("pets/current.json", b"writing 0")
    source, count = Source(f"{bucket}/pets"), 0
    opened = source._files.open

    def and_replaced(*words, **settings):
        nonlocal count
        file = opened(*words, **settings)
        if count < times:
            count += 1
            Held(bucket).write("pets/current.json", b"writing %d" % count)
        return file

    monkeypatch.setattr(source._files, "open", and_replaced)
    if times == 1:
        assert source.read("current.json", 100) == b"writing 1"
    else:
        with pytest.raises(ModelError, match="no longer exists"):
            source.read("current.json", 100)


def test_threads_keep_each_other_out_where_a_store_knows_no_conditions(tiny_model):
    place = f"memory://{uuid.uuid4().hex}"
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda _: store.publish(tiny_model, place, "pets"), range(12)))
    assert sorted(versions) == list(range(1, 13))
    assert ask(place, "pets").version == 12


def test_at_an_address_a_version_is_seen_only_when_all_of_it_is_there(bucket, tiny_model, monkeypatch):
    files, seen = open_shelf(bucket)._files, []
    put_file = files.put_file

    def watched(*words):
        seen.append(store.list_models(bucket))
        put_file(*words)

    monkeypatch.setattr(files, "put_file", watched)
    store.publish(tiny_model, bucket, "pets", lambda folder, _: (folder / "README.md").write_text("x"))
    assert seen == [[], []]
    assert len(store.list_models(bucket)) == 1


def test_the_flag_of_a_dead_writer_is_taken_down_and_that_of_a_living_one_is_waited_for(
    tiny_model, monkeypatch
):
    place = f"memory://{uuid.uuid4().hex}"
    flag = "pets/.writing-current.json-0123456789abcdef"
    Held(place).write(flag, b"1")
    monkeypatch.setattr(conditional, "_WAIT_S", 0.0)
    with pytest.raises(OutputError, match="others have been writing"):
        store.publish(tiny_model, place, "pets")
    monkeypatch.setattr(conditional, "FLAG_STALE_S", -1.0)
    assert store.publish(tiny_model, place, "pets") == 2
    assert ask(place, "pets").version == 2
    assert flag not in Held(place).tree()


def test_a_publisher_that_took_so_long_that_gc_may_have_taken_it_for_dead_gives_up(
    bucket, tiny_model, monkeypatch
):
    monkeypatch.setattr(remote, "STALE_S", 0.0)
    with pytest.raises(OutputError, match="took too long"):
        store.publish(tiny_model, bucket, "pets")
    assert store.list_models(bucket) == []


def test_a_server_that_ignores_conditions_is_found_out(bucket, monkeypatch):
    import fsspec

    files, root = fsspec.core.url_to_fs(bucket)
    assert Conditional(files, root)._native()
    call = files.call_s3
    conditions = {"IfMatch", "IfNoneMatch"}
    monkeypatch.setattr(
        files,
        "call_s3",
        lambda *args, **values: call(*args, **{key: values[key] for key in values if key not in conditions}),
    )
    ignoring = Conditional(files, root)
    assert not ignoring._native()
    assert ignoring.create(f"{root}/a", b"1")
    assert not ignoring.create(f"{root}/a", b"2")
    content, tag = ignoring.read(f"{root}/a")
    assert ignoring.swap(f"{root}/a", content, tag, b"3")
    assert not ignoring.swap(f"{root}/a", content, tag, b"4")
    assert files.find(root) == [f"{root}/a"]
