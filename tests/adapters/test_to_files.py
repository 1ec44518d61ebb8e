"""`ganaug.to_parquet`, `to_imagefolder` and `to_webdataset`: what the command leaves, in one line of Python."""

import gc
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from support.productions import manifest_rows, tree

import ganaug
from ganaug import cli, store
from ganaug.config import DataConfig
from ganaug.errors import DeviceError, ModelError, SettingsError, UnknownClassError
from ganaug.readers import read
from ganaug.runtime import has_cuda

FORMATS = {"to_parquet": "parquet", "to_imagefolder": "folder", "to_webdataset": "webdataset"}
COUNTS = {"cat": 40, "emu": 25}
NAMES = ["cat", "dog", "emu"]


@pytest.fixture(params=FORMATS)
def name(request):
    """Each of the three."""
    return request.param


@pytest.fixture
def generator(write_model, tmp_path):
    """A model of 9 x 8 px RGB, of cat, dog and emu."""
    write_model(tmp_path / "rgb", image_shape=(8, 9, 3))
    return ganaug.load(tmp_path / "rgb", device="cpu")


def wanted(generator, counts=COUNTS, **settings):
    """Class id, index and pixels, in the order of class and index."""
    return [
        (NAMES.index(class_name), index, image)
        for class_name, count in counts.items()
        for index, image in enumerate(generator.sample(class_name, count, **settings))
    ]


