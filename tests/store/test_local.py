import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import ganaug
from ganaug import store
from ganaug.card import ModelCard
from ganaug.errors import ModelError, OutputError
from ganaug.generate import Generator


@pytest.fixture
def shelf(tmp_path, tiny_model):
    """A store with three versions of one model, the last one current."""
    for _ in range(3):
        store.publish(tiny_model, tmp_path / "exported", "pets")
    return tmp_path / "exported"


def pointer(shelf):
    return json.loads((shelf / "pets" / "current.json").read_text())["version"]


def test_versions_are_numbered_and_the_last_published_is_current(shelf, tiny_model):
    assert [entry.version for entry in store.list_models(shelf)] == [1, 2, 3]
    assert store.resolve("pets", shelf) == shelf / "pets" / "3"
    card = ModelCard.load(shelf / "pets" / "2")
    assert (card.name, card.version) == ("pets", 2)
    assert ModelCard.load(tiny_model).version is None


def test_a_name_a_version_and_folders_all_lead_to_the_model(shelf, tiny_model, monkeypatch):
    monkeypatch.chdir(shelf.parent)
    for asked in ("pets@2", "exported/pets@2", "exported/pets/2", shelf / "pets" / "2"):
        assert store.resolve(asked).resolve() == shelf / "pets" / "2"
    for asked in ("pets", "exported/pets", Path("exported/pets")):
        assert store.resolve(asked).resolve() == shelf / "pets" / "3"
    assert store.resolve(tiny_model) == tiny_model


@pytest.mark.parametrize("asked", ["yaks", "pets@9", "exported/yaks", "", "pets@0"])
def test_what_is_not_there_is_a_clear_error(shelf, asked, monkeypatch):
    monkeypatch.chdir(shelf.parent)
    with pytest.raises(ModelError, match=r"there is no model|has no version"):
        store.resolve(asked)


def test_an_unknown_name_comes_with_those_that_there_are(shelf):
    with pytest.raises(ModelError, match="pets"):
        store.resolve("pet", shelf)


def test_a_missing_pointer_is_told(shelf):
    (shelf / "pets" / "current.json").unlink()
    with pytest.raises(ModelError, match="no current version"):
        store.resolve("pets", shelf)


def test_rolling_back_to_a_damaged_version_is_refused(shelf):
    (shelf / "pets" / "1" / "generator.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match="damaged or swapped"):
        store.rollback(shelf, "pets", 1)
    assert pointer(shelf) == 3


def test_the_list_tells_damage_and_goes_on(shelf):
    (shelf / "pets" / "1" / "card.json").write_text("{")
    (shelf / "pets" / "2" / "generator.onnx").unlink()
    first, second, third = store.list_models(shelf)
    assert "not JSON" in first.problem
    assert first.class_names == ()
    assert "cannot be read" in second.problem
    assert (third.problem, third.recipe, third.verdict) == (None, "linear", "")
    with pytest.raises(ModelError):
        store.verify("pets@2", shelf)


def test_a_damaged_model_is_not_published(tmp_path, tiny_model):
    (tiny_model / "generator.onnx").write_bytes(b"x")
    with pytest.raises(ModelError):
        store.publish(tiny_model, tmp_path / "exported", "pets")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a@1", "x" * 101, "a\nb"])
def test_a_name_that_would_leave_the_store_is_refused(tmp_path, tiny_model, name):
    with pytest.raises(ModelError, match="cannot be the name"):
        store.publish(tiny_model, tmp_path / "exported", name)


def test_a_store_that_cannot_be_written_is_a_clear_error(tmp_path, tiny_model):
    (tmp_path / "exported").write_text("a file")
    with pytest.raises(OutputError, match="cannot write"):
        store.publish(tiny_model, tmp_path / "exported", "pets")


def test_what_a_killed_publisher_left_is_no_version_and_is_swept(shelf, tiny_model):
    left = shelf / "pets" / ".incoming-1-dead"
    shutil.copytree(tiny_model, left)
    assert len(store.list_models(shelf)) == 3
    os.utime(left, (0, 0))
    assert store.publish(tiny_model, shelf, "pets") == 4
    assert not left.exists()


def test_publishers_at_once_get_versions_of_their_own(tmp_path, tiny_model):
    shelf = tmp_path / "exported"
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda _: store.publish(tiny_model, shelf, "pets"), range(24)))
    assert sorted(versions) == list(range(1, 25))
    assert pointer(shelf) == 24
    entries = store.list_models(shelf)
    assert [entry.card.version for entry in entries] == list(range(1, 25))
    assert all(entry.problem is None for entry in entries)
    assert list((shelf / "pets").glob(".incoming*")) == []


