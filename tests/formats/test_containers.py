"""Every format is read back by what it was made for, and says itself where each image lies."""

import gc
import io
import json
import tarfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ganaug.config import DataConfig
from ganaug.errors import DatasetError
from ganaug.formats import (
    ENCODINGS,
    FORMATS,
    ProducedAbout,
    ProducedClass,
    ProducedModel,
    Shard,
    dataset_card,
)
from ganaug.formats.folder import class_folders
from ganaug.readers import read
from ganaug.readers.registry import list_source

NAMES = ("cat", "dog", "owl")
HOSTILE = ("a/b", "..", "ü", "CON", 'x"|\n')
MODEL = ProducedModel("tiny", 1, "0" * 64)


@pytest.fixture(params=FORMATS.items(), ids=FORMATS.keys())
def format_(request):
    """Every format with its name: a new one is tested the moment it is added."""
    return request.param


def shard_of(class_id: int, n: int = 6, names: tuple[str, ...] = NAMES, channels: int = 3) -> Shard:
    index = np.arange(n, dtype=np.int64) * 7 + 10 * class_id
    return Shard(f"{class_id:03d}-a.b-00000", class_id, names[class_id], names, index, (8, 12, channels))


def images_of(shard: Shard) -> np.ndarray:
    rng = np.random.default_rng(shard.class_id)
    return rng.integers(0, 256, (len(shard), *shard.image_shape), np.uint8)


def pack(format_, shard: Shard, encoding: str | None = None) -> list[tuple[str, bytes]]:
    encoding = encoding or format_.encodings[0]
    images = images_of(shard)
    if encoding == "none":
        files = format_.pack(shard, [images[:1], images[1:]] if len(images) else [], "")
    else:
        chosen = ENCODINGS[encoding]
        files = format_.pack(shard, chosen.encode(images, 100), chosen.suffix)
    return [(path, b"".join(chunks)) for path, chunks in files]


def produce(
    root: Path, name: str, names: tuple[str, ...] = NAMES, channels: int = 3, encoding: str | None = None
) -> list[Shard]:
    """A production with a card, and a manifest of Parquet beside its images."""
    shards = [shard_of(class_id, names=names, channels=channels) for class_id in range(len(names))]
    for shard in shards:
        for path, content in pack(FORMATS[name], shard, encoding):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
    (root / "manifest").mkdir()
    pd.DataFrame({"file": ["x"], "row": [0]}).to_parquet(root / "manifest" / "00000.parquet")
    classes = [ProducedClass(shard.class_name, len(shard), MODEL, 1.0, len(shard)) for shard in shards]
    about = ProducedAbout("Tiny", "cc-by-4.0", name, "png", (8, 12, channels), 0, classes, "0.1.0")
    (root / "README.md").write_text(dataset_card(about), encoding="utf-8")
    return shards


def by_class(shards: list[Shard]) -> dict[str, list[np.ndarray]]:
    return {shard.class_name: list(images_of(shard)) for shard in shards}


def same(one: dict[str, list[np.ndarray]], other: dict[str, list[np.ndarray]]) -> bool:
    """Whether both have the same images in each class, in any order."""
    return {k: sorted(i.tobytes() for i in v) for k, v in one.items()} == {
        k: sorted(i.tobytes() for i in v) for k, v in other.items()
    }


# What every format promises.


def test_each_image_lies_where_the_format_says(format_):
    _, chosen = format_
    for encoding in chosen.encodings:
        shard = shard_of(1)
        files = dict(pack(chosen, shard, encoding))
        suffix = "" if encoding == "none" else ENCODINGS[encoding].suffix
        paths, rows = chosen.where(shard, suffix)
        assert set(paths) == set(files)
        exact = encoding == "none" or ENCODINGS[encoding].is_lossless(100)
        for image, path, row in zip(images_of(shard), paths, rows, strict=True):
            found = chosen.read(files[path], int(row))
            assert found.shape == image.shape
            assert found.dtype == np.uint8
            assert not exact or np.array_equal(found, image)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_file_is_read_whole_in_the_order_of_its_rows(format_, channels):
    _, chosen = format_
    shard = shard_of(2, channels=channels)
    found = [image for _, content in pack(chosen, shard) for image in chosen.read_all(content)]
    np.testing.assert_array_equal(found, images_of(shard))


def test_a_row_that_a_file_lacks_is_refused(format_):
    _, chosen = format_
    _, content = pack(chosen, shard_of(0))[0]
    with pytest.raises(DatasetError, match="no row 6"):
        chosen.read(content, 6)


def test_the_same_images_give_the_same_bytes(format_, monkeypatch):
    _, chosen = format_
    before = pack(chosen, shard_of(0))
    later = time.gmtime(2**31)
    monkeypatch.setattr("time.localtime", lambda *_: later)
    monkeypatch.setattr("time.time", lambda: 2.0**31)
    assert pack(chosen, shard_of(0)) == before


