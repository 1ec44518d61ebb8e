"""The README.md of a model: fields for the hub, and what its card says in words that are shown as they are."""

import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from markdown_it import MarkdownIt
from support.page import Page

import ganaug
from ganaug.card import ModelCard
from ganaug.model_readme import model_readme

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import huggingface_hub

HOSTILE = (
    "a|b",
    "<b>bold</b>",
    "`code` *x* _y_",
    "[a](b)",
    "l\nine",
    "&amp; $x$ ~~z~~",
    "---\nlicense: mit",
    "```",
)


def about(card, **changes):
    return card.model_copy(update=changes)


@pytest.fixture
def card(write_model, tmp_path):
    """The card of a published pair model of cat, dog and emu that was trained on few cats."""
    made = write_model(tmp_path / "model", exemplar_counts=(4, 2, 3))
    counts = {"cat": 4, "dog": 120, "emu": 300}
    return about(made, version=2, trained_on=counts, recipe="pair_mlp", dataset_sha256="ab" * 32)


def hub(text):
    """What the hub's own library reads of a README."""
    return huggingface_hub.ModelCard(text).data.to_dict()


def page(text):
    """The README as its reader sees it."""
    body = text.split("---\n", 2)[2]
    return Page(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(body))


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("cc-by-4.0", {"license": "cc-by-4.0"}),
        ("MIT", {"license": "mit"}),
        ("unknown", {"license": "unknown"}),
        ("", {"license": "unknown"}),
        ("Ours: ask 'us' #1", {"license": "other", "license_name": "Ours: ask 'us' #1"}),
    ],
)
def test_the_hub_reads_what_is_promised(card, licence, fields):
    assert hub(model_readme(card, license=licence)) == {
        **fields,
        "library_name": "ganaug",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["ganaug", "gan", "onnx", "synthetic", "data-augmentation", "class-imbalance"],
    }


def test_a_reader_learns_what_it_is_and_what_it_was_trained_on(card):
    said = page(model_readme(card, license="mit", source="From a zoo, with thanks.")).text
    for text in (
        "tiny@2",
        "8 x 8 px (width x height), grey; classes: 3.",
        "recipe pair_mlp",
        "0 cat 4 generator.onnx a latent and one of 4 real images",
        "2 emu 300 generator.onnx a latent and one of 3 real images",
        "From a zoo, with thanks. Trained on 424 real images",
        "ab" * 32,
        "fewer than 20 real images: cat (4).",
        "no evidence of anything",
    ):
        assert text in " ".join(said.split()), text


def test_only_a_model_with_exemplars_inside_is_said_to_hold_real_images(card, write_model, tmp_path):
    assert "The graphs hold real training images" in model_readme(card, license="mit")
    plain = write_model(tmp_path / "plain")
    assert "hold real training images" not in model_readme(plain, license="mit")
    assert "not recorded" in model_readme(plain, license="mit")


def test_classes_of_the_dataset_that_no_graph_makes_are_named(write_model, tmp_path):
    card = write_model(tmp_path / "model", class_ids=(1,))
    text = model_readme(card, license="mit")
    assert "it does not make: cat, emu." in text
    assert "| 1 | dog |" in text
    assert "| 0 | cat |" not in text


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("helps", "scored better than the best found without them"),
        ("no difference", "no difference that matters"),
        ("hurts", "scored worse"),
        ("cannot tell", "cannot tell whether"),
        ("of an older kind", "of an older kind"),
        (None, "Not evaluated: nobody has measured"),
    ],
)
def test_the_verdict_is_told_as_it_was_measured(card, verdict, said):
    numbers = {"difference": 0.012, "low": -0.02, "high": 0.0444, "seeds": 4} if verdict else {}
    text = model_readme(about(card, verdict=verdict, metrics=numbers), license="mit")
    assert said in text
    assert ("(+1.2 points of macro-F1, interval -2.0 to +4.4)" in text) == bool(verdict)
    assert ("| seeds | 4 |" in text) == bool(verdict)


def test_without_numbers_a_verdict_has_none(card):
    text = model_readme(about(card, verdict="helps"), license="mit")
    assert "**helps**: a classifier" in text
    assert "| metric |" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_text_from_elsewhere_is_shown_as_it_is(card, name):
    graphs = tuple(graph.model_copy(update={"classes": (name, "dog")}) for graph in card.graphs)
    hostile = about(
        card,
        graphs=graphs,
        class_names=(name, "dog", "emu"),
        trained_on={name: 3, "dog": 9},
        recipe=name,
        verdict=name,
        metrics={name: name},
        dataset_sha256=name,
    )
    text = model_readme(hostile, license=name, source=name)
    assert hub(text)["tags"][0] == "ganaug"
    assert hub(text).get("license_name") == name
    shown = page(text)
    line = " ".join(name.split())
    assert shown.text.count(line) >= 7
    assert not {"b", "del"} & {tag for tag, _ in shown.elements}
    assert [attributes["href"] for attributes in shown.all("a")] == []
    # One picture, one block of code, and the two tables with their lines.
    assert [len(shown.all(tag)) for tag in ("img", "pre", "table", "tr")] == [1, 1, 2, 5]


@pytest.mark.parametrize("name", ["cat", 'quo"te\\', "é`'", "l\nine", "\U0001f600", "{x}"])
def test_the_lines_of_code_work_in_the_folder(write_model, tmp_path, monkeypatch, name):
    card = write_model(tmp_path / "model", class_names=(name, "dog", "emu"))
    text = model_readme(about(card, trained_on={name: 3, "dog": 10}), license="mit")
    monkeypatch.chdir(tmp_path / "model")
    space = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], space)
    np.testing.assert_array_equal(space["images"], ganaug.load(".").sample(name, 16))
    assert "uint8 (16, 8, 8, 1)" in text
    assert len(list((tmp_path / "model" / "images" / "data").iterdir())) == 1


def test_the_card_alone_is_enough_and_no_tables_are_loaded(tiny_model):
    script = (
        "import sys; from pathlib import Path; from ganaug.card import ModelCard\n"
        "from ganaug.model_readme import model_readme\n"
        f"model_readme(ModelCard.load(Path({str(tiny_model)!r})), license='mit')\n"
        "print([name for name in ('pandas', 'pyarrow', 'onnxruntime', 'torch') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_the_same_card_gives_the_same_text(card, tmp_path):
    card.save(tmp_path)
    assert model_readme(card, license="mit") == model_readme(ModelCard.load(tmp_path), license="mit")
