import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from ganaug.config import ProduceConfig
from ganaug.errors import OutputError, UnknownClassError
from ganaug.generate import Generator
from ganaug.produce import MANIFEST, open_shards, produce_class

CONFIG = ProduceConfig(shard_images=64, batch=24, seed=5)


@pytest.fixture(params=["tiny_model", "tiny_pair_model"])
def generator(request):
    """Both kinds of generator."""
    return Generator.open(request.getfixturevalue(request.param))


@pytest.fixture
def out(tmp_path):
    """A folder for the images, not there yet."""
    return tmp_path / "out"


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_shards_and_manifest_hold_what_was_asked_for(generator, out):
    told = []
    summary = produce_class(
        generator, "dog", 150, out, CONFIG, lambda done, total: told.append((done, total))
    )
    shards = list(open_shards(out))
    assert [shard.shape for shard in shards] == [(64, 8, 8, 1), (64, 8, 8, 1), (22, 8, 8, 1)]
    np.testing.assert_array_equal(np.concatenate(shards), generator.sample("dog", 150, seed=5))
    assert (summary["images"], summary["shards"], summary["reused"]) == (150, 3, 0)
    assert (told[0], told[-1]) == ((0, 150), (150, 150))
    assert told == sorted(told)
    assert sorted(files(out)) == [
        "manifest.parquet",
        *(f"shard-0000{n}.npy" for n in range(3)),
        "shards.json",
    ]


def test_a_row_of_the_manifest_is_enough_to_make_its_image_again(generator, out):
    produce_class(generator, "emu", 150, out, CONFIG.model_copy(update={"truncation": 0.7}))
    manifest = pd.read_parquet(out / "manifest.parquet")
    assert list(manifest.columns) == MANIFEST.names
    assert manifest["index"].tolist() == list(range(150))
    row = manifest.iloc[130]
    assert row["model_sha256"] == generator.model_sha256("emu")
    image = generator.sample(
        row["class_name"], 1, seed=int(row["seed"]), start=int(row["index"]), truncation=row["truncation"]
    )
    np.testing.assert_array_equal(np.load(out / row["shard"])[row["row"]], image[0])


def test_a_second_call_makes_nothing_again(generator, out):
    produce_class(generator, "dog", 150, out, CONFIG)
    before, times = files(out), [path.stat().st_mtime_ns for path in sorted(out.glob("*.npy"))]
    assert produce_class(generator, "dog", 150, out, CONFIG)["reused"] == 3
    assert files(out) == before
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("*.npy"))] == times


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "shard-00001.npy").unlink(),
        lambda folder: (folder / "shard-00001.npy").write_bytes(b"x"),
        lambda folder: (folder / "shards.json").unlink(),
        lambda folder: (folder / "shards.json").write_text("{"),
        lambda folder: (folder / "manifest.parquet").unlink(),
        lambda folder: (folder / "shard-00001.npy.part").write_bytes(b"half"),
    ],
    ids=["shard gone", "shard damaged", "ledger gone", "ledger damaged", "manifest gone", "half a shard"],
)
def test_what_is_missing_or_damaged_is_made_again_to_the_same_bytes(generator, out, spoil):
    produce_class(generator, "dog", 150, out, CONFIG)
    before = files(out)
    spoil(out)
    produce_class(generator, "dog", 150, out, CONFIG)
    assert files(out) == before


@pytest.mark.parametrize(
    "change", [{"seed": 6}, {"truncation": 0.5}, {"count": 70}, {"count": 300}, {"class": "cat"}]
)
def test_another_request_in_the_same_folder_leaves_what_it_would_in_an_empty_one(generator, tmp_path, change):
    settings = {key: value for key, value in change.items() if key not in {"count", "class"}}
    request = (
        generator,
        change.get("class", "dog"),
        change.get("count", 150),
    )
    config = CONFIG.model_copy(update=settings)
    produce_class(generator, "dog", 150, tmp_path / "used", CONFIG)
    produce_class(*request, tmp_path / "used", config)
    produce_class(*request, tmp_path / "empty", config)
    assert files(tmp_path / "used") == files(tmp_path / "empty")


def test_no_images_are_an_empty_manifest(generator, out):
    assert produce_class(generator, "dog", 0, out, CONFIG)["images"] == 0
    assert len(pd.read_parquet(out / "manifest.parquet")) == 0


def test_an_unknown_class_leaves_nothing(generator, tmp_path):
    with pytest.raises(UnknownClassError):
        produce_class(generator, "yak", 10, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()


def test_killed_again_and_again_it_ends_with_the_same_bytes(tiny_model, tmp_path):
    # A slow listener, so that there is time to be killed in.
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from ganaug.config import ProduceConfig\n"
        "from ganaug.generate import Generator\n"
        "from ganaug.produce import produce_class\n"
        "produce_class(Generator.open(sys.argv[1]), 'dog', 3000, Path(sys.argv[2]),\n"
        "    ProduceConfig(shard_images=64, batch=24, seed=5), lambda done, total: time.sleep(0.004))\n"
    )
    out = tmp_path / "killed"
    for wanted in (3, 11, 24):
        with subprocess.Popen([sys.executable, "-c", script, tiny_model, out]) as process:
            while len(list(out.glob("*.npy"))) < wanted:
                assert process.poll() is None
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        assert not (out / "manifest.parquet").exists()
    noted = json.loads((out / "shards.json").read_text())["shards"]
    generator = Generator.open(tiny_model)
    assert produce_class(generator, "dog", 3000, out, CONFIG)["reused"] == len(noted) >= 23
    produce_class(generator, "dog", 3000, tmp_path / "calm", CONFIG)
    assert files(out) == files(tmp_path / "calm")


def test_a_write_that_the_system_refuses_is_a_clear_error_and_finished_shards_stay(generator, out):
    produce_class(generator, "dog", 64, out, CONFIG)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = CONFIG.model_copy(update={"shard_images": 64 * 20})
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"File too large.*Finished shards are kept"):
            produce_class(generator, "dog", 64 * 20, out, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(out.glob("*.part")) == []
    assert produce_class(generator, "dog", 64, out, CONFIG)["reused"] == 1


def test_a_folder_that_cannot_be_made_is_a_clear_error(generator, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write images to"):
        produce_class(generator, "dog", 10, tmp_path / "file" / "out", CONFIG)


def test_memory_stays_flat_however_many_images_are_made(tmp_path, write_model):
    write_model(tmp_path / "model", image_shape=(32, 32, 3))
    script = (
        "import resource, sys, time\n"
        "from pathlib import Path\n"
        "from ganaug.config import ProduceConfig\n"
        "from ganaug.generate import Generator\n"
        "from ganaug.produce import produce_class\n"
        "peaks = []\n"
        "for count in (1000, 40_000):\n"
        "    produce_class(Generator.open(sys.argv[1]), 'dog', count, Path(sys.argv[2]), ProduceConfig(batch=64),\n"
        "        lambda done, total: time.sleep(0.002))\n"
        "    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        "print(peaks[1] - peaks[0])\n"
    )
    grown_kib = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "model", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MALLOC_ARENA_MAX": "2"},
    ).stdout
    # 40,000 images are 120 MB.
    assert int(grown_kib) < 20 * 1024