def assert_same(found, generator):
    expected = wanted(generator)
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    for (_, _, one), (_, _, other) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["ganaug", "produce", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code


def test_each_leaves_what_the_command_leaves(generator, name, tmp_path, monkeypatch):
    result = getattr(ganaug, name)(generator, tmp_path / "python", counts=COUNTS)
    words = ["--model", generator.folder, "--out", tmp_path / "command", "--format", FORMATS[name]]
    command(monkeypatch, *words, "--counts", "cat=40,emu=25", "--device", "cpu")
    assert tree(tmp_path / "python") == tree(tmp_path / "command")
    assert (result.is_finished, result.made, result.address) == (True, 65, str(tmp_path / "python"))


def test_every_option_does_what_that_of_the_command_does(generator, name, tmp_path, monkeypatch):
    options = {
        "seed": 7,
        "truncation": 0.5,
        "encoding": "jpeg",
        "quality": 80,
        "workers": 1,
        "license": "mit",
    }
    getattr(ganaug, name)(generator.folder, str(tmp_path / "python"), counts=9, **options)
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    words += ["--model", generator.folder, "--out", tmp_path / "command", "--format", FORMATS[name]]
    command(monkeypatch, *words, "--count", 9)
    assert tree(tmp_path / "python") == tree(tmp_path / "command")
    assert len(manifest_rows(tmp_path / "python")) == 27


def test_load_dataset_opens_the_parquet_with_the_pixels_of_the_generator(generator, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets
    ganaug.to_parquet(generator, tmp_path / "images", counts=COUNTS)
    datasets.disable_progress_bars()
    data = datasets.load_dataset(str(tmp_path / "images"), split="train", cache_dir=str(tmp_path / "cache"))
    assert data.features["label"].names == NAMES
    assert_same([(row["label"], row["index"], np.array(row["image"])) for row in data], generator)


def test_a_walk_through_the_folders_finds_the_pixels_of_the_generator(generator, tmp_path):
    ganaug.to_imagefolder(generator, tmp_path / "images", counts=COUNTS)
    found = []
    for path in sorted((tmp_path / "images" / "data").glob("*/*.png")):
        with Image.open(path) as image:
            found.append((NAMES.index(path.parent.name), int(path.stem), np.array(image)))
    assert_same(found, generator)


def test_ganaug_reads_the_folder_as_a_dataset(generator, tmp_path):
    ganaug.to_imagefolder(generator, tmp_path / "images", counts=COUNTS)
    config = DataConfig(path=tmp_path / "images" / "data", size="8x9")
    data = read(config, tmp_path / "read", previews=False).data
    assert data.class_names == ("cat", "emu")
    np.testing.assert_array_equal(data.images, generator.sample(["cat", "emu"], [40, 25]))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_webdataset_gives_the_pixels_of_the_generator(generator, tmp_path):
    import webdataset

    ganaug.to_webdataset(generator, tmp_path / "images", counts=COUNTS)
    shards = sorted(str(path) for path in (tmp_path / "images" / "data").glob("*.tar"))
    data = webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8").to_tuple("png", "cls", "json")
    found = [(int(class_id), about["index"], np.array(image)) for image, class_id, about in data]
    # It leaves its files to the garbage collector.
    gc.collect()
    assert_same(found, generator)


def test_killed_and_called_again_it_leaves_the_same_bytes(generator, name, tmp_path):
    script = (
        "import os, sys, ganaug\n"
        "die = lambda done, total: os._exit(9) if done > 100 else None\n"
        "getattr(ganaug, sys.argv[1])(sys.argv[2], sys.argv[3], counts={'cat': 200, 'emu': 30}, progress=die)\n"
    )
    words = [sys.executable, "-c", script, name, generator.folder, tmp_path / "killed"]
    assert subprocess.run(words, check=False).returncode == 9
    assert not (tmp_path / "killed" / "README.md").exists()
    for folder in ("killed", "calm"):
        getattr(ganaug, name)(generator.folder, tmp_path / folder, counts={"cat": 200, "emu": 30})
    assert tree(tmp_path / "killed") == tree(tmp_path / "calm")


def test_the_same_call_again_makes_nothing_and_larger_counts_add_what_lacks(generator, name, tmp_path):
    write = getattr(ganaug, name)
    write(generator, tmp_path / "images", counts=COUNTS)
    assert write(generator, tmp_path / "images", counts=COUNTS).made == 0
    more = write(generator, tmp_path / "images", counts={**COUNTS, "dog": 5})
    assert more.made == 5
    write(generator, tmp_path / "whole", counts={**COUNTS, "dog": 5})
    assert tree(tmp_path / "images") == tree(tmp_path / "whole")


def test_progress_is_told_up_to_all_images(generator, name, tmp_path):
    heard = []
    getattr(ganaug, name)(
        generator,
        tmp_path / "images",
        counts=COUNTS,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert heard[-1] == (65, 65)
    assert heard == sorted(heard)


def test_counts_from_numpy_and_whole_numbers_as_names_are_understood(write_model, tmp_path):
    write_model(tmp_path / "model", class_names=("3", "8"), class_ids=(0, 1))
    result = ganaug.to_parquet(tmp_path / "model", tmp_path / "images", counts={3: np.int64(4), "8": 2})
    assert {name: tally.kept for name, tally in result.classes.items()} == {"3": 4, "8": 2}


def test_a_model_of_the_store_is_written_down_by_its_name_and_no_file_says_where_it_lies(
    generator, name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    store.publish(generator.folder, tmp_path / "exported", "pets")
    opened = ganaug.load(tmp_path / "exported" / "pets" / "1")
    getattr(ganaug, name)(opened, tmp_path / "images", counts=3)
    getattr(ganaug, name)("pets@1", tmp_path / "by-name", counts=3)
    assert tree(tmp_path / "images") == tree(tmp_path / "by-name")
    assert not any(str(tmp_path).encode() in content for content in tree(tmp_path / "images").values())


def test_a_generator_takes_its_device_along(generator, name, tmp_path):
    if has_cuda():
        pytest.skip("this machine has CUDA")
    asked = ganaug.load(generator.folder, device="cuda")
    with pytest.raises(DeviceError, match="device 'cuda' was asked for"):
        getattr(ganaug, name)(asked, tmp_path / "images", counts=3)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        (
            {"counts": {"yak": 3}},
            UnknownClassError,
            r"cannot generate \['yak'\]; it knows \['cat', 'dog', 'emu'\]",
        ),
        ({"counts": 0}, SettingsError, "count: 0 should be greater than 0"),
        ({"counts": {}}, SettingsError, "come to no image"),
        ({"counts": {"cat": -1}}, SettingsError, "counts: -1 should be greater than or equal to 0"),
        ({"counts": {"cat": 1.5}}, SettingsError, "counts: 1.5 should be a valid integer"),
        ({"counts": [3]}, SettingsError, r"count: \[3\] should be a valid integer"),
        ({"counts": 3, "encoding": "gif"}, SettingsError, "encoding: 'gif' should be 'auto', 'png'"),
        ({"counts": 3, "quality": 0}, SettingsError, "quality: 0"),
        ({"counts": 3, "seed": -1}, SettingsError, "seed: -1"),
        ({"counts": 3, "truncation": 2.0}, SettingsError, "truncation: 2.0"),
        ({"counts": 3, "workers": 0}, SettingsError, "workers: 0"),
    ],
)
def test_bad_input_is_named_with_what_is_allowed_and_nothing_is_written(
    generator, name, tmp_path, settings, error, said
):
    with pytest.raises(error, match=said):
        getattr(ganaug, name)(generator, tmp_path / "images", **settings)
    assert not (tmp_path / "images").exists()


def test_a_model_that_is_not_there_is_named(name, tmp_path):
    with pytest.raises(ModelError, match="there is no model 'nobody'"):
        getattr(ganaug, name)("nobody", tmp_path / "images", counts=3)


def test_another_production_in_the_folder_is_refused_and_stays(generator, name, tmp_path):
    write = getattr(ganaug, name)
    write(generator, tmp_path / "images", counts=3)
    held = tree(tmp_path / "images")
    with pytest.raises(SettingsError, match="holds another production"):
        write(generator, tmp_path / "images", counts=3, seed=1)
    assert tree(tmp_path / "images") == held
