"""What every store promises: versions, aliases, promoting, rolling back, and the history of it all."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from support.stores import Held, ask

from ganaug import store
from ganaug.errors import ModelError
from ganaug.store.names import split_suffix


@pytest.fixture
def shelf(place, tiny_model):
    """A store with three versions of one model, the last one in production."""
    for _ in range(3):
        store.publish(tiny_model, place, "pets")
    return place


def pointer(place):
    tree = json.loads(Held(place).read("pets/current.json"))
    return tree.get("version"), tree.get("aliases", {})


def aliases(place):
    return {entry.version: entry.aliases for entry in store.list_models(place)}


def test_what_is_published_is_numbered_and_becomes_candidate_and_production(shelf):
    assert aliases(shelf) == {1: (), 2: (), 3: ("production", "candidate")}
    assert ask(shelf, "pets").version == 3
    assert [ask(shelf, f"pets@{number}").version for number in (1, 2, 3)] == [1, 2, 3]


def test_with_manual_promotion_only_the_candidate_moves(place, tiny_model):
    store.publish(tiny_model, place, "pets", promote=False)
    with pytest.raises(
        ModelError, match=r"has no current version \(aliases: candidate 1.*ganaug promote pets@1"
    ):
        ask(place, "pets")
    store.publish(tiny_model, place, "pets")
    store.publish(tiny_model, place, "pets", promote=False)
    assert aliases(place) == {1: (), 2: ("production",), 3: ("candidate",)}
    assert (ask(place, "pets").version, ask(place, "pets@candidate").version) == (2, 3)
    assert store.promote(place, "pets") == (3, 2)
    assert ask(place, "pets@production").version == 3


def test_an_alias_of_ones_own_leads_to_its_version_until_it_is_moved(shelf):
    assert store.promote(shelf, "pets", 1, to="staging") == (1, None)
    assert ask(shelf, "pets@staging").version == 1
    assert store.promote(shelf, "pets", "candidate", to="staging") == (3, 1)
    assert ask(shelf, "pets@staging").version == 3
    assert pointer(shelf) == (3, {"candidate": 3, "staging": 3})


@pytest.mark.parametrize("asked", [9, "nothing"])
def test_what_is_not_there_is_not_promoted_and_those_that_are_there_are_told(shelf, asked):
    with pytest.raises(ModelError, match=r"pets has no (version 9; it has \[1, 2, 3\]|alias 'nothing')"):
        store.promote(shelf, "pets", asked)
    assert pointer(shelf) == (3, {"candidate": 3})


@pytest.mark.parametrize(
    "verb", [store.promote, store.rollback, lambda place, name: store.gc(place, name), None]
)
def test_an_unknown_name_is_told_with_those_that_there_are(shelf, verb):
    with pytest.raises(ModelError, match=r"no model 'yaks' in .*it has pets"):
        store.history("yaks", shelf) if verb is None else verb(shelf, "yaks")


@pytest.mark.parametrize("alias", ["", "3", "a/b", "a b", "x" * 51, "@", "a\n"])
def test_an_alias_that_would_be_misread_is_refused(shelf, alias):
    with pytest.raises(ModelError, match="cannot be an alias"):
        store.promote(shelf, "pets", 1, to=alias)


def test_a_version_without_its_graph_is_not_promoted(shelf):
    Held(shelf).remove("pets/2/generator.onnx")
    for move in (store.promote, store.rollback):
        with pytest.raises(ModelError, match=r"generator\.onnx"):
            move(shelf, "pets", 2)
    assert ask(shelf, "pets").version == 3


def test_at_an_address_a_version_without_its_card_is_none(bucket, tiny_model):
    for _ in range(3):
        store.publish(tiny_model, bucket, "pets")
    Held(bucket).remove("pets/2/card.json")
    assert [entry.version for entry in store.list_models(bucket)] == [1, 3]
    with pytest.raises(ModelError, match="has no version 2"):
        store.rollback(bucket, "pets", 2)


def test_rolling_back_goes_to_what_was_in_production_before_and_further(shelf):
    assert store.rollback(shelf, "pets") == (2, 3)
    assert store.rollback(shelf, "pets") == (1, 2)
    with pytest.raises(ModelError, match=r"not known from its history.*--to 1"):
        store.rollback(shelf, "pets")
    assert pointer(shelf) == (1, {"candidate": 3})
    assert store.rollback(shelf, "pets", 3) == (3, 1)


def test_without_a_version_in_production_there_is_nothing_to_go_back_from(place, tiny_model):
    store.publish(tiny_model, place, "pets", promote=False)
    with pytest.raises(ModelError, match=r"no version of 'pets' is in production.*ganaug promote pets@1"):
        store.rollback(place, "pets")


def test_rolling_back_skips_candidates_that_were_never_in_production(place, tiny_model):
    for promote in (True, False, True):
        store.publish(tiny_model, place, "pets", promote=promote)
    assert store.rollback(place, "pets") == (1, 3)


def test_the_version_after_a_rollback_counts_on(shelf, tiny_model):
    store.rollback(shelf, "pets", 1)
    assert store.publish(tiny_model, shelf, "pets") == 4
    assert pointer(shelf) == (4, {"candidate": 4})
    assert store.rollback(shelf, "pets") == (1, 4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[]",
        "3",
        '{"version": "3"}',
        '{"version": true}',
        '{"version": 0}',
        '{"version": 3, "aliases": {"candidate": "4"}}',
        '{"version": 3, "aliases": {"../x": 4}}',
        '{"version": 3, "aliases": {"production": 4}}',
        '{"version": 3, "aliases": [1]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_pointer_is_told_and_is_mended_by_promoting(shelf, text):
    Held(shelf).write("pets/current.json", text.encode())
    with pytest.raises(ModelError, match=r"current\.json is damaged"):
        ask(shelf, "pets")
    assert ask(shelf, "pets@1").version == 1
    assert all("current.json is damaged" in entry.problem for entry in store.list_models(shelf))
    with pytest.raises(ModelError, match=r"current\.json is damaged"):
        store.gc(shelf, keep=1)
    assert store.promote(shelf, "pets", 2) == (2, None)
    assert ask(shelf, "pets").version == 2


def test_publishing_mends_a_damaged_pointer(shelf, tiny_model):
    Held(shelf).write("pets/current.json", b"{")
    assert store.publish(tiny_model, shelf, "pets") == 4
    assert pointer(shelf) == (4, {"candidate": 4})


def test_a_pointer_of_earlier_versions_of_ganaug_is_read_as_before(shelf):
    Held(shelf).write("pets/current.json", b'{"version": 2}')
    assert ask(shelf, "pets").version == 2
    assert store.promote(shelf, "pets", 3, to="candidate") == (3, None)
    assert pointer(shelf) == (2, {"candidate": 3})


def test_the_list_tells_damage_and_goes_on(shelf):
    held = Held(shelf)
    held.write("pets/1/card.json", b"{")
    held.write("pets/2/generator.onnx", b"x")
    swapped = held.read("pets/3/generator.onnx")[:-1] + b"x"
    held.write("pets/3/generator.onnx", swapped)
    first, second, third = store.list_models(shelf, hashes=True)
    assert "not JSON" in first.problem
    assert "has 1 bytes" in second.problem
    assert "damaged or swapped" in third.problem
    assert not third.is_verified


def test_sizes_are_compared_and_graphs_elsewhere_are_read_only_where_that_is_asked_for(shelf):
    assert all(entry.problem is None for entry in store.list_models(shelf))
    is_here = not isinstance(shelf, str)
    assert [entry.is_verified for entry in store.list_models(shelf)] == [is_here] * 3
    assert [entry.is_verified for entry in store.list_models(shelf, hashes=True)] == [True] * 3


def test_pages_are_there_with_the_version_and_written_anew_without_touching_the_model(place, tiny_model):
    def page(folder, card):
        (folder / "README.md").write_text(card.label)

    store.publish(tiny_model, place, "pets", page)
    held = Held(place)
    before = held.tree()
    assert before["pets/1/README.md"] == b"pets@1"
    store.put_beside(place, "pets", 1, {"README.md": b"new"})
    assert {**before, "pets/1/README.md": b"new"} == held.tree()
    with pytest.raises(ModelError, match="never changes"):
        store.put_beside(place, "pets", 1, {"generator.onnx": b"new"})


def test_the_history_says_who_did_what_when_and_of_which_run(place, tiny_model, monkeypatch):
    before = datetime.now(UTC) - timedelta(seconds=1)
    store.publish(tiny_model, place, "pets", run={"folder": "digits", "verdict": "helps"})
    monkeypatch.setenv(store.WHO, "nightly flow")
    store.publish(tiny_model, place, "pets", promote=False)
    store.promote(place, "pets")
    store.rollback(place, "pets")
    events = store.history("pets", place)
    assert [(event.what, event.version, event.alias, event.before) for event in events] == [
        ("publish", 1, "production", None),
        ("publish", 2, "candidate", 1),
        ("promote", 2, "production", 1),
        ("rollback", 1, "production", 2),
    ]
    assert events[0].run == {"folder": "digits", "verdict": "helps"}
    assert re.fullmatch(r".+@.+", events[0].who)
    assert [event.who for event in events[1:]] == ["nightly flow"] * 3
    assert all(before <= datetime.fromisoformat(event.when) <= datetime.now(UTC) for event in events)


def test_an_alias_that_stays_where_it_is_is_no_event(shelf):
    before = store.history("pets", shelf)
    assert store.promote(shelf, "pets", 3) == (3, 3)
    assert store.history("pets", shelf) == before


def test_what_is_no_event_in_the_history_is_left_out(shelf):
    held, before = Held(shelf), store.history("pets", shelf)
    for number, text in enumerate(("{", "[]", '{"when": 1}', "[" * 60_000)):
        held.write(f"pets/history/{number}.json", text.encode())
    held.write("pets/history/note.txt", b"")
    assert store.history("pets", shelf) == before


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("digits", ("digits", None)),
        ("digits@3", ("digits", 3)),
        ("exported/digits@candidate", ("exported/digits", "candidate")),
        ("s3://bucket/models/digits@candidate", ("s3://bucket/models/digits", "candidate")),
        ("ftp://user@host", ("ftp://user@host", None)),
        ("ftp://user@host/digits", ("ftp://user@host/digits", None)),
        ("ftp://user@host/digits@3", ("ftp://user@host/digits", 3)),
        ("@candidate", ("@candidate", None)),
        ("digits@../x", ("digits@../x", None)),
    ],
)
def test_a_suffix_is_a_version_or_an_alias_and_nothing_else(text, parts):
    assert split_suffix(text) == parts
