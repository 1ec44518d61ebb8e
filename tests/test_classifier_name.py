"""`evaluate.classifier` as a setting: what it may be, what is refused before anything is trained, what makes it stale."""

from __future__ import annotations

import re
import sys

import pytest
import yaml

from ganaug import config
from ganaug.arms import find_arms
from ganaug.classifier_name import BUILT_IN
from ganaug.config import load
from ganaug.errors import SettingsError
from ganaug.own_classifier import check_starts_alike, identity
from ganaug.run import RunFolder
from ganaug.steps import STEPS, open_run

COMMAND = "command: python my_train.py {folder} {predictions} --seed={seed}"


@pytest.mark.parametrize("name", [*BUILT_IN, "my.models:make", COMMAND])
def test_every_kind_of_classifier_is_a_setting_that_survives_the_settings_file(name, tmp_path):
    chosen = load(None, {"evaluate.classifier": name})
    assert chosen.evaluate.classifier == name
    (tmp_path / "run.yaml").write_text(config.describe(chosen))
    assert load(tmp_path / "run.yaml") == chosen


def test_a_command_needs_no_quotes_in_yaml(tmp_path):
    (tmp_path / "run.yaml").write_text(f"evaluate:\n  classifier:\n    {COMMAND}\n")
    assert isinstance(yaml.safe_load((tmp_path / "run.yaml").read_text())["evaluate"]["classifier"], dict)
    assert load(tmp_path / "run.yaml").evaluate.classifier == COMMAND


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet32", "did you mean resnet-32?"),
        ("vgg", "package.module:function"),
        ("command: python my_train.py {folder}", "without {predictions}"),
        ("command: make train", "without {folder} and {predictions}"),
        ("command: train {folder} {predictions} {sead}", "with {sead}; known: {folder}"),
        ("command: train 'open {folder} {predictions}", "No closing quotation"),
        ("5", "string"),
    ],
)
def test_what_is_no_classifier_is_refused_with_the_settings(name, words):
    with pytest.raises(SettingsError, match=re.escape(words)):
        load(None, {"evaluate.classifier": name})


@pytest.mark.parametrize(
    ("name", "arms", "words"),
    [
        ("no_such_package:make", ("real",), "evaluate.classifier: 'no_such_package:make': No module"),
        ("command: no-such-program {folder} {predictions}", ("real",), "no program 'no-such-program'"),
        ("resnet-32", ("real", "oversampling+discriminator"), "in the place of 'resnet-32'"),
    ],
)
def test_a_classifier_that_is_not_there_is_refused_when_the_run_is_opened(name, arms, words, tmp_path):
    settings = {
        "evaluate.classifier": name,
        "evaluate.arms": list(arms),
        "train.keep_discriminator": True,
        "run_dir": str(tmp_path / "run"),
    }
    with pytest.raises(SettingsError, match=re.escape(words)):
        open_run(load(None, settings))
    assert not (tmp_path / "run").exists()


def test_only_the_default_may_be_replaced_by_the_discriminator():
    check_starts_alike("small-cnn", find_arms(["oversampling+discriminator"]))


MODULE = """
from functools import partial

def make(image_shape, n_classes):
    return None

of_a_partial = partial(make)
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    (tmp_path / "named_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "named_models.py"
    sys.modules.pop("named_models", None)


@pytest.mark.parametrize("name", ["make", "of_a_partial"])
def test_a_changed_function_has_another_identity_and_makes_evaluate_stale(name, models, tmp_path):
    run = RunFolder(tmp_path, load(None, {"evaluate.classifier": f"named_models:{name}"}), "")
    before = identity(f"named_models:{name}"), STEPS["evaluate"].more(run, "")
    models.write_text(MODULE + "\n")
    assert identity(f"named_models:{name}") != before[0]
    assert STEPS["evaluate"].more(run, "") != before[1]


def test_a_command_s_files_are_part_of_its_identity_wherever_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "command: python train.py --config=own.yaml {folder} {predictions}"
    run = RunFolder(tmp_path, load(None, {"evaluate.classifier": name}), "")
    seen = [(identity(name), STEPS["evaluate"].more(run, ""))]
    for file in ("train.py", "own.yaml"):
        (tmp_path / file).write_text("one")
        seen.append((identity(name), STEPS["evaluate"].more(run, "")))
        (tmp_path / file).write_text("two")
        seen.append((identity(name), STEPS["evaluate"].more(run, "")))
    assert len({str(one) for one, _ in seen}) == len({str(more) for _, more in seen}) == 5


def test_built_in_classifiers_add_nothing_to_what_makes_evaluate_stale(tmp_path):
    for name in BUILT_IN:
        run = RunFolder(tmp_path, load(None, {"evaluate.classifier": name}), "")
        assert STEPS["evaluate"].more(run, "") is None
