"""The balanced training set: what is in it, in what order, and where each image comes from."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ganaug import assemble as module
from ganaug.assemble import assemble, choose
from ganaug.config import AssembleConfig, PlanConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError
from ganaug.plan import make_plan

NAMES = ("cat", "dog/wolf", "emu")


def images(count, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 5, channels), np.uint8)


def real_set(channels=3):
    ids = np.repeat([0, 1, 2], [10, 6, 9])
    index = pd.DataFrame({"class_id": ids, "path": [f"data/{row}.jpg" for row in range(25)]})
    return LabelledImages(images(25, channels), index, NAMES)


def synthetic_set(counts=(0, 20, 20), channels=3):
    ids = np.repeat([0, 1, 2], counts)
    numbers = np.concatenate([np.arange(count)[::-1] * 3 for count in counts])
    index = pd.DataFrame({"class_id": ids, "model_sha256": "ab" * 32, "seed": 5, "index": numbers})
    return LabelledImages(images(sum(counts), channels, seed=1), index, NAMES)


def plan_of(real, **settings):
    return make_plan(real.counts(), NAMES, PlanConfig(**settings))


def made(folder, layout="parquet", channels=3, synthetic=None, **settings):
    real = real_set(channels)
    synthetic = synthetic_set(channels=channels) if synthetic is None else synthetic
    summary = assemble(real, synthetic, plan_of(real, **settings), folder, AssembleConfig(format=layout))
    return real, synthetic, summary, pd.read_parquet(folder / "origins.parquet")


def decode(png):
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    return pixels if pixels.ndim == 3 else pixels[..., None]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_real_image_and_as_many_synthetic_ones_as_lack_are_in_the_set(tmp_path, channels):
    real, synthetic, summary, origins = made(tmp_path, channels=channels, tolerance=0.0)
    table = pq.read_table(tmp_path / "train.parquet").to_pylist()
    labels = np.array([row["label"] for row in table])
    assert np.bincount(labels).tolist() == [10, 10, 10]
    assert summary == {"images": 30, "real": 25, "synthetic": 5, "missing": 0}
    assert np.array_equal([decode(row["image"]["bytes"]) for row in table[:25]], real.images)
    chosen = choose(synthetic, plan_of(real, tolerance=0.0))
    assert np.array_equal([decode(row["image"]["bytes"]) for row in table[25:]], synthetic.images[chosen])
    assert [row["image"]["path"] for row in table] == origins["path"].tolist()


def test_synthetic_images_are_taken_by_their_index_and_not_by_their_place(tmp_path):
    _, _, _, origins = made(tmp_path, tolerance=0.0)
    taken = origins[(origins["origin"] == "synthetic") & (origins["class_name"] == "dog/wolf")]
    assert taken["index"].tolist() == [0, 3, 6, 9]


def test_origins_say_of_every_image_where_it_comes_from(tmp_path):
    _, _, _, origins = made(tmp_path, tolerance=0.0)
    own, other = (origins[origins["origin"] == kind] for kind in ("real", "synthetic"))
    assert own["source"].tolist() == [f"data/{row}.jpg" for row in range(25)]
    assert own[["model_sha256", "seed", "index"]].isna().all(axis=None)
    assert other["source"].isna().all()
    assert set(other["model_sha256"]) == {"ab" * 32}
    assert set(other["seed"]) == {5}
    assert origins["path"].is_unique


def test_a_class_within_the_tolerance_gets_nothing(tmp_path):
    _, _, _, origins = made(tmp_path, tolerance=0.2)
    assert set(origins.loc[origins["origin"] == "synthetic", "class_name"]) == {"dog/wolf"}


def test_what_screening_left_short_is_counted_as_missing(tmp_path):
    _, _, summary, _ = made(tmp_path, synthetic=synthetic_set((0, 1, 0)), tolerance=0.0)
    assert (summary["synthetic"], summary["missing"]) == (1, 4)


def test_without_any_synthetic_image_the_real_ones_are_written(tmp_path):
    empty = LabelledImages(
        np.empty((0, 6, 5, 3), np.uint8), pd.DataFrame({"class_id": np.empty(0, np.int64)}), NAMES
    )
    _, _, summary, origins = made(tmp_path, synthetic=empty)
    assert summary["images"] == len(origins) == 25


def test_the_parquet_says_to_hugging_face_what_its_columns_are(tmp_path):
    made(tmp_path)
    metadata = pq.read_schema(tmp_path / "train.parquet").metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert features["image"]["_type"] == "Image"
    assert features["label"] == {"names": list(NAMES), "_type": "ClassLabel"}


def test_row_groups_are_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP", 10)
    made(tmp_path, tolerance=0.0)
    assert pq.ParquetFile(tmp_path / "train.parquet").num_row_groups == 3


def test_the_folder_layout_has_a_folder_per_class_that_any_file_system_takes(tmp_path):
    real, _, _, origins = made(tmp_path, "folder", tolerance=0.0)
    assert {path.name for path in (tmp_path / "train").iterdir()} == {"cat", "001-dog-wolf", "emu"}
    assert len(list(tmp_path.glob("train/*/*.png"))) == 30
    first = tmp_path / origins["path"][0]
    assert np.array_equal(decode(first.read_bytes()), real.images[0])


def test_images_of_two_shapes_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"synthetic images are \(6, 5, 1\)"):
        made(tmp_path, synthetic=synthetic_set(channels=1))
