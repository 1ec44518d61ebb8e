"""Removing old versions: never one that is needed, never half, and never a number given twice."""

import json
import os

import pytest
from support.stores import Held, ask

from ganaug import store
from ganaug.errors import ModelError, SettingsError
from ganaug.store import local, remote


@pytest.fixture
def shelf(place, tiny_model):
    """Six versions; 1 is named `old`, 2 is in production, 6 is the candidate."""
    for _ in range(6):
        store.publish(tiny_model, place, "pets")
    store.promote(place, "pets", 1, to="old")
    store.rollback(place, "pets", 2)
    return place


def versions(place):
    return [entry.version for entry in store.list_models(place)]


def test_old_versions_go_and_those_with_an_alias_stay(shelf):
    removed = store.gc(shelf, keep=2)
    assert [(one.name, one.what, one.path) for one in removed] == [
        ("pets", "version", "3"),
        ("pets", "version", "4"),
    ]
    assert versions(shelf) == [1, 2, 5, 6]
    assert [ask(shelf, f"pets@{alias}").version for alias in ("old", "production", "candidate")] == [1, 2, 6]
    left = Held(shelf).tree()
    assert not [
        name for name in left if name.startswith(("pets/3/", "pets/4/")) and not name.endswith(".claim")
    ]
    assert [event.version for event in store.history("pets", shelf) if event.what == "gc"] == [3, 4]


def test_a_dry_run_tells_the_same_and_removes_nothing(shelf):
    before = Held(shelf).tree()
    told = store.gc(shelf, keep=1, dry_run=True)
    assert Held(shelf).tree() == before
    size = sum(
        len(content) for name, content in before.items() if name.startswith("pets/3/") and "claim" not in name
    )
    assert told[0].bytes == size > 0
    assert store.gc(shelf, keep=1) == told
    assert store.gc(shelf, keep=1) == []


def test_a_number_is_never_given_twice(shelf, tiny_model):
    store.promote(shelf, "pets", 2, to="candidate")
    store.gc(shelf, keep=1)
    assert store.publish(tiny_model, shelf, "pets") == 7


def test_only_the_model_that_was_named_is_cleaned(shelf, tiny_model):
    for _ in range(2):
        store.publish(tiny_model, shelf, "cars")
    store.gc(shelf, "cars", keep=1)
    assert [(entry.name, entry.version) for entry in store.list_models(shelf)] == [
        ("cars", 2),
        *(("pets", number) for number in range(1, 7)),
    ]


def test_keeping_none_is_refused(shelf):
    with pytest.raises(SettingsError, match="at least 1"):
        store.gc(shelf, keep=0)


def test_without_a_pointer_nothing_is_removed(shelf):
    Held(shelf).remove("pets/current.json")
    with pytest.raises(ModelError, match="ganaug promote pets@6"):
        store.gc(shelf, keep=1)
    assert len(versions(shelf)) == 6


def test_what_a_killed_gc_had_announced_cannot_be_promoted_and_is_removed_by_the_next(shelf):
    tree = json.loads(Held(shelf).read("pets/current.json"))
    Held(shelf).write("pets/current.json", json.dumps({**tree, "removing": [5]}).encode())
    with pytest.raises(ModelError, match="has no version 5"):
        store.promote(shelf, "pets", 5)
    assert [one.path for one in store.gc(shelf, keep=6)] == ["5"]
    assert versions(shelf) == [1, 2, 3, 4, 6]
    assert "removing" not in json.loads(Held(shelf).read("pets/current.json"))


def test_a_version_that_is_promoted_while_gc_looks_stays(shelf, monkeypatch):
    kind = type(store.shelf.open_shelf(shelf))
    change_pointer, is_first = kind.change_pointer, True

    def late(self, name, change):
        nonlocal is_first
        if is_first:
            is_first = False
            store.promote(shelf, "pets", 3, to="late")
        change_pointer(self, name, change)

    monkeypatch.setattr(kind, "change_pointer", late)
    assert [one.path for one in store.gc(shelf, keep=2)] == ["4"]
    assert ask(shelf, "pets@late").version == 3


def test_what_a_killed_publisher_left_is_seen_by_nobody_and_goes_when_it_is_old(
    place, tiny_model, monkeypatch
):
    store.publish(tiny_model, place, "pets")
    is_here = not isinstance(place, str)
    left = ".incoming-1-dead" if is_here else "2"
    files = {f"pets/{left}/generator.onnx": b"half"} | ({} if is_here else {"pets/2/.claim": b"{}"})
    for name, content in files.items():
        Held(place).write(name, content)
    assert versions(place) == [1]
    assert store.gc(place) == []
    if is_here:
        os.utime(place / "pets" / left, (0, 0))
    else:
        monkeypatch.setattr(remote, "STALE_S", -1.0)
    assert store.gc(place, dry_run=True) == store.gc(place) != []
    assert f"pets/{left}/generator.onnx" not in Held(place).tree()
    assert store.gc(place) == []
    monkeypatch.undo() if is_here else monkeypatch.setattr(remote, "STALE_S", local.STALE_S)
    assert store.publish(tiny_model, place, "pets") == (2 if is_here else 3)
