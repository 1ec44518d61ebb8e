"""Whose models are loaded: signatures beside cards, here and at addresses."""

import json

import pytest
from support.stores import Held, ask

import ganaug
from ganaug import minisign, store
from ganaug.errors import ModelError
from ganaug.produce import Production, produce


@pytest.fixture
def keys(tmp_path):
    """Path of a key pair, without the endings."""
    minisign.make_keys(tmp_path / "team")
    return tmp_path / "team"


@pytest.fixture
def key(keys):
    return keys.with_suffix(".key")


@pytest.fixture
def word(keys):
    return minisign.read_public(keys.with_suffix(".pub")).text


@pytest.fixture
def signed(place, tiny_model, key):
    """A store with a model that was signed as it was published."""
    store.publish(tiny_model, place, "pets", sign_with=key)
    return place


def load(place, name, **words):
    return ganaug.load(place / name if not isinstance(place, str) else f"{place}/{name}", **words)


def test_a_signed_model_is_loaded_with_its_key_as_word_or_file(signed, keys, word):
    for key in (word, keys.with_suffix(".pub"), str(keys.with_suffix(".pub"))):
        assert load(signed, "pets", public_key=key).sample("cat", 1).shape == (1, 8, 8, 1)
    load(signed, "pets")


def test_an_unsigned_model_is_refused_until_it_is_signed(place, tiny_model, key, word):
    store.publish(tiny_model, place, "pets")
    with pytest.raises(ModelError, match=r"is not signed, and a signature of key .*`ganaug sign MODEL --key"):
        load(place, "pets", public_key=word)
    told = store.sign("pets@1", key, place)
    assert told.endswith("pets/1/card.json.minisig")
    assert load(place, "pets", public_key=word).card.version == 1


def test_another_key_is_refused(signed, tmp_path):
    other = minisign.make_keys(tmp_path / "other")
    with pytest.raises(ModelError, match="is not to be trusted: the signature is of key"):
        load(signed, "pets", public_key=other.text)


def test_a_card_that_was_changed_after_signing_is_refused(signed, word):
    held = Held(signed)
    card = json.loads(held.read("pets/1/card.json"))
    held.write("pets/1/card.json", json.dumps({**card, "verdict": "helps"}).encode())
    assert load(signed, "pets").card.verdict == "helps"
    with pytest.raises(ModelError, match="not over this content"):
        load(signed, "pets", public_key=word)


def test_a_signature_that_was_swapped_is_noticed_although_the_model_was_fetched_before(signed, word):
    load(signed, "pets", public_key=word)
    Held(signed).write("pets/1/card.json.minisig", b"swapped")
    with pytest.raises(ModelError, match="is not to be trusted"):
        load(signed, "pets", public_key=word)


def test_a_pinned_signed_model_that_is_here_needs_no_network(bucket, tiny_model, key, word):
    store.publish(tiny_model, bucket, "pets", sign_with=key)
    pin = load(bucket, "pets", public_key=word).sha256
    for name in Held(bucket).tree():
        Held(bucket).remove(name)
    assert load(bucket, "pets", public_key=word, sha256=pin).card.version == 1


def test_the_environment_asks_for_a_signature_wherever_a_model_is_loaded(
    signed, tiny_model, word, monkeypatch, tmp_path
):
    monkeypatch.setenv(store.PUBLIC_KEY, word)
    assert ask(signed, "pets").version == 1
    out = {"out": str(tmp_path / "out"), "count": 3, "device": "cpu", "workers": 1, "threads": 1, "batch": 4}
    produce(Production(model=f"{signed}/pets", **out))
    for use in (
        lambda: ganaug.load(tiny_model),
        lambda: store.verify(tiny_model),
        lambda: ganaug.GanSample(tiny_model, {"cat": 1.0}),
        lambda: produce(Production(model=str(tiny_model), **out)),
    ):
        with pytest.raises(ModelError, match="is not signed"):
            use()
    assert store.resolve(tiny_model, public_key=False) == tiny_model
    monkeypatch.setenv(store.PUBLIC_KEY, "nonsense")
    with pytest.raises(ModelError, match="public key as the word RW"):
        ganaug.load(tiny_model)


def test_the_list_says_what_is_signed(place, tiny_model, key, word, tmp_path):
    for number in range(3):
        store.publish(tiny_model, place, "pets", sign_with=None if number == 1 else key)
    held = Held(place)
    held.write("pets/3/card.json", held.read("pets/3/card.json").replace(b"linear", b"longer"))
    states = [entry.signature for entry in store.list_models(place)]
    assert states == ["unchecked", "unsigned", "unchecked"]
    assert [entry.signature for entry in store.list_models(place, public_key=word)] == [
        "signed",
        "unsigned",
        "bad",
    ]


def test_a_model_that_is_in_no_store_is_signed_too(tiny_model, key, word, monkeypatch):
    store.sign(tiny_model, key)
    assert ganaug.load(tiny_model, public_key=word).class_names == ("cat", "dog", "emu")
    monkeypatch.chdir(tiny_model.parent)
    store.sign("tiny", key)
    assert ganaug.load("tiny", public_key=word)


def test_with_a_key_that_cannot_be_used_nothing_is_published(place, tiny_model, tmp_path):
    with pytest.raises(ModelError, match="cannot read the key"):
        store.publish(tiny_model, place, "pets", sign_with=tmp_path / "nowhere.key")
    assert store.list_models(place) == []