def test_base_and_specialists_become_one_model(tmp_path, write_model):
    write_model(tmp_path / "base", exemplar_counts=(4, 2, 3))
    write_model(tmp_path / "emu", class_ids=(2,), exemplar_counts=(3,), seed=1)
    out = tmp_path / "model"
    card = store.assemble_model(
        [tmp_path / "base", tmp_path / "emu"], out, name="pets", verdict="helps", metrics={"difference": 0.02}
    )
    assert [graph.file for graph in card.graphs] == ["base.onnx", "002-emu.onnx"]
    assert (card.name, card.verdict, card.metrics) == ("pets", "helps", {"difference": 0.02})
    model, base, emu = (Generator.open(folder) for folder in (out, tmp_path / "base", tmp_path / "emu"))
    assert model.class_names == ("cat", "dog", "emu")
    np.testing.assert_array_equal(model.sample("emu", 4), emu.sample("emu", 4))
    np.testing.assert_array_equal(model.sample("cat", 4), base.sample("cat", 4))
    assert not np.array_equal(model.sample("emu", 4), base.sample("emu", 4))


def test_two_specialists_of_one_class_are_refused(tmp_path, write_model):
    for name, ids in (("base", (0, 1, 2)), ("one", (2,)), ("two", (2,))):
        write_model(tmp_path / name, class_ids=ids)
    with pytest.raises(ModelError, match="another specialist"):
        store.assemble_model([tmp_path / name for name in ("base", "one", "two")], tmp_path / "m", name="m")


def test_parts_of_another_dataset_are_refused(tmp_path, write_model):
    write_model(tmp_path / "base")
    write_model(tmp_path / "other", class_names=("cat", "dog", "yak"), class_ids=(2,))
    with pytest.raises(ModelError, match="does not belong to the base: its class_names"):
        store.assemble_model([tmp_path / "base", tmp_path / "other"], tmp_path / "m", name="m")


@pytest.mark.parametrize("place", ["site/ganaug/exported", "site/exported"], ids=["wheel", "checkout"])
def test_ganaug_brings_models_which_a_store_in_the_working_directory_outranks(
    tmp_path, tiny_model, write_model, place
):
    site = tmp_path / "site"
    shutil.copytree(
        Path(ganaug.__file__).parent,
        site / "ganaug",
        ignore=shutil.ignore_patterns("__pycache__", "exported"),
    )
    store.publish(tiny_model, tmp_path / place, "pets")
    write_model(tmp_path / "own", image_shape=(8, 16, 1))
    store.publish(tmp_path / "own", tmp_path / "home" / "exported", "pets")
    (tmp_path / "away").mkdir()
    script = (
        "import os, ganaug\n"
        "for folder in ('away', 'home'):\n"
        "    os.chdir(folder)\n"
        "    for name in ('pets', 'exported/pets', 'exported/pets@1', 'exported/pets/1'):\n"
        "        print(folder, *ganaug.load(name).image_shape)\n"
        "    os.chdir('..')\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert said == ["away 8 8 1"] * 4 + ["home 8 16 1"] * 4
