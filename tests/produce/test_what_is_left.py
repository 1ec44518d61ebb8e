"""What a production leaves is what its readers expect: images, manifest, dataset card and sheets."""

import gc
import io
import json
import warnings

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from support.productions import SCREENER, manifest_rows, order, tree

from ganaug import cli
from ganaug.formats import FORMATS
from ganaug.generate import Generator
from ganaug.produce import open_shards, produce
from ganaug.produce.finish import COLUMNS
from ganaug.produce.manifest import SCHEMA

COUNTS = {"cat": 40, "emu": 25}
NAMES = ["cat", "dog", "emu"]


@pytest.fixture
def rgb(write_model, tmp_path):
    """The folder of a model of 8 x 6 px RGB."""
    write_model(tmp_path / "rgb", image_shape=(8, 6, 3))
    return tmp_path / "rgb"


@pytest.fixture
def wanted(rgb):
    """Class id and pixels of every image of COUNTS, in the order of class and index."""
    generator = Generator.open(rgb, device="cpu")
    return [
        (NAMES.index(name), image)
        for name, count in COUNTS.items()
        for image in generator.sample(name, count)
    ]


def assert_same(found, wanted):
    """The same images under the same class ids, in the same order."""
    assert [class_id for class_id, _ in found] == [class_id for class_id, _ in wanted]
    for (_, one), (_, other) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["parquet", "folder"])
