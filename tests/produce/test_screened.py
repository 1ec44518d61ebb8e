"""Production through a real screener, and images that something else made."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from support.productions import images_of, manifest_rows, order, tree
from support.screening import PLAIN, bright_and_dark, make_screener

from ganaug.config import ScreenConfig
from ganaug.errors import DatasetError, SettingsError
from ganaug.formats import ENCODINGS
from ganaug.generate import Generator
from ganaug.produce import produce, reproduce

NAMES = ("dark", "bright")


@pytest.fixture
def model(tmp_path, write_model):
    """A model of dark and bright: noise around a level of each."""
    write_model(tmp_path / "model", class_ids=(0, 1), class_names=NAMES, exemplar_counts=(6, 6))
    return tmp_path / "model"


@pytest.fixture
def real():
    return bright_and_dark(40, 40, np.random.default_rng(0))


@pytest.fixture
def screener(tmp_path, real):
    make_screener(tmp_path, real, PLAIN)
    return tmp_path / "screener"


def screened(model, out, screener, **changes):
    return order(model, out, screener=screener, **changes)


def test_what_is_kept_is_what_the_screen_keeps_of_the_same_images(model, screener, tmp_path):
    from ganaug.screen import Screener

    result = produce(screened(model, tmp_path / "out", screener, count=100))
    images = Generator.open(model).sample("bright", 100)
    screen = Screener.open(screener).for_class(1)
    reasons = screen.decide(screen.look(images))
    rows = [row for row in manifest_rows(tmp_path / "out") if row["class_name"] == "bright"]
    assert [row["reason"] for row in sorted(rows, key=lambda row: row["index"])] == reasons.tolist()
    assert 0 < result.classes["bright"].kept < 100
    kept = images_of(tmp_path / "out")
    for index in np.flatnonzero(reasons == ""):
        assert kept["bright", index] == images[index].tobytes()
    assert (tmp_path / "out" / "sheets" / "rejected.png").is_file()


@pytest.mark.parametrize("how", [{"batch": 3}, {"workers": 1}, {"shard_images": 16, "workers": 3}], ids=str)
def test_batches_and_threads_decide_nothing(how, model, screener, tmp_path):
    produce(screened(model, tmp_path / "one", screener, count=120))
    produce(screened(model, tmp_path / "other", screener, count=120, **how))
    assert tree(tmp_path / "one") == tree(tmp_path / "other")


def test_a_shard_that_is_lost_is_made_again_as_it_was(model, screener, tmp_path):
    asked = screened(model, tmp_path / "out", screener, count=120)
    produce(asked)
    before = tree(tmp_path / "out")
    (tmp_path / "out" / "data" / "001-bright-00002.npz").unlink()
    (tmp_path / "out" / "manifest" / "000-dark-00001.parquet").unlink()
    assert 0 < produce(asked).made < 50
    assert tree(tmp_path / "out") == before


def test_until_so_many_are_kept(model, screener, tmp_path):
    asked = screened(model, tmp_path / "out", screener, counts={"bright": 20}, until_kept=True)
    result = produce(asked)
    assert result.classes["bright"].kept == 20
    assert result.classes["bright"].tried > 20
    assert not result.unfilled


def test_a_screener_of_another_dataset_is_refused(tiny_model, screener, tmp_path):
    with pytest.raises(
        SettingsError, match=r"judges classes .*'dark', 'bright'.* take the screener of the run"
    ):
        produce(screened(tiny_model, tmp_path / "out", screener, count=10))


def write_folder(folder, images, class_ids):
    for number, (image, class_id) in enumerate(zip(images, class_ids, strict=True)):
        path = folder / NAMES[class_id] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ENCODINGS["png"].encode(image[None], 100)[0])


def found(images, out, screener, **changes):
    return order("", out, images=images, screener=screener, **changes)


def test_images_of_a_folder_are_judged_and_the_kept_ones_written(real, screener, tmp_path):
    fresh = bright_and_dark(15, 15, np.random.default_rng(1))
    images = np.concatenate([fresh.images, real.images[-3:], fresh.images[:2]])
    class_ids = [0] * 15 + [1] * 15 + [1] * 3 + [1] * 2  # the last two dark ones lie among the bright
    write_folder(tmp_path / "theirs", images, class_ids)
    result = produce(found(tmp_path / "theirs", tmp_path / "out", screener))
    assert [result.classes[name].tried for name in NAMES] == [15, 20]
    assert min(result.classes[name].kept for name in NAMES) >= 12
    rows = pd.DataFrame(manifest_rows(tmp_path / "out")).set_index("origin")
    assert set(rows.index) >= {"bright/0030.png", "dark/0000.png"}
    assert [rows["reason"][f"bright/00{number}.png"] for number in range(30, 35)] == [
        *["copy of a real image"] * 3,
        *["wrong label"] * 2,
    ]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Something else made them" in card
    with pytest.raises(DatasetError, match="not made by a model of ganaug"):
        reproduce(tmp_path / "out", 0)


@pytest.mark.parametrize("form", ["parquet", "folder", "npz", "webdataset"])
def test_a_production_can_be_judged_again_as_a_whole(form, model, screener, tmp_path):
    produce(order(model, tmp_path / "parts", count=100, format=form, parts=3))
    again = produce(found(tmp_path / "parts", tmp_path / "again", screener))
    at_once = produce(screened(model, tmp_path / "once", screener, count=100))
    for name in NAMES:
        assert again.classes[name].rejected == at_once.classes[name].rejected
    assert images_of(tmp_path / "again") == images_of(tmp_path / "once")


def test_classes_that_the_screener_does_not_know_are_named(screener, tmp_path):
    write_folder(tmp_path / "theirs", bright_and_dark(2, 2, np.random.default_rng(1)).images, [0, 0, 1, 1])
    shutil.copytree(tmp_path / "theirs" / "dark", tmp_path / "theirs" / "emu")
    with pytest.raises(DatasetError, match="does not know: emu; it knows dark, bright"):
        produce(found(tmp_path / "theirs", tmp_path / "out", screener))


def test_a_production_of_another_size_is_refused(screener, tmp_path, write_model):
    write_model(tmp_path / "large", class_ids=(0, 1), class_names=NAMES, image_shape=(16, 16, 1))
    produce(order(tmp_path / "large", tmp_path / "parts", count=4))
    with pytest.raises(DatasetError, match=r"shape \[16, 16, 1\].*judges \[8, 8, 1\]"):
        produce(found(tmp_path / "parts", tmp_path / "out", screener))


def test_the_settings_of_the_screener_count(model, real, tmp_path):
    make_screener(tmp_path / "a", real, PLAIN)
    make_screener(
        tmp_path / "b", real, ScreenConfig(min_confidence=0.6, min_realism=0.0, quota=0.0, min_distance=0)
    )
    strict = produce(screened(model, tmp_path / "out", tmp_path / "a" / "screener", count=100))
    loose = produce(screened(model, tmp_path / "out-b", tmp_path / "b" / "screener", count=100))
    assert loose.classes["bright"].kept > strict.classes["bright"].kept
    with pytest.raises(SettingsError, match="screener_sha256"):
        produce(screened(model, tmp_path / "out", tmp_path / "b" / "screener", count=100))


def test_what_was_asked_stands_beside_the_images(model, screener, tmp_path):
    result = produce(screened(model, tmp_path / "out", screener, count=50))
    about = json.loads((tmp_path / "out" / "production.json").read_text())
    assert about["state"] == "finished"
    assert about["classes"]["dark"]["kept"] == result.classes["dark"].kept
