"""README.md and samples.png beside a model: who writes them, what they show, and that nothing depends on them."""

import io
import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import yaml
from PIL import Image
from support.productions import tree

import ganaug
from ganaug import cli, config, store
from ganaug.card import ModelCard
from ganaug.errors import ModelError
from ganaug.model_page import write_model_page
from ganaug.model_readme import model_readme
from ganaug.plan import make_plan
from ganaug.run import RunFolder, StepRecord, perform
from ganaug.sample_sheet import COLUMNS, MOST_ROWS
from ganaug.steps import STEPS

PAGE = {"README.md", "samples.png"}
STEP_PX = 60
"""From an image on the sheet to the next."""


def license_of(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])["license"]


def first_of_row(sheet, row):
    """The first image of a row, a pixel of the sheet for each of its own; for images of 8 x 8 px."""
    pixels = np.array(Image.open(io.BytesIO(sheet)).convert("L"))
    left, top = pixels.shape[1] - COLUMNS * STEP_PX, row * STEP_PX
    return pixels[top + 3 : top + 56 : 7, left + 3 : left + 56 : 7]


@pytest.fixture
def run(tmp_path, write_model):
    """A run whose evaluation says that the images of its base GAN help; `publish` is to be done."""
    chosen = config.load(None, {"name": "pets", "publish.store": str(tmp_path / "exported")})
    made = RunFolder.create(tmp_path / "run", chosen, "f1" * 32)
    write_model(made.path("export", "base"))
    for step, part in (("plan", ""), ("export", "base"), ("export", "classifiers"), ("evaluate", "")):
        made.path(step, part).mkdir(parents=True, exist_ok=True)
        record = StepRecord(step, part, "key", {}, 1.0, 0, {})
        (made.path(step, part) / "step.json").write_text(json.dumps(asdict(record)))
    make_plan(np.array([9, 9, 9]), ("cat", "dog", "emu"), chosen.plan).save(made.path("plan"))
    verdict = {"verdict": "helps", "after": "synthetic", "difference": 0.02, "low": 0.01, "high": 0.03}
    (made.path("evaluate") / "verdict.json").write_text(json.dumps(verdict))
    return made


def publish(run, **settings):
    chosen = run.config.model_copy(update={"publish": run.config.publish.model_copy(update=settings)})
    result = perform(RunFolder(run.folder, chosen, run.fingerprint), STEPS["publish"]).record.summary
    assert result["published"]
    return run.config.publish.store / "pets" / str(result["version"])


def test_a_published_version_has_its_page_with_name_number_verdict_and_licence(run):
    folder = publish(run, license="cc-by-4.0", source="From a zoo.")
    card = ModelCard.load(folder)
    assert (folder / "README.md").read_text() == model_readme(card, license="cc-by-4.0", source="From a zoo.")
    text = (folder / "README.md").read_text()
    assert "# pets@1" in text
    assert "**helps (+2.0 points" in text
    assert {path.name for path in folder.iterdir()} == {"card.json", "base.onnx"} | PAGE


def test_the_licence_is_unknown_until_it_is_said(run):
    assert license_of(publish(run)) == "unknown"


def test_published_again_under_another_licence_it_is_the_same_version_with_another_page(run):
    folder = publish(run)
    before = tree(folder)
    assert publish(run, license="mit") == folder
    after = tree(folder)
    assert license_of(folder) == "mit"
    assert {name for name in before if before[name] != after[name]} == {"README.md"}


def test_the_samples_are_the_first_images_of_each_class_of_the_generator(run):
    folder = publish(run)
    generator = ganaug.load(folder, device="cpu")
    for row, name in enumerate(generator.class_names):
        shown = first_of_row((folder / "samples.png").read_bytes(), row)
        np.testing.assert_array_equal(shown, generator.sample(name, 1)[0, :, :, 0])


def test_the_same_model_has_the_same_page_to_the_byte(tiny_pair_model, tmp_path):
    card = ModelCard.load(tiny_pair_model)
    pages = []
    for _ in range(2):
        write_model_page(tiny_pair_model, card, license="mit")
        pages.append(tree(tiny_pair_model))
    assert pages[0] == pages[1]
    assert pages[0].keys() == {"card.json", "generator.onnx"} | PAGE