def test_datasets_opens_the_folder_as_labelled_images(rgb, wanted, tmp_path, out, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets
    produce(order(rgb, out, counts=COUNTS, format=name))
    datasets.disable_progress_bars()
    data = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    names = data.features["label"].names
    # A folder of images names the classes that it has, in alphabetical order.
    found = [(NAMES.index(names[row["label"]]), np.array(row["image"])) for row in data]
    assert_same(found, wanted)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_webdataset_and_a_torch_loader_give_every_image_once(rgb, wanted, out):
    import webdataset
    from torch.utils.data import DataLoader

    produce(order(rgb, out, counts=COUNTS, format="webdataset"))
    shards = sorted(str(path) for path in (out / "data").glob("*.tar"))
    data = webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8").to_tuple("png", "cls", "json")
    data = data.map_tuple(np.array)
    loaded = DataLoader(data, batch_size=None)
    found = [(int(class_id), image.numpy(), about["index"]) for image, class_id, about in loaded]
    # It leaves its files to the garbage collector.
    gc.collect()
    assert_same([(class_id, image) for class_id, image, _ in found], wanted)
    assert [index for _, _, index in found] == [*range(40), *range(25)]


def test_numpy_opens_the_arrays_without_pickle(rgb, wanted, out):
    produce(order(rgb, out, counts=COUNTS, format="npz"))
    found = []
    for path in sorted((out / "data").iterdir()):
        with np.load(path, allow_pickle=False) as arrays:
            assert arrays["class_names"].tolist() == NAMES
            found += zip(arrays["labels"].tolist(), arrays["images"], strict=True)
    assert_same(found, wanted)
    assert sum(len(shard) for shard in open_shards(out)) == 65


@pytest.mark.parametrize("name", FORMATS)
def test_the_manifest_is_one_table_and_says_where_each_image_lies(rgb, out, name):
    produce(order(rgb, out, counts=COUNTS, format=name, seed=5, truncation=0.7))
    table = pd.read_parquet(out / "manifest")
    assert list(table.columns) == SCHEMA.names
    assert table.groupby("class_name").size().to_dict() == COUNTS
    for _, rows in table.groupby("class_name"):
        assert rows["index"].tolist() == list(range(len(rows)))
    assert set(table["seed"]) == {5}
    assert set(table["truncation"]) == {0.7}
    assert set(table["model_sha256"]) == {Generator.open(rgb).model_sha256("cat")}
    assert table["kept"].all()
    assert not table.duplicated(["file", "row"]).any()
    held = {str(path.relative_to(out)) for path in (out / "data").rglob("*") if path.is_file()}
    assert set(table["file"]) == held


def test_the_manifest_of_a_screened_production_has_every_image_that_was_tried(rgb, out, small_screener):
    result = produce(order(rgb, out, counts=COUNTS, screener=SCREENER))
    table = pd.read_parquet(out / "manifest")
    for name, tally in result.classes.items():
        rows = table[table["class_name"] == name]
        assert len(rows) == tally.tried
        assert rows["kept"].sum() == tally.kept == tally.tried - sum(tally.rejected.values())
        assert rows.loc[~rows["kept"], "reason"].value_counts().to_dict() == dict(tally.rejected)
    rejected = table[~table["kept"]]
    assert (table.loc[table["kept"], "reason"] == "").all()
    assert rejected[["file", "row", "code"]].isna().all(axis=None)
    assert table[["confidence", "realism", "real_distance", "nearest_real", "cluster"]].notna().all(axis=None)


def test_the_counts_are_the_same_wherever_they_are_told(rgb, out, small_screener):
    result = produce(order(rgb, out, counts=COUNTS, screener=SCREENER))
    about = json.loads((out / "production.json").read_text())
    text = (out / "README.md").read_text()
    for name, tally in result.classes.items():
        if not tally.wanted:
            continue
        assert about["classes"][name] == tally.plain()
        numbers = [tally.kept, tally.tried, *tally.rejected.values()]
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert sorted(filter(None, map(int, row.strip("|").split("|")[1:]))) == sorted(filter(None, numbers))
    assert sum(row["kept"] for row in manifest_rows(out)) == sum(t.kept for t in result.classes.values())


@pytest.mark.parametrize("name", FORMATS)
def test_the_card_begins_with_what_a_hub_reads(rgb, out, name):
    produce(order(rgb, out, counts=COUNTS, format=name, license="cc-by-4.0"))
    text = (out / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": FORMATS[name].pattern}]
    assert "Every image here is synthetic" in text
    assert "cat" in text
    assert "dog" not in text


def test_the_sheets_are_images_of_what_was_kept_and_of_what_was_not(rgb, out, small_screener):
    produce(order(rgb, out, counts=COUNTS, screener=SCREENER))
    text = (out / "README.md").read_text()
    sizes = []
    for name in ("kept", "rejected"):
        with Image.open(out / "sheets" / f"{name}.png") as sheet:
            sheet.load()
            sizes.append(sheet.size)
        assert f"(sheets/{name}.png)" in text
    reasons = {row["reason"] for row in manifest_rows(out)} - {""}
    (width, kept), (_, rejected) = sizes
    assert width > 500
    # A row for each class, and for each reason.
    assert kept * len(reasons) == rejected * len(COUNTS)


def test_a_production_without_a_screen_has_no_sheet_of_rejected_images(rgb, out):
    produce(order(rgb, out, counts=COUNTS))
    assert [path.name for path in (out / "sheets").iterdir()] == ["kept.png"]
    assert "Rejected" not in (out / "README.md").read_text()


def test_samples_on_the_sheet_are_those_of_the_model(rgb, out):
    produce(order(rgb, out, counts={"emu": 20}))
    image = Generator.open(rgb, device="cpu").sample("emu", 1)[0]
    with Image.open(io.BytesIO(tree(out)["sheets/kept.png"])) as sheet:
        pixels = np.array(sheet)
    # The first image stands right of the name, enlarged sevenfold without smoothing.
    first = pixels[:, pixels.shape[1] - COLUMNS * len(pixels) :]
    np.testing.assert_array_equal(first[3 : 8 * 7 : 7, 3 : 6 * 7 : 7], image)


@pytest.mark.parametrize("name", FORMATS)
def test_class_names_that_no_file_system_takes_are_kept_in_what_is_left(write_model, tmp_path, out, name):
    names = ("a/b", "..", "CON")
    write_model(tmp_path / "hostile", class_names=names)
    produce(order(tmp_path / "hostile", out, count=5, format=name))
    assert {row["class_name"] for row in manifest_rows(out)} == set(names)
    for path in out.rglob("*"):
        assert path.resolve().is_relative_to(out.resolve())
    held = [path for path in (out / "data").rglob("*") if path.is_file()]
    assert len(held) == (15 if name == "folder" else 3)
    assert len({path.parent for path in held}) == (3 if name == "folder" else 1)


@pytest.mark.parametrize(
    ("changes", "channels", "said"),
    [
        ({"encoding": "jpeg"}, 4, "encoding: jpeg cannot hold images of 4 channels; png, raw can"),
        ({"encoding": "webp"}, 1, "encoding: webp cannot hold images of 1 channels; png, jpeg, raw can"),
    ],
)
def test_an_encoding_that_cannot_hold_the_images_is_refused_with_those_that_can(
    write_model, tmp_path, out, capsys, monkeypatch, changes, channels, said
):
    write_model(tmp_path / "model", image_shape=(8, 8, channels))
    words = ["--model", str(tmp_path / "model"), "--out", str(out), "--count", "5", "--device", "cpu"]
    words += [word for key, value in changes.items() for word in (f"--{key}", value)]
    monkeypatch.setattr("sys.argv", ["ganaug", "produce", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
