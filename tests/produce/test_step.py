"""Production as the step of a run: one class into the folder of its part."""

import numpy as np
import pandas as pd
import pytest
from support.productions import tree

from ganaug.config import ProduceConfig
from ganaug.errors import OutputError, UnknownClassError
from ganaug.generate import Generator
from ganaug.produce import open_shards, produce_class, reproduce

CONFIG = ProduceConfig(shard_images=64, batch=24, seed=5)


@pytest.fixture
def generator(model):
    """Both kinds of generator."""
    return Generator.open(model, device="cpu")


def test_shards_and_manifest_hold_what_was_asked_for(generator, out):
    told = []
    summary = produce_class(
        generator, "dog", 150, out, CONFIG, lambda done, total: told.append((done, total))
    )
    shards = list(open_shards(out))
    assert [shard.shape for shard in shards] == [(64, 8, 8, 1), (64, 8, 8, 1), (22, 8, 8, 1)]
    np.testing.assert_array_equal(np.concatenate(shards), generator.sample("dog", 150, seed=5))
    assert (summary["images"], summary["shards"], summary["reused"]) == (150, 3, 0)
    assert summary["model_sha256"] == generator.model_sha256("dog")
    assert (told[0], told[-1]) == ((0, 150), (150, 150))
    assert told == sorted(told)
    assert pd.read_parquet(out / "manifest")["index"].tolist() == list(range(150))


def test_what_is_there_is_counted_as_reused(generator, out):
    produce_class(generator, "dog", 150, out, CONFIG)
    held = tree(out)
    assert produce_class(generator, "dog", 150, out, CONFIG)["reused"] == 150
    assert tree(out) == held
    (out / "data/001-dog-00001.npz").unlink()
    assert produce_class(generator, "dog", 150, out, CONFIG)["reused"] == 86
    assert tree(out) == held


@pytest.mark.parametrize(
    "change", [{"seed": 6}, {"truncation": 0.5}, {"count": 70}, {"count": 300}, {"shard_images": 50}], ids=str
)
def test_another_request_in_the_same_folder_leaves_what_it_would_in_an_empty_one(generator, tmp_path, change):
    config = CONFIG.model_copy(update={key: value for key, value in change.items() if key != "count"})
    request = ("dog", change.get("count", 150))
    produce_class(generator, "dog", 150, tmp_path / "used", CONFIG)
    produce_class(generator, *request, tmp_path / "used", config)
    produce_class(generator, *request, tmp_path / "empty", config)
    assert tree(tmp_path / "used") == tree(tmp_path / "empty")


def test_an_image_of_a_run_is_made_again_too(generator, out):
    produce_class(generator, "dog", 150, out, CONFIG)
    assert reproduce(out, 100, device="cpu").is_same


def test_no_images_are_no_shards(generator, out):
    assert produce_class(generator, "dog", 0, out, CONFIG)["images"] == 0
    assert list(open_shards(out)) == []


def test_an_unknown_class_leaves_nothing(generator, out):
    with pytest.raises(UnknownClassError):
        produce_class(generator, "yak", 10, out, CONFIG)
    assert not out.exists()


def test_a_folder_that_cannot_be_made_is_a_clear_error(generator, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write to"):
        produce_class(generator, "dog", 10, tmp_path / "file" / "out", CONFIG)
