"""Training that goes on from weights of an earlier time."""

import pytest
from safetensors.torch import load_file
from support.digits import digits

from ganaug.config import TrainConfig
from ganaug.errors import ModelError
from ganaug.training.gans import train_base, train_class

SHORT = TrainConfig(steps=4, class_steps=4, batch=8, patience=0)
STILL = SHORT.model_copy(update={"learning_rate": 1e-12})


def players(folder):
    return load_file(folder / "players.safetensors")


def is_near(one, other):
    return all(bool((one[name] - other[name]).abs().max() < 1e-4) for name in one)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    where = tmp_path_factory.mktemp("earlier")
    train_base(digits(), SHORT, where / "base", device="cpu")
    train_class(digits(), 1, where / "base", None, SHORT, where / "class", device="cpu")
    train_class(digits(), 1, None, None, SHORT, where / "alone", device="cpu")
    return where


def test_a_base_goes_on_from_an_earlier_one(earlier, tmp_path):
    summary = train_base(digits(60), STILL, tmp_path, start=earlier / "base", device="cpu")
    assert is_near(players(tmp_path), players(earlier / "base"))
    assert summary["steps"] == STILL.class_steps


@pytest.mark.parametrize(("start", "base"), [("class", "base"), ("alone", None)])
def test_a_class_goes_on_from_its_own_earlier_gan_and_not_from_the_base(earlier, tmp_path, start, base):
    base = base and earlier / base
    train_class(digits(60), 1, base, None, STILL, tmp_path, start=earlier / start, device="cpu")
    assert is_near(players(tmp_path), players(earlier / start))
    assert not is_near(players(tmp_path), players(earlier / "base"))


@pytest.mark.slow
def test_several_processes_go_on_from_it_too(earlier, tmp_path):
    config = STILL.model_copy(update={"processes": 2})
    train_class(
        digits(60), 1, earlier / "base", None, config, tmp_path, start=earlier / "class", device="cpu"
    )
    assert is_near(players(tmp_path), players(earlier / "class"))


def test_weights_that_are_not_there_are_told(earlier, tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        train_base(digits(), SHORT, tmp_path / "new", start=tmp_path / "nowhere", device="cpu")
