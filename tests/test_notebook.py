"""What a notebook shows of a model: samples and facts in HTML that needs nothing beside it and never fails."""

import base64
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.page import Page

from ganaug.generate import Generator
from ganaug.notebook import COLUMNS, FEWEST_COLUMNS, MOST_CLASSES

HOSTILE = ("<script>alert(1)</script>", '" onload="x', "a&amp;b", "l\nine", "</table>")


def show(generator):
    return Page(generator._repr_html_())


def pictures(page):
    """The images, (height, width) or with channels, by their alternative text."""
    return {attributes["alt"]: decoded(attributes["src"]) for attributes in page.all("img")}


def decoded(source):
    kind, _, content = source.partition(",")
    assert kind == "data:image/png;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.fixture(params=["tiny_model", "tiny_pair_model"])
def generator(request):
    return Generator.open(request.getfixturevalue(request.param), device="cpu")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_each_class_has_a_row_of_the_generators_own_first_images(write_model, tmp_path, channels):
    write_model(tmp_path, image_shape=(9, 12, channels))
    generator = Generator.open(tmp_path, device="cpu")
    page = show(generator)
    assert page.open == []
    shown = pictures(page)
    assert len(shown) == 3 * COLUMNS
    for name in ("cat", "dog", "emu"):
        for index, image in enumerate(generator.sample(name, COLUMNS)):
            pixels = shown[f"{name}, image {index}"]
            np.testing.assert_array_equal(pixels.reshape(image.shape), image)


def test_small_images_are_shown_large_with_square_pixels(generator):
    page = show(generator)
    assert {(image["width"], image["height"]) for image in page.all("img")} == {("56", "56")}
    assert "image-rendering: pixelated" in generator._repr_html_()


def test_the_facts_of_the_card_stand_beside(generator):
    card = generator.card.model_copy(
        update={
            "version": 3,
            "trained_on": {"cat": 5, "dog": 40, "emu": 5},
            "verdict": "helps",
            "metrics": {"difference": 0.02, "low": 0.01, "high": 0.03},
        }
    )
    text = show(Generator(generator.folder, card, device="cpu")).text
    for fact in (
        "tiny@3",
        "classes 3: cat, dog, emu",
        "images 8 x 8 px (width x height), grey",
        "recipe linear",
        "trained on 50 real images; fewest of class cat, emu: 5 each",
        "verdict helps (+2.0 points of macro-F1, interval +1.0 to +3.0)",
        f"SHA-256 generator.onnx {card.graphs[0].sha256[:12]}",
        "The first 8 images of each class, seed 0",
    ):
        assert fact in text, fact


def test_what_is_not_known_is_said(generator):
    text = show(generator).text
    assert "trained on not recorded" in text
    assert "verdict not evaluated" in text


def test_names_from_elsewhere_are_shown_as_they_are(write_model, tmp_path):
    card = write_model(tmp_path, class_names=HOSTILE, class_ids=range(len(HOSTILE)))
    hostile = card.model_copy(update={"recipe": HOSTILE[0], "verdict": HOSTILE[1]})
    page = show(Generator(tmp_path, hostile, device="cpu"))
    assert page.open == []
    for name in HOSTILE:
        assert page.text.count(" ".join(name.split())) >= 2
    assert {tag for tag, _ in page.elements} <= {
        "div", "style", "strong", "table", "caption", "tbody", "tr", "th", "td", "img",
    }  # fmt: skip
    assert all(set(attributes) == {"src", "width", "height", "alt"} for attributes in page.all("img"))


def test_many_classes_are_cut_and_the_rest_is_said(write_model, tmp_path):
    names = tuple(f"class {number}" for number in range(MOST_CLASSES + 5))
    write_model(tmp_path, class_names=names, class_ids=range(len(names)))
    page = show(Generator.open(tmp_path, device="cpu"))
    assert len(page.all("img")) == MOST_CLASSES * COLUMNS
    assert "; 5 more classes" in page.text
    assert "and 5 more" in page.text
    assert "class 24" not in page.text


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (256, 256, 4), (2, 250, 3)])
@pytest.mark.parametrize("classes", [1, 2, MOST_CLASSES])
def test_it_stays_small_even_where_images_do_not_compress(generator, shape, classes):
    names = tuple(f"{number:02d}" + "&" * 100 for number in range(classes))
    graph = generator.card.graphs[0].model_copy(update={"classes": names})
    card = generator.card.model_copy(update={"class_names": names, "graphs": (graph,), "image_shape": shape})
    rng = np.random.default_rng(0)

    class Noise(Generator):
        def make_batch(self, class_name, start, *, seed, truncation=1.0, size):
            return rng.integers(0, 256, (size, *self.image_shape), np.uint8)

    html = Noise(generator.folder, card)._repr_html_()
    page = Page(html)
    assert len(html) < 200_000
    assert classes * FEWEST_COLUMNS <= len(page.all("img")) <= classes * COLUMNS


def test_it_has_no_colours_of_its_own_and_asks_for_nothing(generator):
    html = generator._repr_html_()
    style = re.search("<style>(.*?)</style>", html, re.DOTALL)[1]
    # Half transparent grey lines show on light and on dark pages; all else is the notebook's.
    assert set(re.findall(r"(?<![\w-])(?:color|background|border-bottom): ([^;]+);", style)) == {
        "inherit", "none", "1px solid rgba(128, 128, 128, 0.3)",
    }  # fmt: skip
    assert not re.search(r"https?:|url\(|<script|<link|@import", html)


@pytest.mark.parametrize("damage", [b"x", None])
def test_a_model_that_cannot_run_shows_why_in_place_of_its_samples(tiny_model, damage):
    generator = Generator.open(tiny_model, device="cpu")
    if damage is None:
        (tiny_model / "generator.onnx").unlink()
    else:
        (tiny_model / "generator.onnx").write_bytes(damage)
    page = show(generator)
    assert page.open == []
    assert page.all("img") == []
    assert "classes 3: cat, dog, emu" in page.text
    assert "There are no samples: ModelError:" in page.text
    assert ("damaged or swapped" if damage else "cannot be read") in page.text


def test_whatever_goes_wrong_is_shown_and_not_raised(generator, monkeypatch):
    def fail(*words, **settings):
        raise MemoryError("<no room>")

    monkeypatch.setattr(generator, "make_batch", fail)
    page = show(generator)
    assert "There are no samples: MemoryError: <no room>" in page.text


def test_a_recorded_graph_is_called_with_its_own_batch_size(generator, monkeypatch):
    generator.cuda_graph = True
    sizes, made = [], generator.make_batch
    monkeypatch.setattr(
        generator,
        "make_batch",
        lambda *words, size, **more: sizes.append(size) or made(*words, size=size, **more),
    )
    page = show(generator)
    assert set(sizes) == {generator.batch}
    assert len(page.all("img")) == 3 * COLUMNS


def test_showing_a_model_loads_no_torch_and_no_tables(tiny_model):
    script = (
        f"import sys, ganaug; ganaug.load({str(tiny_model)!r})._repr_html_()\n"
        "print([name for name in ('pandas', 'pyarrow', 'torch', 'prefect') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