def test_no_images_leave_nothing_that_cannot_be_read(format_):
    _, chosen = format_
    shard = shard_of(0, n=0)
    assert [list(chosen.read_all(content)) for _, content in pack(chosen, shard)] in ([], [[]])
    paths, rows = chosen.where(shard, ".png")
    assert (paths, rows.tolist()) == ([], [])


@pytest.mark.parametrize("class_id", range(len(HOSTILE)))
def test_no_class_name_leads_out_of_the_folder_or_to_a_name_that_a_system_refuses(format_, class_id):
    _, chosen = format_
    shard = shard_of(class_id, names=HOSTILE)
    for path, content in pack(chosen, shard):
        *folders, file = path.split("/")
        assert path.isascii()
        assert folders[0] == "data"
        assert not {"..", ".", "", "CON"}.intersection([*folders, file.partition(".")[0]])
        assert list(chosen.read_all(content))


def test_every_file_is_among_those_that_the_pattern_names(format_, tmp_path):
    name, chosen = format_
    produce(tmp_path, name)
    files = {path for path in tmp_path.glob("data/**/*") if path.is_file()}
    assert set(tmp_path.glob(chosen.pattern)) == files


def test_every_default_is_lossless_and_every_encoding_known(format_):
    _, chosen = format_
    assert set(chosen.encodings) <= {"none", *ENCODINGS}
    assert chosen.encodings[0] == "none" or ENCODINGS[chosen.encodings[0]].is_lossless(1)


# Hugging Face datasets.


@pytest.fixture
def load(monkeypatch, tmp_path):
    """`load_dataset` without network or a cache of its own."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets

    datasets.disable_progress_bars()
    return lambda root: datasets.load_dataset(str(root), split="train", cache_dir=str(tmp_path / "cache"))


def seen(rows, names) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for row in rows:
        found.setdefault(names[row["label"]], []).append(np.array(row["image"]))
    return found


@pytest.mark.parametrize("encoding", ["png", "raw"])
@pytest.mark.parametrize("name", ["parquet", "folder"])
def test_datasets_sees_images_and_class_names_and_not_the_manifest(load, tmp_path, name, encoding):
    shards = produce(tmp_path / "made", name, encoding=encoding)
    rows = load(tmp_path / "made")
    assert rows.features["label"].names == list(NAMES)
    assert same(seen(rows, NAMES), by_class(shards))


def test_datasets_sees_the_address_of_an_image_in_parquet(load, tmp_path):
    shards = produce(tmp_path / "made", "parquet")
    assert load(tmp_path / "made")["index"] == [i for shard in shards for i in shard.index.tolist()]


def test_datasets_sees_hostile_class_names_in_parquet(load, tmp_path):
    shards = produce(tmp_path / "made", "parquet", HOSTILE)
    rows = load(tmp_path / "made")
    assert rows.features["label"].names == list(HOSTILE)
    assert same(seen(rows, HOSTILE), by_class(shards))


def test_datasets_sees_the_one_class_of_a_folder(load, tmp_path):
    produce(tmp_path / "made", "folder", ("cat",))
    assert load(tmp_path / "made").features["label"].names == ["cat"]


def test_datasets_opens_a_webdataset_too(load, tmp_path):
    shards = produce(tmp_path / "made", "webdataset")
    found = [{"image": row["png"], "label": row["cls"]} for row in load(tmp_path / "made")]
    assert same(seen(found, NAMES), by_class(shards))


def test_datasets_never_takes_the_manifest_of_arrays_for_images(load, tmp_path):
    from datasets.exceptions import DatasetNotFoundError

    produce(tmp_path / "made", "npz")
    with pytest.raises((DatasetNotFoundError, FileNotFoundError, ValueError)):
        load(tmp_path / "made")


# WebDataset.


@pytest.fixture
def open_tars():
    """A production's tars in order; webdataset leaves their files to the garbage collector."""
    from webdataset import WebDataset

    yield lambda root: WebDataset(sorted(map(str, root.glob("data/*.tar"))), shardshuffle=False)
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("encoding", ["png", "raw"])
def test_webdataset_sees_image_class_and_address(tmp_path, open_tars, encoding):
    shards = produce(tmp_path, "webdataset", encoding=encoding)
    rows = list(open_tars(tmp_path).decode("rgb8"))
    kind = ENCODINGS[encoding].suffix.removeprefix(".")
    want = [image for shard in shards for image in images_of(shard)]
    np.testing.assert_array_equal([row[kind] for row in rows], want)
    assert [row["cls"] for row in rows] == [shard.class_id for shard in shards for _ in range(len(shard))]
    assert [row["json"] for row in rows] == [
        {"class_name": shard.class_name, "index": i} for shard in shards for i in shard.index.tolist()
    ]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_webdataset_feeds_a_torch_loader(tmp_path, open_tars):
    import torch

    shards = produce(tmp_path, "webdataset")
    # A copy: torch warns of arrays that it may not write to.
    rows = open_tars(tmp_path).decode("rgb8").to_tuple("png", "cls").map_tuple(np.array)
    batches = list(torch.utils.data.DataLoader(rows, batch_size=4))
    images = torch.cat([images for images, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    np.testing.assert_array_equal(images.numpy(), np.concatenate([images_of(shard) for shard in shards]))
    assert labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6


def test_a_tar_is_what_tarfile_expects_and_tells_nothing_of_its_maker(tmp_path):
    [(_, content)] = pack(FORMATS["webdataset"], shard_of(1))
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:", errorlevel=2) as archive:
        members = archive.getmembers()
        texts = [archive.extractfile(member).read() for member in members if member.name.endswith(".json")]
    assert len(members) == 18
    assert content.endswith(bytes(1024))
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in members} == {
        (0, 0, 0, "", "", 0o644, tarfile.REGTYPE)
    }
    assert json.loads(texts[2]) == {"class_name": "dog", "index": 24}


def test_a_member_of_any_size_is_padded_to_whole_blocks():
    sizes = [0, 1, 511, 512, 513, 1024, 70_000]
    shard = shard_of(0, n=len(sizes))
    [(_, chunks)] = FORMATS["webdataset"].pack(shard, [bytes([7]) * size for size in sizes], ".png")
    content = b"".join(chunks)
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:", errorlevel=2) as archive:
        assert [m.size for m in archive.getmembers() if m.name.endswith(".png")] == sizes
    assert [len(member) for member in FORMATS["webdataset"].members(content)] == sizes


# Parquet.


def test_row_groups_of_parquet_are_bounded_in_rows_and_in_bytes(monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ganaug.formats import parquet

    def rows_per_group() -> list[int]:
        [(_, content)] = pack(FORMATS["parquet"], shard_of(0, n=20))
        assert len(list(FORMATS["parquet"].members(content))) == 20
        about = pq.ParquetFile(pa.BufferReader(content)).metadata
        return [about.row_group(group).num_rows for group in range(about.num_row_groups)]

    assert rows_per_group() == [20]
    monkeypatch.setattr(parquet, "ROW_GROUP", 8)
    assert rows_per_group() == [8, 8, 4]
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1)
    assert rows_per_group() == [1] * 20


# NumPy.


@pytest.mark.parametrize("names", [NAMES, HOSTILE], ids=["plain", "hostile"])
def test_numpy_opens_arrays_without_pickles(names):
    shard = shard_of(2, names=names)
    [(_, content)] = pack(FORMATS["npz"], shard)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], images_of(shard), strict=True)
        np.testing.assert_array_equal(arrays["labels"], np.full(6, 2, np.int64), strict=True)
        np.testing.assert_array_equal(arrays["index"], shard.index, strict=True)
        assert arrays["class_names"].tolist() == list(names)


