"""Every kind of source gives the same dataset; classes, splits, groups and sizes come out right."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ganaug.config import DataConfig
from ganaug.dataset import LabelledImages
from ganaug.readers import Reading, fingerprint, read

CLASSES = ("cat", "dog", "owl")


def picture(seed: int, height: int = 16, width: int = 16, channels: int = 3) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tree(prefix: str = "") -> dict[str, bytes]:
    """Paths of a small dataset: 3 classes of 4, with natural order unlike alphabetical order."""
    return {
        f"{prefix}{name}/{number}.png": png(picture(100 * k + number))
        for k, name in enumerate(CLASSES)
        for number in (2, 10, 1, 9)
    }


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_image_parquet(path: Path, rows: list[tuple[bytes | None, str, int]], names=CLASSES) -> Path:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    noted = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": list(names)}}}}
    schema = pa.schema([("image", kind), ("label", pa.int64())], {"huggingface": json.dumps(noted)})
    images = [None if data is None else {"bytes": data, "path": name} for data, name, _ in rows]
    table = pa.table({"image": images, "label": [label for _, _, label in rows]}, schema=schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=5)
    return path


def parquet_rows(files: dict[str, bytes]) -> list[tuple[bytes | None, str, int]]:
    return [(data, name, CLASSES.index(name.split("/")[-2])) for name, data in files.items()]


def load(path: Path | None, out: Path, previews: bool = False, **settings: object) -> Reading:
    return read(DataConfig(path=path, **settings), out / "out", previews=previews)


def check_tree(reading: Reading) -> None:
    """The images of `tree()`, whatever they lay in."""
    data = reading.data
    assert data.class_names == CLASSES
    assert data.images.shape == (12, 16, 16, 3)
    assert not reading.unreadable
    expected = {picture(100 * k + number).tobytes(): k for k in range(3) for number in (1, 2, 9, 10)}
    found = {image.tobytes(): class_id for image, class_id in zip(data.images, data.class_ids, strict=True)}
    assert found == expected


NATURAL = [f"{name}/{number}.png" for name in CLASSES for number in (1, 2, 9, 10)]


def test_a_folder_per_class(tmp_path):
    reading = load(write_folder(tmp_path / "data", tree()), tmp_path)
    check_tree(reading)
    assert reading.data.index["path"].tolist() == NATURAL
    assert reading.data.index["sha256"].str.len().eq(64).all()
    assert set(reading.data.index["height"]) == {16}
    assert reading.previews is None


def test_a_dataset_that_was_read_can_be_saved_in_place_and_loaded(tmp_path):
    reading = load(write_folder(tmp_path / "data", tree()), tmp_path)
    before = (tmp_path / "out" / "images.npy").stat().st_mtime_ns
    reading.data.save(tmp_path / "out")
    assert (tmp_path / "out" / "images.npy").stat().st_mtime_ns == before
    again = LabelledImages.load(tmp_path / "out")
    assert (again.images == reading.data.images).all()


ARCHIVES = {
    "x.zip": write_zip,
    "x.tar": lambda path, files: write_tar(path, files, "w"),
    "x.tar.gz": lambda path, files: write_tar(path, files, "w:gz"),
    "x.TGZ": lambda path, files: write_tar(path, files, "w:gz"),
    "x.tar.bz2": lambda path, files: write_tar(path, files, "w:bz2"),
    "x.tar.xz": lambda path, files: write_tar(path, files, "w:xz"),
}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("prefix", ["", "photos/", "./a/b/"])
def test_archives_give_what_the_folder_gives_in_the_same_order(name, prefix, tmp_path):
    clutter = {"__MACOSX/cat/._1.png": b"x", f"{prefix}cat/Thumbs.db": b"x", f"{prefix}notes.txt": b"x"}
    reading = load(ARCHIVES[name](tmp_path / name, tree(prefix) | clutter), tmp_path)
    check_tree(reading)
    paths = reading.data.index["path"].str.removeprefix(prefix.removeprefix("./")).tolist()
    assert paths == NATURAL
    assert any("1 .txt" in note for note in reading.notes)


def test_of_members_with_one_name_the_last_counts_as_in_unpacking(tmp_path):
    files = tree()
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        for data in (files["cat/10.png"], files["cat/1.png"]):
            for name in files:
                member = tarfile.TarInfo(name)
                payload = data if name == "cat/1.png" else files[name]
                member.size = len(payload)
                archive.addfile(member, io.BytesIO(payload))
    check_tree(load(tmp_path / "x.tar.gz", tmp_path))


@pytest.mark.parametrize(
    ("train", "val", "test"), [("train", "val", "test"), ("Training", "valid", "TESTING")]
)
@pytest.mark.parametrize("prefix", ["", "wrapped/"])
def test_splits_are_told_by_folder_names(train, val, test, prefix, tmp_path):
    files = {}
    for split in (train, val, test):
        files |= tree(f"{prefix}{split}/")
    data = load(write_folder(tmp_path / "data", files), tmp_path).data
    assert data.class_names == CLASSES
    assert data.index["split"].value_counts().to_dict() == {"train": 12, "val": 12, "test": 12}


def test_a_class_may_be_called_test_or_train(tmp_path):
    files = {name.replace("cat/", "test/").replace("dog/", "train/"): data for name, data in tree().items()}
    data = load(write_folder(tmp_path / "data", files), tmp_path).data
    assert data.class_names == ("owl", "test", "train")
    assert set(data.index["split"]) == {""}


def test_deeper_folders_belong_to_their_class_and_clutter_is_ignored(tmp_path):
    files = tree() | {"cat/more/3.png": png(picture(7)), ".git/x.png": b"x", "cat/.hidden.png": b"x"}
    data = load(write_folder(tmp_path / "data", files), tmp_path).data
    assert len(data) == 13
    assert data.counts().tolist() == [5, 4, 4]


def test_number_names_are_ordered_by_value_and_others_naturally(tmp_path):
    numbers = {f"{name}/{k}.png": png(picture(k)) for name in ("10", "9", "1") for k in range(2)}
    assert load(write_folder(tmp_path / "a", numbers), tmp_path).data.class_names == ("1", "9", "10")
    words = {f"{name}/{k}.png": png(picture(k)) for name in ("b10", "b9", "A") for k in range(2)}
    assert load(write_folder(tmp_path / "b", words), tmp_path).data.class_names == ("A", "b9", "b10")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("names", [("image", "label"), ("File Name", "class_name"), ("filepath", "dx")])
def test_a_csv_table_with_columns_guessed(names, separator, tmp_path):
    write_folder(tmp_path / "data" / "photos", tree())
    rows = [(f"photos/{name}", name.split("/")[0]) for name in tree()]
    table = tmp_path / "data" / "table.csv"
    pd.DataFrame(rows, columns=names).to_csv(table, index=False, sep=separator, encoding="utf-8-sig")
    reading = load(table, tmp_path)
    check_tree(reading)
    assert reading.data.index["path"].tolist() == [path for path, _ in rows]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_with_split_and_group_columns(suffix, tmp_path):
    write_folder(tmp_path / "data", tree())
    names = list(tree())
    frame = pd.DataFrame(
        {
            "image": names,
            "kind": [name.split("/")[0] for name in names],
            "split": ["Train", "valid", "TEST", "train"] * 3,
            "patient": [7, 7, 8, 9] * 3,
        }
    )
    table = tmp_path / "data" / f"table.{suffix}"
    frame.to_csv(table, index=False) if suffix == "csv" else frame.to_parquet(table)
    data = load(table, tmp_path, label_column="kind").data
    assert data.index["split"].tolist() == ["train", "val", "test", "train"] * 3
    assert data.index["group"].tolist() == ["7", "7", "8", "9"] * 3


def test_a_guessed_split_column_of_fold_numbers_is_left_out_with_a_note(tmp_path):
    write_folder(tmp_path / "data", tree())
    rows = [(name, name.split("/")[0], str(k % 5)) for k, name in enumerate(tree())]
    table = tmp_path / "data" / "table.csv"
    pd.DataFrame(rows, columns=["path", "label", "fold"]).to_csv(table, index=False)
    reading = load(table, tmp_path)
    assert set(reading.data.index["split"]) == {""}
    assert any("fold" in note for note in reading.notes)


def test_an_image_parquet_with_its_class_names(tmp_path):
    reading = load(write_image_parquet(tmp_path / "all.parquet", parquet_rows(tree())), tmp_path)
    check_tree(reading)
    assert reading.data.index["path"][0] == "all.parquet/000000/2.png"


@pytest.mark.parametrize(
    "names",
    [
        ("train.parquet", "test.parquet"),
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
    ],
)
def test_a_folder_of_image_parquets_is_split_by_file_name(names, tmp_path):
    for name in names:
        write_image_parquet(tmp_path / "data" / name, parquet_rows(tree()))
    data = load(tmp_path / "data", tmp_path).data
    assert data.class_names == CLASSES
    assert data.index["split"].value_counts().to_dict() == {"train": 12, "test": 12}


def test_rows_without_image_or_label_are_unreadable(tmp_path):
    rows = [
        *parquet_rows(tree()),
        (None, "gone", 0),
        (png(picture(1)), "odd", -1),
        (png(picture(1)), "odd", 3),
    ]
    reading = load(write_image_parquet(tmp_path / "all.parquet", rows), tmp_path, max_bad_share=0.5)
    reasons = sorted(one.reason for one in reading.unreadable)
    assert len(reasons) == 3
    assert "names for 0 to 2" in " ".join(reasons)
    assert "-1" in " ".join(reasons)
    assert "no image bytes" in " ".join(reasons)


def arrays(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    images = np.stack([picture(k, 16, 10, 1) for k in range(count)])
    return images, np.arange(count) % 3


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("X", "y"), ("data", "target")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_keep_their_pixels_exactly(names, save, tmp_path):
    images, labels = arrays()
    save(tmp_path / "x.npz", **{names[0]: images, names[1]: labels})
    data = load(tmp_path / "x.npz", tmp_path).data
    assert (data.images[..., 0] == images).all()
    assert data.class_names == ("0", "1", "2")
    assert data.class_ids.tolist() == labels.tolist()


@pytest.mark.parametrize("pattern", ["{0}_{1}", "{1}_{0}"])
def test_arrays_per_split_with_groups_and_class_names(pattern, tmp_path):
    images, labels = arrays()
    words = ("x", "y") if pattern == "{0}_{1}" else ("images", "labels")
    held = {pattern.format(words[0], split): images for split in ("train", "test")}
    held |= {pattern.format(words[1], split): labels for split in ("train", "test")}
    held[pattern.format("groups", "train")] = np.array(["a", "b"] * 6)
    np.savez(tmp_path / "x.npz", class_names=np.array(CLASSES), **held)
    data = load(tmp_path / "x.npz", tmp_path).data
    assert data.class_names == CLASSES
    assert data.index["split"].tolist() == ["train"] * 12 + ["test"] * 12
    assert data.index["group"].tolist() == ["a", "b"] * 6 + [""] * 12


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda images: images / np.float32(255), "0..1"),
        (lambda images: images.astype(np.float64), "255 is white"),
        (lambda images: images.astype(np.uint16) * 257, "16 bit"),
        (lambda images: (images.astype(np.uint16) * 257).astype(">u2"), "16 bit"),
        (lambda images: np.asfortranarray(images / 255.0), "0..1"),
    ],
    ids=["0..1", "0..255", "uint16", "big endian", "fortran order"],
)
def test_array_values_are_scaled_and_the_scale_is_told(change, note, tmp_path):
    images, labels = arrays()
    images[0, 0, :2] = 0, 255
    np.savez(tmp_path / "x.npz", images=change(images), labels=labels)
    reading = load(tmp_path / "x.npz", tmp_path)
    assert (reading.data.images[..., 0] == images).all()
    assert note in " ".join(reading.notes) or "1 is white" in " ".join(reading.notes)


def test_channels_first_arrays_and_bool_arrays(tmp_path):
    images = np.stack([picture(k, 16, 10) for k in range(12)])
    np.savez(tmp_path / "x.npz", images=images.transpose(0, 3, 1, 2), labels=np.arange(12) % 3)
    assert (load(tmp_path / "x.npz", tmp_path).data.images == images).all()
    np.savez(tmp_path / "b.npz", images=images[..., 0] > 99, labels=np.arange(12) % 3)
    assert (load(tmp_path / "b.npz", tmp_path).data.images[..., 0] == (images[..., 0] > 99) * 255).all()


def test_the_bundled_digits(tmp_path):
    data = load(None, tmp_path).data
    assert data.images.shape == (1797, 8, 8, 1)
    assert data.class_names == tuple("0123456789")
    assert data.images.max() == 255
    assert data.counts().min() == 174


def test_groups_come_from_the_file_name_by_a_pattern(tmp_path):
    files = {f"{name}/scan.v{k // 2}-{k}.png": png(picture(k)) for name in CLASSES for k in range(4)}
    root = write_folder(tmp_path / "data", files)
    data = load(root, tmp_path, group_pattern="^(.*)-").data
    assert data.index["group"].tolist() == ["scan.v0", "scan.v0", "scan.v1", "scan.v1"] * 3
    assert set(load(root, tmp_path, group_pattern=r"v\d").data.index["group"]) == {"v0", "v1"}
    partly = load(root, tmp_path, group_pattern="v1")
    assert any("6 file names" in note for note in partly.notes)


def test_auto_size_is_a_power_of_two_below_the_median_and_is_explained(tmp_path):
    files = {f"{name}/{k}.png": png(picture(k, 20 + k, 60)) for name in CLASSES for k in range(4)}
    reading = load(write_folder(tmp_path / "data", files), tmp_path)
    assert reading.data.images.shape[1:] == (16, 16, 3)
    assert any("16x16" in note for note in reading.notes)
    assert load(tmp_path / "data", tmp_path, size="12x24", channels=1).data.images.shape[1:] == (12, 24, 1)


def test_an_image_unlike_the_sample_is_not_missed(tmp_path):
    small = png(picture(0, 8, 8, 1))
    files = {f"{'ab'[k % 2]}/{k:05d}.png": small for k in range(1300)}
    # 1,024 rows are looked at first; this one is not among them.
    files["a/00070.png"] = png(picture(1, 9, 9, 3))
    reading = load(write_zip(tmp_path / "x.zip", files), tmp_path)
    assert reading.data.images.shape == (1300, 8, 8, 3)
    assert any("8 to 9 px" in note for note in reading.notes)


def test_previews_are_made_for_large_images_only(tmp_path):
    large = {f"{name}/{k}.png": png(picture(k, 70, 90)) for name in CLASSES for k in range(3)}
    broken = {"cat/0a.png": b"no"}
    root = write_folder(tmp_path / "large", large | broken)
    reading = load(root, tmp_path, previews=True, max_bad_share=0.2)
    assert reading.previews is not None
    assert reading.previews.shape == (9, 96, 96)
    expected = Image.fromarray(picture(0, 70, 90)).convert("L").resize((96, 96), Image.Resampling.LANCZOS)
    assert (reading.previews[0] == np.asarray(expected)).all()
    assert load(write_folder(tmp_path / "small", tree()), tmp_path, previews=True).previews is None
    assert not (tmp_path / "out" / "previews.npy").exists()


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_unreadable_files_are_left_out_and_the_rows_close_up(workers, kind, tmp_path):
    files = {f"{'ab'[k % 2]}/{k:03d}.png": png(np.full((8, 8), k, np.uint8)) for k in range(200)}
    for k in (0, 31, 32, 33, 150, 199):
        files[f"{'ab'[k % 2]}/{k:03d}.png"] = b"not an image"
    path = tmp_path / f"x.{kind}"
    write_zip(path, files) if kind == "zip" else write_tar(path, files, "w:gz")
    reading = load(path, tmp_path, max_bad_share=0.1, workers=workers)
    assert len(reading.unreadable) == 6
    values = [int(Path(path).stem) for path in reading.data.index["path"]]
    assert len(values) == 194
    assert (reading.data.images[:, 0, 0, 0] == values).all()


def test_progress_ends_at_the_total(tmp_path):
    heard = []
    config = DataConfig(path=write_folder(tmp_path / "data", tree()))
    read(config, tmp_path / "out", previews=False, progress=lambda done, total: heard.append((done, total)))
    assert heard[-1] == (12, 12)


def test_the_fingerprint_follows_the_files_and_not_their_place(tmp_path):
    root = write_folder(tmp_path / "data", tree())
    first = fingerprint(DataConfig(path=root))
    assert fingerprint(DataConfig(path=root, size="8")) == first
    root.rename(tmp_path / "moved")
    assert fingerprint(DataConfig(path=tmp_path / "moved")) == first
    (tmp_path / "moved" / "cat" / "1.png").write_bytes(png(picture(9, 17)))
    assert fingerprint(DataConfig(path=tmp_path / "moved")) != first
    assert fingerprint(DataConfig()) != first


def test_a_parquet_of_another_kind_beside_the_images_is_ignored_with_a_note(tmp_path):
    write_image_parquet(tmp_path / "data" / "train.parquet", parquet_rows(tree()))
    pd.DataFrame({"origin": ["real"] * 12}).to_parquet(tmp_path / "data" / "origins.parquet")
    reading = load(tmp_path / "data", tmp_path)
    assert len(reading.data) == 12
    assert any("origins.parquet" in note for note in reading.notes)


def test_a_parquet_inside_a_folder_of_images_does_not_make_it_another_kind(tmp_path):
    root = write_folder(tmp_path / "data", tree())
    pd.DataFrame({"a": [1]}).to_parquet(root / "cat" / "notes.parquet")
    check_tree(load(root, tmp_path))


def test_a_class_that_cannot_be_read_at_all_is_dropped_with_a_note(tmp_path):
    root = write_folder(tmp_path / "data", tree() | {f"bat/{k}.png": b"no" for k in range(2)})
    reading = load(root, tmp_path, max_bad_share=0.5)
    assert reading.data.class_names == CLASSES
    assert any("'bat'" in note for note in reading.notes)
