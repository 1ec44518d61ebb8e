"""An image depends on model, class, seed, index and truncation; on nothing else, and on each of them."""

import itertools
import json

import numpy as np
import pytest
from support.productions import SCREENER, images_of, manifest_rows, order, tree

from ganaug.errors import DatasetError, ModelError
from ganaug.formats import ENCODINGS, FORMATS
from ganaug.generate import Generator
from ganaug.produce import produce, reproduce

COUNTS = {"cat": 70, "emu": 41}
LAYOUTS = [(name, encoding) for name, one in FORMATS.items() for encoding in one.encodings]
LOSSLESS = [
    (name, encoding, quality)
    for (name, encoding), quality in itertools.product(LAYOUTS, (95, 100))
    if encoding == "none" or ENCODINGS[encoding].is_lossless(quality)
]


def layout(name: str, encoding: str) -> dict:
    """Settings of a format and encoding."""
    return {"format": name, "encoding": "auto" if encoding == "none" else encoding}


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 1},
        {"batch": 7},
        {"batch": 512},
        {"workers": 1},
        {"workers": 5, "batch": 3},
        {"threads": 3},
        {"shard_images": 1},
        {"shard_images": 9, "batch": 4},
        {"shard_images": "auto"},
        {"parts": 3},
        {"counts": {"cat": 90, "dog": 5, "emu": 41}},
    ],
    ids=str,
)
def test_no_setting_of_how_it_is_made_changes_an_image(model, tmp_path, changes):
    produce(order(model, tmp_path / "one", counts=COUNTS, seed=5))
    produce(order(model, tmp_path / "other", **{"counts": COUNTS, "seed": 5, **changes}))
    one, other = images_of(tmp_path / "one"), images_of(tmp_path / "other")
    assert len(one) == 111
    assert {address: other[address] for address in one} == one


@pytest.mark.parametrize("changes", [{"batch": 1}, {"batch": 7, "threads": 2}, {"shard_images": 10}], ids=str)
def test_the_shipped_model_makes_the_same_images_however_it_is_called(tmp_path, changes):
    counts = {"3": 50, "0": 30}
    produce(order("exported/digits@1", tmp_path / "one", counts=counts, shard_images=64, batch=64))
    produce(order("exported/digits@1", tmp_path / "other", counts=counts, **changes))
    assert images_of(tmp_path / "other") == images_of(tmp_path / "one")


def test_an_image_is_the_one_that_the_generator_gives(model, out):
    produce(order(model, out, counts=COUNTS, seed=5, truncation=0.7))
    made, generator = images_of(out), Generator.open(model, device="cpu")
    for name, count in COUNTS.items():
        for index, image in enumerate(generator.sample(name, count, seed=5, truncation=0.7)):
            assert made[name, index] == image.tobytes()


@pytest.mark.parametrize("changes", [{"seed": 6}, {"truncation": 0.5}], ids=str)
def test_seed_and_truncation_change_every_image(model, tmp_path, changes):
    produce(order(model, tmp_path / "one", count=20, seed=5))
    produce(order(model, tmp_path / "other", **{"count": 20, "seed": 5, **changes}))
    one, other = images_of(tmp_path / "one"), images_of(tmp_path / "other")
    assert one.keys() == other.keys()
    assert not [address for address in one if one[address] == other[address]]


@pytest.mark.parametrize(("name", "encoding", "quality"), LOSSLESS)
def test_every_lossless_layout_holds_the_same_pixels(write_model, tmp_path, name, encoding, quality):
    write_model(tmp_path / "rgb", image_shape=(8, 6, 3))
    produce(order(tmp_path / "rgb", tmp_path / "one", counts=COUNTS))
    produce(
        order(tmp_path / "rgb", tmp_path / "other", counts=COUNTS, quality=quality, **layout(name, encoding))
    )
    assert images_of(tmp_path / "other") == images_of(tmp_path / "one")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("turns", [None, (1, 2, 3), (3, 1, 2)], ids=str)
def test_parts_leave_the_same_files_in_any_order_as_the_whole(tiny_model, tmp_path, name, turns):
    produce(order(tiny_model, tmp_path / "whole", counts=COUNTS, format=name))
    asked = order(tiny_model, tmp_path / "parts", counts=COUNTS, format=name, parts=3)
    results = [produce(asked.model_copy(update={"part": part})) for part in turns or (0,)]
    assert [result.is_finished for result in results] == [False] * (len(results) - 1) + [True]
    assert sum(result.made for result in results) == 111
    whole, parts = tree(tmp_path / "whole"), tree(tmp_path / "parts")
    for own in (".ganaug", "production.json"):
        whole, parts = (
            {path: held for path, held in one.items() if own not in path} for one in (whole, parts)
        )
    assert parts == whole


def test_another_production_of_the_same_settings_is_the_same_to_the_byte(model, tmp_path):
    for folder in ("one", "other"):
        produce(order(model, tmp_path / folder, counts=COUNTS))
    assert tree(tmp_path / "one") == tree(tmp_path / "other")