def test_a_sheet_of_many_classes_shows_the_first_and_the_page_says_so(tmp_path, write_model):
    names = tuple(f"class {number}" for number in range(MOST_ROWS + 3))
    card = write_model(tmp_path, class_names=names, class_ids=range(len(names)))
    write_model_page(tmp_path, card, license="mit")
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.height == MOST_ROWS * STEP_PX
    assert f"the first {MOST_ROWS} classes" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("name", ["l\nine", "x" * 300, "", "日本語"])
def test_no_class_name_keeps_the_sheet_from_being_drawn(tmp_path, write_model, name):
    card = write_model(tmp_path, class_names=(name, "dog", "emu"))
    write_model_page(tmp_path, card, license="mit")
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.height == 3 * STEP_PX


@pytest.mark.parametrize("damage", ["absent", "damaged", "folders"])
def test_no_model_depends_on_its_page(run, damage):
    folder = publish(run)
    for name in PAGE:
        (folder / name).unlink()
        if damage == "damaged":
            (folder / name).write_bytes(b"\xff\x00")
        if damage == "folders":
            (folder / name).mkdir()
    assert store.verify(folder).version == 1
    [entry] = store.list_models(folder.parents[1])
    assert entry.problem is None
    assert len(ganaug.load(folder).sample("cat", 2)) == 2


def test_a_model_that_cannot_make_its_samples_is_not_published(tmp_path, write_model, run):
    write_model(run.path("export", "base"), change=lambda model: b"not an onnx file")
    with pytest.raises(ModelError, match="not a graph that ONNX Runtime can run"):
        publish(run)
    assert store.list_models(tmp_path / "exported") == []


def test_a_full_disk_is_a_clear_error_and_the_model_stays(tiny_model):
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from ganaug.card import ModelCard\n"
        "from ganaug.errors import OutputError\n"
        "from ganaug.model_page import write_model_page\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try:\n"
        "    write_model_page(Path(sys.argv[1]), ModelCard.load(Path(sys.argv[1])), license='mit')\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, tiny_model], capture_output=True, text=True, check=True
    )
    assert "cannot write to" in said.stdout
    assert store.verify(tiny_model).name == "tiny"


# `ganaug card`.


@pytest.fixture
def command(monkeypatch, capsys):
    """Give a command; returns its exit code and what it said on both outputs."""

    def give(*words):
        monkeypatch.setattr(sys, "argv", ["ganaug", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return give


def test_the_command_writes_the_page_of_any_model_and_writes_it_anew(command, tiny_model):
    code, said, wrong = command("card", tiny_model)
    assert (code, wrong) == (0, "")
    assert said.strip() == f"README.md (licence unknown) and samples.png in {tiny_model}"
    command("card", tiny_model, "--license", "cc-by-4.0", "--source", "From a zoo.")
    card = ModelCard.load(tiny_model)
    wanted = model_readme(card, license="cc-by-4.0", source="From a zoo.")
    assert (tiny_model / "README.md").read_text() == wanted


def test_the_command_prints_the_page_and_writes_nothing(command, tiny_model):
    before = tree(tiny_model)
    code, said, _ = command("card", tiny_model, "--license", "mit", "--print")
    assert (code, said) == (0, model_readme(ModelCard.load(tiny_model), license="mit"))
    assert tree(tiny_model) == before


def test_the_command_names_a_model_that_is_not_there(command):
    code, _, wrong = command("card", "nobody")
    assert code == 1
    assert "there is no model 'nobody'" in wrong


# The model that ships.


def test_the_shipped_model_has_a_page_that_is_right_and_names_the_source_of_its_images():
    folder = store.resolve("exported/digits@1", store.packaged_store())
    text = (folder / "README.md").read_text()
    before, after = model_readme(ModelCard.load(folder), license="cc-by-4.0", source="SOURCE").split("SOURCE")
    assert text.startswith(before)
    assert text.endswith(after)
    assert "E. Alpaydin and C. Kaynak" in text
    assert "licence CC BY 4.0" in text
    generator = ganaug.load(folder, device="cpu")
    for row, name in enumerate(generator.class_names):
        shown = first_of_row((folder / "samples.png").read_bytes(), row)
        np.testing.assert_array_equal(shown, generator.sample(name, 1)[0, :, :, 0])
