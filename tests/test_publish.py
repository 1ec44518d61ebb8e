import json

import pytest

from ganaug.publish import publish_model
from ganaug.store import list_models


@pytest.fixture
def publish(tmp_path, write_model):
    write_model(tmp_path / "export" / "base")
    out = tmp_path / "out"
    out.mkdir()

    def call(verdict: str, after: str = "with synthetic"):
        values = {"verdict": verdict, "after": after, "difference": 0.01, "low": -0.02, "high": 0.04}
        return publish_model([tmp_path / "export" / "base"], values, tmp_path / "store", "cats", out)

    call.store, call.out = tmp_path / "store", out
    return call


@pytest.mark.parametrize("verdict", ["helps", "no difference", "cannot tell"])
def test_a_model_that_did_no_harm_is_published_with_its_verdict(publish, verdict):
    result = publish(verdict)
    (stored,) = list_models(publish.store)
    assert (result["published"], result["version"]) == (True, 1)
    assert (stored.verdict, stored.is_current, stored.problem) == (verdict, True, None)
    assert json.loads((publish.out / "publish.json").read_text()) == result


@pytest.mark.parametrize(("verdict", "after"), [("hurts", "with synthetic"), ("cannot tell", "")])
def test_a_model_that_did_harm_or_made_nothing_is_refused_and_the_earlier_one_stays(publish, verdict, after):
    publish("helps")
    result = publish(verdict, after)
    assert not result["published"]
    assert result["reason"].startswith("not published")
    assert [stored.version for stored in list_models(publish.store)] == [1]


def test_the_same_model_published_again_is_the_same_version(publish):
    assert publish("helps")["version"] == publish("helps")["version"] == 1
