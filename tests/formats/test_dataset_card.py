"""The card says what the images are, in words for people and in fields for the hub."""

import dataclasses

import pytest
import yaml

from ganaug.formats import FORMATS, ProducedAbout, ProducedClass, ProducedModel, dataset_card

MODEL = ProducedModel("birds", 4, "ab" * 32, "helps: +2.1 points on 3 of 3 rare classes")
OTHER = ProducedModel("birds-emu", None, "cd" * 32)
ABOUT = ProducedAbout(
    title="Birds: made",
    license="cc-by-4.0",
    format="parquet",
    encoding="png",
    image_shape=(48, 32, 3),
    seed=17,
    classes=(
        ProducedClass("owl", 1200, MODEL, 0.7, 1500, {"near-copy": 100, "unlike": 200}),
        ProducedClass("e|mu\n<b>", 300, OTHER, 1.0, 310, {"unlike": 10}),
    ),
    ganaug="0.2.0",
)


def front_matter(about: ProducedAbout) -> dict:
    start, fields, _ = dataset_card(about).split("---\n", 2)
    assert start == ""
    return yaml.safe_load(fields)


@pytest.mark.parametrize("name", FORMATS)
def test_the_hub_is_told_where_the_images_of_every_format_are(name):
    fields = front_matter(dataclasses.replace(ABOUT, format=name))
    [config] = fields["configs"]
    assert config["data_files"] == [{"split": "train", "path": FORMATS[name].pattern}]
    assert fields["pretty_name"] == "Birds: made"
    assert fields["license"] == "cc-by-4.0"
    assert fields["task_categories"] == ["image-classification"]
    assert {"synthetic", "gan", "ganaug"} <= set(fields["tags"])
    assert fields["size_categories"] == ["1K<n<10K"]


@pytest.mark.parametrize("name", FORMATS)
def test_the_snippet_of_every_format_is_python_and_stands_in_the_card(name):
    compile(FORMATS[name].snippet, name, "exec")
    assert FORMATS[name].snippet in dataset_card(dataclasses.replace(ABOUT, format=name))


def test_a_reader_learns_that_the_images_are_synthetic_and_what_not_to_use_them_for():
    card = dataset_card(ABOUT)
    for text in (
        "Every image here is synthetic",
        "1,500 of them",
        "32 x 48 px",
        "seed 17",
        "format parquet, encoding png",
        "ganaug reproduce",
        "inherit the bias",
        "no evidence",
        "Evaluate on real images",
    ):
        assert text in card


def test_each_class_has_its_counts_and_its_model():
    lines = dataset_card(ABOUT).splitlines()
    assert "| class | images | tried | rejected: near-copy | rejected: unlike |" in lines
    assert "| owl | 1200 | 1500 | 100 | 200 |" in lines
    assert r"| e\|mu \<b\> | 300 | 310 | 0 | 10 |" in lines
    assert f"| owl | birds | 4 | {'ab' * 32} | 0.7 |" in lines
    assert rf"| e\|mu \<b\> | birds-emu | not published | {'cd' * 32} | 1.0 |" in lines


def test_the_verdict_of_each_model_is_told_or_that_there_is_none():
    lines = dataset_card(ABOUT).splitlines()
    assert "- birds 4: helps: +2.1 points on 3 of 3 rare classes" in lines
    assert "- birds-emu: not evaluated" in lines


def test_a_licence_that_nobody_gave_is_not_made_up():
    about = dataclasses.replace(ABOUT, license=None)
    assert "license" not in front_matter(about)
    assert "has not said under which licence" in dataset_card(about)


def test_what_was_not_screened_has_no_columns_of_rejections():
    classes = [dataclasses.replace(row, rejected={}) for row in ABOUT.classes]
    assert "| class | images | tried |" in dataset_card(dataclasses.replace(ABOUT, classes=classes))
