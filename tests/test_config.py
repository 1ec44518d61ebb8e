from pathlib import Path

import pytest
import yaml

from ganaug import config
from ganaug.errors import PathNotFoundError, SettingsError


def test_all_problems_are_reported_in_one_message():
    wrong = {
        "train.stps": "5",
        "train.batch": "-4",
        "device": "tpu",
        "data.size": "5000",
        "evaluate.seeds": "1",
    }
    with pytest.raises(SettingsError) as caught:
        config.load(None, wrong)
    assert len(caught.value.problems) == len(wrong)
    assert "did you mean train.steps?" in str(caught.value)
    assert "'auto', 'cpu' or 'cuda'" in str(caught.value)


def test_an_option_wins_over_the_file(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("train: {steps: 7, batch: 8}\n")
    chosen = config.load(file, {"train.steps": "500"})
    assert (chosen.train.steps, chosen.train.batch) == (500, 8)


def test_the_described_settings_load_as_the_same_settings(tmp_path: Path):
    chosen = config.load(None, {"split.keep.7": "9", "plan.target": "0.5"}, data="some/where")
    file = tmp_path / "run.yaml"
    file.write_text(config.describe(chosen))
    assert config.load(file) == chosen


def test_every_field_is_described():
    page = config.describe(config.Config())
    fields = sum(
        len(type(section).model_fields)
        for _, section in config.Config()
        if isinstance(section, config.Section)
    )
    lines = page.splitlines()
    assert fields > 50
    assert all(len(line.strip()) > 5 for line in lines if line.strip().startswith("#"))
    assert yaml.safe_load(page)["train"]["steps"] == "auto"


def test_only_the_bundled_digits_are_made_long_tailed():
    assert config.load().split.keep == {"3": 5, "5": 5, "8": 5}
    assert config.load(data="photos").split.keep == {}


@pytest.mark.parametrize("text", ["{broken: [", "- a\n- b\n", "train: 5\n"])
def test_a_file_that_is_no_table_of_settings_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError):
        config.load(file)


def test_a_missing_settings_file_is_named(tmp_path: Path):
    with pytest.raises(PathNotFoundError, match=r"nothing\.yaml"):
        config.load(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(("size", "shape"), [("32", (32, 32)), ("48x24", (48, 24))])
def test_a_size_is_height_by_width(size: str, shape: tuple[int, int]):
    assert config.height_width(size) == shape


@pytest.mark.parametrize("target", ["majority", "median", "300", "0.5", "{cat: 30}"])
def test_every_form_of_target_is_taken(target: str):
    assert config.load(None, {"plan.target": target}).plan.target == yaml.safe_load(target)


@pytest.mark.parametrize("target", ["-3", "1.5", "most", "{cat: 0}"])
def test_an_impossible_target_is_refused(target: str):
    with pytest.raises(SettingsError, match=r"plan\.target"):
        config.load(None, {"plan.target": target})