@pytest.mark.parametrize(("name", "encoding"), LAYOUTS)
def test_a_row_of_the_manifest_is_enough_to_make_its_image_again(write_model, tmp_path, out, name, encoding):
    write_model(tmp_path / "rgb", image_shape=(8, 6, 3))
    produce(order(tmp_path / "rgb", out, counts=COUNTS, seed=5, truncation=0.7, **layout(name, encoding)))
    generator = Generator.open(tmp_path / "rgb", device="cpu")
    for row in (0, 15, 16, 69, 70, 110):
        found = reproduce(out, row, device="cpu")
        class_name, index = ("cat", row) if row < 70 else ("emu", row - 70)
        assert (found.row["class_name"], found.row["index"]) == (class_name, index)
        wanted = generator.sample(class_name, 1, seed=5, start=index, truncation=0.7)[0]
        np.testing.assert_array_equal(found.image, wanted)
        assert found.is_same
        if encoding != "jpeg" and encoding != "webp":
            np.testing.assert_array_equal(found.stored, wanted)


def test_a_row_is_found_by_the_production_its_manifest_or_a_file_of_that(tiny_model, out):
    produce(order(tiny_model, out, counts=COUNTS))
    by_production = reproduce(str(out), 20, device="cpu").row
    assert by_production["file"] == "data/000-cat-00001.npz"
    assert reproduce(f"{out}/", 20, device="cpu").row == by_production
    assert reproduce(out / "manifest", 20, device="cpu").row == by_production
    assert reproduce(out / "manifest" / "000-cat-00001.parquet", 4, device="cpu").row == by_production


def test_a_rejected_image_is_made_again_with_nothing_to_compare(tiny_model, out, small_screener):
    produce(order(tiny_model, out, counts=COUNTS, screener=SCREENER))
    number, row = next((n, row) for n, row in enumerate(manifest_rows(out)) if not row["kept"])
    found = reproduce(out, number, device="cpu")
    wanted = Generator.open(tiny_model, device="cpu").sample(row["class_name"], 1, start=row["index"])[0]
    np.testing.assert_array_equal(found.image, wanted)
    assert (found.stored, found.levels, found.is_same) == (None, None, False)


def test_kept_images_of_a_screened_production_are_made_again(tiny_model, out, small_screener):
    produce(order(tiny_model, out, counts=COUNTS, screener=SCREENER))
    kept = [number for number, row in enumerate(manifest_rows(out)) if row["kept"]]
    assert 10 < len(kept) < 100
    assert all(reproduce(out, number, device="cpu").is_same for number in kept)


@pytest.mark.parametrize("row", [-1, 111])
def test_a_row_that_is_not_there_is_refused_with_those_that_are(tiny_model, out, row):
    produce(order(tiny_model, out, counts=COUNTS))
    with pytest.raises(DatasetError, match=rf"no row {row}: .* has rows 0 to 110"):
        reproduce(out, row)


def test_a_folder_that_is_no_production_is_refused(tiny_model, tmp_path, out):
    for nothing in (tmp_path, tmp_path / "gone", tiny_model):
        with pytest.raises(
            DatasetError, match=r"has no manifest/.*give a folder that `ganaug produce` wrote"
        ):
            reproduce(nothing, 0)
    (out / "manifest").mkdir(parents=True)
    (out / "manifest" / "a.parquet").write_bytes(b"no table")
    with pytest.raises(DatasetError, match=r"manifest/a\.parquet at .* is no manifest of ganaug"):
        reproduce(out, 0)
    with pytest.raises(DatasetError, match=r"has no manifest/b\.parquet"):
        reproduce(out / "manifest" / "b.parquet", 0)


def test_a_production_without_its_description_is_refused(tiny_model, out):
    produce(order(tiny_model, out, counts=COUNTS))
    (out / "production.json").unlink()
    with pytest.raises(DatasetError, match=r"has no readable production\.json"):
        reproduce(out, 0)


def test_a_model_that_moved_is_asked_for_and_then_found(tiny_model, tmp_path, out):
    produce(order(tiny_model, out, counts=COUNTS))
    tiny_model.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=r"say where it is now with --model"):
        reproduce(out, 3)
    assert reproduce(out, 3, model=tmp_path / "moved", device="cpu").is_same


def test_another_model_than_that_which_made_the_image_is_refused(tiny_model, write_model, tmp_path, out):
    produce(order(tiny_model, out, counts=COUNTS))
    write_model(tmp_path / "another", seed=1)
    with pytest.raises(ModelError, match=r"the image was made by [0-9a-f]{12}.*Say with --model which"):
        reproduce(out, 3, model=tmp_path / "another")


def spoil_npz(path):
    with np.load(path) as arrays:
        held = dict(arrays)
    held["images"][4, 2, 3] ^= 3
    np.savez(path, **held)


def spoil_png(path):
    path.write_bytes(ENCODINGS["png"].encode(np.zeros((1, 8, 8, 1), np.uint8), 100)[0])


@pytest.mark.parametrize(
    ("name", "file", "spoil"),
    [("npz", "data/000-cat-00001.npz", spoil_npz), ("folder", "data/cat/000000020.png", spoil_png)],
)
def test_a_pixel_that_was_changed_since_is_noticed(tiny_model, out, name, file, spoil):
    produce(order(tiny_model, out, counts=COUNTS, format=name))
    spoil(out / file)
    found = reproduce(out, 20, device="cpu")
    assert not found.is_same
    assert found.levels == int(np.abs(found.image.astype(int) - found.stored).max()) > 0
    assert reproduce(out, 21, device="cpu").is_same


def test_the_description_of_a_production_holds_no_time_and_no_machine(tiny_model, out):
    produce(order(tiny_model, out, counts=COUNTS))
    about = json.loads((out / "production.json").read_text())
    assert about["state"] == "finished"
    assert about["wanted"] == {"cat": 70, "dog": 0, "emu": 41}
    for word in ("time", "host", "created", "seconds", "workers", "batch"):
        assert word not in about
