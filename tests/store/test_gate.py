"""What the step `publish` leaves in a store of any kind, by the settings of a run."""

import pytest
from support.stores import Held, ask

import ganaug
from ganaug import config, minisign, store
from ganaug.publish import publish_model


@pytest.fixture
def publish(place, tmp_path, write_model):
    write_model(tmp_path / "export" / "base")
    (tmp_path / "out").mkdir()
    verdict = {"verdict": "helps", "after": "with synthetic", "difference": 0.01, "low": 0.0, "high": 0.04}

    def call(**settings):
        folders = [tmp_path / "export" / "base"]
        return publish_model(folders, verdict, place, "cats", tmp_path / "out", **settings)

    return call


def aliases(place):
    return [entry.aliases for entry in store.list_models(place)]


def test_a_run_publishes_with_its_page_and_what_is_known_of_it(publish, place):
    result = publish(run={"folder": "run-7", "dataset_sha256": "f1"})
    assert (result["version"], result["current"]) == (1, 1)
    assert result["path"] == f"{place}/cats/1"
    held = Held(place).tree()
    assert {"cats/1/README.md", "cats/1/samples.png", "cats/1/card.json", "cats/1/base.onnx"} <= set(held)
    assert b"# cats@1" in held["cats/1/README.md"]
    (event,) = store.history("cats", place)
    assert event.run == {
        "folder": "run-7",
        "dataset_sha256": "f1",
        "verdict": "helps",
        "reason": result["reason"],
    }


def test_with_manual_promotion_it_says_what_is_left_to_do_and_auto_does_it_for_the_same_model(publish, place):
    result = publish(promote="manual")
    assert (result["version"], result["current"]) == (1, None)
    assert f"`ganaug promote cats@1 --store {place}`" in result["reason"]
    assert aliases(place) == [("candidate",)]
    assert publish()["current"] == 1
    assert aliases(place) == [("production", "candidate")]
    assert [event.alias for event in store.history("cats", place)] == ["candidate", "production"]


def test_the_same_model_published_again_gets_the_page_and_signature_that_are_asked_for_now(
    publish, place, tmp_path
):
    public = minisign.make_keys(tmp_path / "team")
    publish(license="mit")
    before = Held(place).tree()
    assert publish(license="cc-by-4.0", sign_with=tmp_path / "team.key")["version"] == 1
    after = Held(place).tree()
    assert b"license: cc-by-4.0" in after["cats/1/README.md"]
    changed = {name for name, content in after.items() if before.get(name) != content}
    assert changed == {"cats/1/README.md", "cats/1/card.json.minisig"}
    name = f"{place}/cats" if isinstance(place, str) else place / "cats"
    assert ganaug.load(name, public_key=public.text).card.version == 1


def test_a_rolled_back_model_that_is_published_again_is_put_back(publish, place, write_model, tmp_path):
    publish()
    write_model(tmp_path / "other", seed=1)
    store.publish(tmp_path / "other", place, "cats")
    store.rollback(place, "cats")
    assert publish()["version"] == 1
    assert ask(place, "cats").version == 1


def test_the_store_of_the_settings_is_a_folder_or_an_address_that_stays_one():
    assert config.load(None, {"publish.store": "a/b"}).publish.store == config.Path("a/b")
    chosen = config.load(None, {"publish.store": "s3://bucket/models", "publish.promote": "manual"})
    assert (chosen.publish.store, chosen.publish.promote) == ("s3://bucket/models", "manual")
    assert "store: s3://bucket/models" in config.describe(chosen)
    assert config.Config.model_validate(chosen.model_dump(mode="json")).publish == chosen.publish
