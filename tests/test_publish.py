"""The gate: which verdicts ship, what stays when one does not, and when that is a failure."""

import json
from dataclasses import asdict

import pytest

from ganaug.config import PublishConfig
from ganaug.errors import NotPublishedError
from ganaug.publish import fail_without_gain, publish_model
from ganaug.refusal import LabelRate
from ganaug.store import list_models

VERDICTS = ("helps", "no difference", "cannot tell", "hurts")
SHIPS = {"helps": {"helps"}, "no difference": {"helps", "no difference"}}


@pytest.fixture
def publish(tmp_path, write_model):
    write_model(tmp_path / "export" / "base")
    write_model(tmp_path / "export" / "dog", class_ids=(1,))
    out = tmp_path / "out"
    out.mkdir()

    def call(verdict: str, after: str = "with synthetic", *, parts=("base",), refused=(), **settings):
        values = {"verdict": verdict, "after": after, "difference": 0.01, "low": -0.02, "high": 0.04}
        values["label_rates"] = [asdict(LabelRate(1, name, 200, 0.1, 0.3, True)) for name in refused]
        folders = [tmp_path / "export" / part for part in parts]
        return publish_model(folders, values, tmp_path / "store", "cats", out, **settings)

    call.store, call.out = tmp_path / "store", out
    return call


@pytest.mark.parametrize("require_gain", [False, True])
@pytest.mark.parametrize("accept", SHIPS)
@pytest.mark.parametrize("verdict", VERDICTS)
def test_only_accepted_verdicts_ship_and_a_refusal_fails_only_where_a_gain_is_required(
    publish, verdict, accept, require_gain
):
    result = publish(verdict, accept=accept)
    ships = verdict in SHIPS[accept]
    assert result["published"] == ships
    assert [stored.verdict for stored in list_models(publish.store)] == [verdict] * ships
    assert json.loads((publish.out / "publish.json").read_text()) == result
    config = PublishConfig(accept=accept, require_gain=require_gain)
    if require_gain and not ships:
        with pytest.raises(NotPublishedError, match="To ship, ") as caught:
            fail_without_gain(result, config)
        assert caught.value.reason == result["reason"]
    else:
        fail_without_gain(result, config)


@pytest.mark.parametrize("accept", SHIPS)
@pytest.mark.parametrize("verdict", VERDICTS)
def test_what_was_not_compared_never_ships(publish, verdict, accept):
    assert not publish(verdict, "", accept=accept)["published"]
    assert list_models(publish.store) == []


@pytest.mark.parametrize(
    ("verdict", "after"),
    [
        ("hurts", "with synthetic"),
        ("cannot tell", "with synthetic"),
        ("cannot tell", ""),
        ("no difference", "x"),
    ],
)
def test_a_refusal_leaves_the_earlier_version_current_and_says_what_it_takes(publish, verdict, after):
    publish("helps")
    result = publish(verdict, after)
    assert (result["published"], result["version"], result["current"]) == (False, None, 1)
    assert result["reason"].startswith("not published: ")
    assert "To ship, " in result["reason"]
    assert "version 1 of 'cats' stays current" in result["reason"]
    (stored,) = list_models(publish.store)
    assert (stored.version, stored.is_current, stored.problem) == (1, True, None)


def test_a_refusal_says_how_to_ask_for_less(publish):
    assert "--publish.accept 'no difference'" in publish("no difference")["reason"]
    assert "--publish.accept" not in publish("cannot tell")["reason"]


def test_a_refusal_before_the_arena_is_told_with_its_rates(publish):
    reason = publish("cannot tell", "", refused=["dog"])["reason"]
    assert "dog 10%" in reason
    assert "evaluate.min_right_label asks for 30%" in reason


def test_the_generator_of_a_class_that_was_refused_before_the_arena_stays_behind(publish):
    both = publish("helps", parts=("base", "dog"))
    assert both["version"] == 1
    without = publish("helps", parts=("base", "dog"), refused=["dog"])
    assert without["version"] == 2
    assert "without own generators of dog" in without["reason"]
    graphs = [len(stored.card.graphs) for stored in list_models(publish.store)]
    assert graphs == [2, 1]


def test_the_same_model_published_again_is_the_same_version(publish):
    assert publish("helps")["version"] == publish("helps")["version"] == 1