def test_arrays_are_not_copied():
    shard = shard_of(0)
    images = images_of(shard)
    [(_, chunks)] = FORMATS["npz"].pack(shard, [images], "")
    assert any(np.shares_memory(images, np.frombuffer(chunk, np.uint8)) for chunk in chunks if len(chunk))


# ganaug's own readers.


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["parquet", "folder"])
def test_ganaug_reads_its_own_production(tmp_path, name, channels):
    shards = produce(tmp_path / "made", name, channels=channels)
    root = tmp_path / "made" / ("data" if name == "folder" else "")
    reading = read(DataConfig(path=root, size="8x12"), tmp_path / "out", previews=False)
    assert reading.data.class_names == NAMES
    found = {
        class_name: list(reading.data.images[reading.data.class_ids == class_id])
        for class_id, class_name in enumerate(NAMES)
    }
    assert same(found, by_class(shards))


def test_ganaug_reads_arrays_of_its_own(tmp_path):
    shards = produce(tmp_path / "made", "npz")
    for shard in shards:
        config = DataConfig(path=tmp_path / "made" / "data" / f"{shard.name}.npz", size="8x12")
        with list_source(config) as source:
            assert {item.class_name for item in source.items} == {shard.class_name}
        # A shard has one class, which is none to learn from: its pixels are read as unlabelled.
        unlabelled = config.model_copy(update={"label_column": None})
        reading = read(unlabelled, tmp_path / f"out-{shard.class_id}", previews=False)
        np.testing.assert_array_equal(reading.data.images, images_of(shard))


# Folders.


@pytest.mark.parametrize(
    "names",
    [
        HOSTILE,
        ("Cat", "cat"),
        ("003", "b", "c", "ü"),
        ("a ", "a"),
        ("nul.txt", "x"),
        ("", "y"),
        ("x" * 300, "y"),
    ],
    ids=str,
)
def test_no_two_classes_share_a_folder_on_any_file_system(names):
    folders = class_folders(names)
    assert len({folder.casefold() for folder in folders}) == len(names)
    assert all(folder.startswith(f"{class_id:03d}") for class_id, folder in enumerate(folders))


def test_plain_class_names_are_the_names_of_their_folders():
    names = ("0", "1", "great-white", "v1.2")
    assert class_folders(names) == names
