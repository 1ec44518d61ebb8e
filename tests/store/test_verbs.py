"""`ganaug models`, promote, rollback, gc, history, keys and sign, as they are typed."""

import json
import re
import sys

import pytest
from support.stores import Held, ask

from ganaug import cli, cli_store, minisign, store


@pytest.fixture
def type_(monkeypatch, capsys):
    """`type_("models", ...)`: exit status, and all that was printed, in one line."""

    def call(*words):
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.setattr(cli_store.console, "_width", 300)
        monkeypatch.setattr(sys, "argv", ["ganaug", *map(str, words)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        said = capsys.readouterr()
        return status, " ".join((said.out + said.err).split())

    return call


@pytest.fixture
def shelf(place, tiny_model):
    for promote in (True, True, False):
        store.publish(tiny_model, place, "pets", promote=promote, run={"folder": "run-7"})
    return place


def test_a_model_is_promoted_and_rolled_back_and_its_history_tells_it(type_, shelf):
    where = ("--store", shelf)
    assert type_("promote", "pets", *where) == (0, "production of pets is version 3 (version 2 before)")
    assert type_("rollback", "pets", *where) == (0, "production of pets is version 2 (version 3 before)")
    assert type_("rollback", "pets", "--to", "1", *where)[1].startswith("production of pets is version 1")
    assert (
        type_("promote", "pets@2", "--to", "staging", *where)[1]
        == "staging of pets is version 2 (nothing before)"
    )
    assert type_("promote", "pets@staging", "--to", "staging", *where)[1].endswith("(it was that already)")
    status, said = type_("history", "pets", *where)
    assert status == 0
    assert re.findall(r"(publish|promote|rollback) │ (\d)", said) == [
        ("publish", "1"),
        ("publish", "2"),
        ("publish", "3"),
        ("promote", "3"),
        ("rollback", "2"),
        ("rollback", "1"),
        ("promote", "2"),
    ]
    assert said.count("folder: run-7") == 3


def test_the_list_shows_aliases_and_whether_hashes_were_read(type_, shelf):
    status, said = type_("models", "--store", shelf)
    assert status == 0
    assert "│ 2 │ production │" in said
    assert "│ 3 │ candidate │" in said
    is_here = not isinstance(shelf, str)
    assert said.count("verified") == (3 if is_here else 0)
    assert said.count("complete") == (0 if is_here else 3)
    assert type_("models", "pets", "--verify", "--store", shelf)[1].count("verified") == 3
    assert "signature" not in said


def test_a_damaged_model_in_the_list_is_told_and_the_status_says_so(type_, shelf):
    Held(shelf).remove("pets/1/generator.onnx")
    status, said = type_("models", "--store", shelf)
    assert status == 1
    assert "generator.onnx" in said


def test_gc_tells_bytes_and_a_dry_run_removes_nothing(type_, shelf):
    dry = type_("gc", "--keep", "1", "--dry-run", "--store", shelf)
    assert re.fullmatch(r"version pets@1: (\d+) bytes 1 would be removed, \1 bytes", dry[1])
    assert len(store.list_models(shelf)) == 3
    assert type_("gc", "pets", "--keep", "1", "--store", shelf)[1] == dry[1].replace(
        "would be removed", "removed"
    )
    assert [entry.version for entry in store.list_models(shelf)] == [2, 3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("promote", "yaks"), "no model 'yaks'"),
        (("promote", "pets@9"), "has no version 9; it has [1, 2, 3]"),
        (("promote", "pets@nothing"), "has no alias 'nothing' (aliases: production 2, candidate 3"),
        (("promote", "pets", "--to", "a/b"), "cannot be an alias"),
        (("rollback", "pets", "--to", "9"), "has no version 9"),
        (("rollback", "a/b"), "cannot be the name of a model"),
        (("gc", "yaks"), "no model 'yaks'"),
        (("gc", "--keep", "0"), "at least 1"),
        (("history", "yaks"), "no model 'yaks'"),
        (("sign", "pets", "--key", "nowhere.key"), "cannot read the key"),
    ],
)
def test_a_mistake_is_one_message_and_status_1(type_, shelf, words, message):
    status, said = type_(*words, "--store", shelf)
    assert status == 1
    assert message in said
    assert "Traceback" not in said


def test_models_are_signed_with_a_made_pair_and_the_list_checks_them(type_, shelf, tmp_path, monkeypatch):
    status, said = type_("keys", tmp_path / "team")
    word = minisign.read_public(tmp_path / "team.pub").text
    assert (status, said.endswith(word)) == (0, True)
    for model in ("pets@1", "pets@candidate"):
        assert type_("sign", model, "--key", tmp_path / "team.key", "--store", shelf)[0] == 0
    assert type_("models", "--store", shelf)[1].count("unchecked") == 2
    monkeypatch.setenv(store.PUBLIC_KEY, word)
    status, said = type_("models", "--store", shelf)
    assert (status, said.count("│ signed │"), said.count("unsigned")) == (0, 2, 1)
    assert ask(shelf, "pets@candidate").version == 3
    held = Held(shelf)
    held.write("pets/1/card.json", held.read("pets/1/card.json").replace(b"linear", b"longer"))
    status, said = type_("models", "--store", shelf)
    assert (status, "bad" in said) == (1, True)


@pytest.mark.parametrize("verb", [verb.__name__ for verb in cli_store.VERBS])
def test_every_verb_has_a_help_with_examples(type_, verb):
    status, said = type_(verb, "--help")
    assert status == 0
    assert f"ganaug {verb} " in said.partition("Examples: ")[2]


def test_a_store_that_does_not_answer_is_one_message(type_, monkeypatch):
    import s3fs

    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    status, said = type_("models", "--store", "s3://nowhere/models")
    assert status == 1
    assert said.startswith("ganaug: cannot read the store s3://nowhere/models")


def test_json_of_the_pointer_is_what_the_guide_shows(shelf):
    tree = json.loads(Held(shelf).read("pets/current.json"))
    assert {key: tree[key] for key in ("version", "aliases")} == {"version": 2, "aliases": {"candidate": 3}}
