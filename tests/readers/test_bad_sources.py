"""Hostile and broken datasets: the right error, that says what came and what to do; nothing left behind."""

import gzip
import io
import os
import stat
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
from ganaug.errors import DatasetError, PathNotFoundError, TooManyUnreadableError, UnsafeArchiveError
from ganaug.readers import Reading, fingerprint, read


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def folder(root: Path, **classes: int) -> Path:
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for k in range(count):
            (root / name / f"{k}.png").write_bytes(png(k))
    return root


def files_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(len(name)))
    return root


def load(path: Path, tmp_path: Path, **settings: object) -> Reading:
    return read(DataConfig(path=path, **settings), tmp_path / "out", previews=False)


def refusal(path: Path, tmp_path: Path, kind: type[DatasetError] = DatasetError, **settings: object) -> str:
    with pytest.raises(kind) as caught:
        load(path, tmp_path, **settings)
    assert not list((tmp_path / "out").iterdir())
    return str(caught.value)


def zip_with(path: Path, name: str, mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(8):
            archive.writestr(f"{'ab'[k % 2]}/{k}.png", png(k))
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, png(9))
    return path


def tar_with(path: Path, name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for k in range(8):
            member = tarfile.TarInfo(f"{'ab'[k % 2]}/{k}.png")
            member.size = len(png(k))
            archive.addfile(member, io.BytesIO(png(k)))
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, "a/0.png", size
        archive.addfile(member, io.BytesIO(bytes(size)))
    return path


def test_a_missing_path(tmp_path):
    assert "nowhere" in refusal(tmp_path / "nowhere", tmp_path, PathNotFoundError)
    with pytest.raises(PathNotFoundError):
        fingerprint(DataConfig(path=tmp_path / "nowhere.zip"))


def test_an_empty_folder_and_one_with_other_files(tmp_path):
    (tmp_path / "data").mkdir()
    assert "no image files" in refusal(tmp_path / "data", tmp_path)
    (tmp_path / "data" / "notes.docx").write_text("x")
    assert ".docx" in refusal(tmp_path / "data", tmp_path)


def test_images_without_class_folders_and_the_table_beside_them(tmp_path):
    files_of(tmp_path / "data", "0.png", "1.png")
    assert "folder per class" in refusal(tmp_path / "data", tmp_path)
    (tmp_path / "data" / "labels.csv").write_text("image,label\n0.png,a\n")
    assert "labels.csv" in refusal(tmp_path / "data", tmp_path)
    files_of(tmp_path / "split", "train/0.png", "test/1.png")
    assert "folder per class" in refusal(tmp_path / "split", tmp_path)


def test_a_folder_beside_splits(tmp_path):
    files_of(tmp_path / "data", "train/a/0.png", "test/a/0.png", "extra/a/0.png")
    assert "extra stand beside the split" in refusal(tmp_path / "data", tmp_path)


def test_one_class_and_no_training_images(tmp_path):
    assert "one class" in refusal(folder(tmp_path / "data", cat=5), tmp_path)
    assert "nothing to train" in refusal(folder(tmp_path / "data2" / "test", a=5, b=5).parent, tmp_path)


def test_a_class_with_one_image_needs_a_test_split_of_the_datas_own(tmp_path):
    message = refusal(folder(tmp_path / "data", cat=5, dog=1), tmp_path)
    assert "dog" in message
    assert "cat" not in message
    folder(tmp_path / "own" / "train", cat=5, dog=1)
    folder(tmp_path / "own" / "test", cat=5, dog=2, owl=1)
    reading = load(tmp_path / "own", tmp_path)
    assert any("owl" in note for note in reading.notes)


def test_all_broken_or_too_many_broken_with_the_whole_list_attached(tmp_path):
    root = folder(tmp_path / "data", cat=20, dog=20)
    for k in range(7):
        (root / "cat" / f"{k}.png").write_text("this is text")
    with pytest.raises(TooManyUnreadableError, match="7 of 40") as caught:
        load(root, tmp_path)
    assert len(caught.value.unreadable) == 7
    assert caught.value.unreadable[0].path == "cat/0.png"
    assert "and 2 more" in str(caught.value)
    assert len(load(root, tmp_path, max_bad_share=0.2).unreadable) == 7
    for path in root.glob("*/*.png"):
        path.write_bytes(b"")
    assert "40 of 40" in refusal(root, tmp_path, TooManyUnreadableError, max_bad_share=1.0)


def test_every_bad_file_of_a_folder_has_its_reason(tmp_path):
    root = folder(tmp_path / "data", cat=100, dog=100)
    outside = files_of(tmp_path / "outside", "secret.png")
    (root / "cat" / "text.png").write_text("hello")
    (root / "cat" / "empty.png").write_bytes(b"")
    (root / "cat" / "cut.png").write_bytes(png(0)[:-200])
    (root / "cat" / "phone.heic").write_bytes(b"\0\0\0 ftypheic")
    (root / "cat" / "link.png").symlink_to(outside / "secret.png")
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "linked").symlink_to(outside)
    (root / "stray.png").write_bytes(png(0))
    os.mkfifo(root / "cat" / "pipe.png")
    Image.new("1", (4000, 4000)).save(root / "cat" / "bomb.png")
    reading = load(root, tmp_path, max_bad_share=0.2, max_pixels=1_000_000)
    reasons = {one.path: one.reason for one in reading.unreadable}
    expected = {
        "cat/text.png": "not an image",
        "cat/empty.png": "empty",
        "cat/cut.png": "damaged",
        "cat/phone.heic": "not an image",
        "cat/link.png": "out of the data folder",
        "cat/gone.png": "does not exist",
        "linked": "out of the data folder",
        "stray.png": "beside the class folders",
        "cat/pipe.png": "not a regular file",
        "cat/bomb.png": "pixels",
    }
    assert reasons.keys() == expected.keys()
    for path, words in expected.items():
        assert words in reasons[path]
    assert len(reading.data) == 200


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_files_and_folders_without_permission(tmp_path):
    root = folder(tmp_path / "data", cat=5, dog=5)
    (root / "cat" / "0.png").chmod(0)
    reading = load(root, tmp_path, max_bad_share=0.5)
    assert "permission" in reading.unreadable[0].reason
    (root / "cat" / "0.png").chmod(0o600)
    root.chmod(0)
    try:
        with pytest.raises(DatasetError, match="permission"):
            load(root, tmp_path)
    finally:
        root.chmod(0o700)


def test_a_file_name_that_is_not_utf8_can_be_written_to_the_index(tmp_path):
    root = folder(tmp_path / "data", cat=5, dog=5)
    Path(os.fsdecode(os.fsencode(root / "cat") + b"/caf\xe9.png")).write_bytes(png(1))
    reading = load(root, tmp_path)
    reading.data.save(tmp_path / "saved")
    assert len(reading.data) == 11


@pytest.mark.parametrize("name", ["/etc/a.png", "../a.png", "a/../../b.png", "a\\..\\..\\b.png", "C:\\b.png"])
@pytest.mark.parametrize("make", [zip_with, tar_with])
def test_archive_paths_that_lead_out(make, name, tmp_path):
    path = make(tmp_path / ("x.zip" if make is zip_with else "x.tar"), name)
    assert repr(name) in refusal(path, tmp_path, UnsafeArchiveError)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(kind, tmp_path):
    assert "a/x.png" in refusal(
        tar_with(tmp_path / "x.tgz", "a/x.png", kind, mode="w:gz"), tmp_path, UnsafeArchiveError
    )


def test_a_link_in_a_zip(tmp_path):
    path = zip_with(tmp_path / "x.zip", "a/x.png", stat.S_IFLNK | 0o777)
    assert "link" in refusal(path, tmp_path, UnsafeArchiveError)


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for k in range(3):
            archive.writestr(f"a/{k}.png", bytes(35_000_000))
    assert "unpack" in refusal(tmp_path / "x.zip", tmp_path, UnsafeArchiveError)
    tar_with(tmp_path / "x.tar.gz", "a/x.png", size=110_000_000, mode="w:gz")
    assert "unpack" in refusal(tmp_path / "x.tar.gz", tmp_path, UnsafeArchiveError)
    small = zip_with(tmp_path / "y.zip", "a/x.png")
    assert "max_unpacked_bytes" in refusal(small, tmp_path, UnsafeArchiveError, max_unpacked_bytes=1000)


def test_a_tar_whose_names_are_a_bomb(tmp_path):
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 50_000_000
    with gzip.open(tmp_path / "x.tar.gz", "wb") as file:
        file.write(header.tobuf())
        file.write(bytes(50_000_000))
    assert "50,000,000" in refusal(tmp_path / "x.tar.gz", tmp_path, UnsafeArchiveError)


def test_a_zip_that_lies_about_a_size_is_not_read_beyond_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(8):
            archive.writestr(f"{'ab'[k % 2]}/{k}.png", png(k))
        archive.writestr("a/liar.png", bytes(5_000_000))
    data = bytearray((tmp_path / "x.zip").read_bytes())
    true_size = (5_000_000).to_bytes(4, "little")
    place = data.rindex(true_size)
    data[place : place + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(data)
    reading = load(tmp_path / "x.zip", tmp_path, max_bad_share=0.5)
    assert [one.path for one in reading.unreadable] == ["a/liar.png"]


def test_an_encrypted_zip(tmp_path):
    path = zip_with(tmp_path / "x.zip", "a/x.png")
    data = bytearray(path.read_bytes())
    start = 0
    while (start := data.find(b"PK\x01\x02", start)) >= 0:
        data[start + 8] |= 1
        start += 4
    path.write_bytes(data)
    assert "encrypted" in refusal(path, tmp_path)


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.xz", "x.parquet", "x.npz"])
@pytest.mark.parametrize("data", [b"", b"this is something else entirely" * 40])
def test_files_that_are_not_what_their_name_says(name, data, tmp_path):
    (tmp_path / name).write_bytes(data)
    assert name in refusal(tmp_path / name, tmp_path)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz"])
def test_an_archive_that_was_cut(name, tmp_path):
    kind = name.removeprefix("x.tar").removeprefix(".")
    path = tar_with(tmp_path / name, "a/x.png", size=5000, mode=f"w:{kind}" if kind else "w")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "broken" in refusal(path, tmp_path)


def test_a_damaged_member_of_a_zip_is_unreadable(tmp_path):
    path = zip_with(tmp_path / "x.zip", "b/x.png")
    data = path.read_bytes()
    path.write_bytes(data.replace(png(9)[60:80], bytes(20)))
    reading = load(path, tmp_path, max_bad_share=0.5)
    assert [one.path for one in reading.unreadable] == ["b/x.png"]


@pytest.mark.parametrize("holds", [{}, {"a.txt": b"x"}])
def test_an_archive_without_images(holds, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in holds.items():
            archive.writestr(name, data)
    assert "no image files" in refusal(tmp_path / "x.zip", tmp_path)


def table(root: Path, rows: list[tuple[object, ...]], names: tuple[str, ...] = ("image", "label")) -> Path:
    folder(root, cat=5, dog=5)
    good = [(f"{kind}/{k}.png", kind) for kind in ("cat", "dog") for k in range(5)]
    pd.DataFrame([*good, *rows], columns=names).to_csv(root / "table.csv", index=False)
    return root / "table.csv"


def test_columns_that_cannot_be_guessed_or_are_missing(tmp_path):
    path = table(tmp_path / "data", [], ("a", "b"))
    message = refusal(path, tmp_path)
    assert "['a', 'b']" in message
    assert "--data.image-column" in message
    assert "no column 'c'" in refusal(path, tmp_path, image_column="a", label_column="c")
    assert "both" in refusal(path, tmp_path, image_column="a", label_column="a")
    assert len(load(path, tmp_path, image_column="a", label_column="b").data) == 10


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "cat/../../x.png", "..\\x.png", "C:\\x.png"]
)
def test_table_paths_that_leave_the_data_folder_name_their_row(path, tmp_path):
    message = refusal(table(tmp_path / "data", [(path, "cat")]), tmp_path)
    assert "row 12" in message
    assert repr(path) in message


def test_unknown_paths_and_empty_labels_of_a_table(tmp_path):
    path = table(tmp_path / "data", [("cat/99.png", "cat"), ("cat/1.png", None), ("", "dog")])
    assert "cat/99.png: does not exist" in refusal(path, tmp_path, TooManyUnreadableError)
    reading = load(path, tmp_path, max_bad_share=0.5)
    reasons = " ".join(one.reason for one in reading.unreadable)
    assert "no label" in reasons
    assert "no image path" in reasons
    assert len(reading.data) == 10


def test_a_linked_folder_of_a_table_does_not_lead_out(tmp_path):
    files_of(tmp_path / "outside", "x.png")
    path = table(tmp_path / "data", [("linked/x.png", "cat")])
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "outside")
    assert "out of the data folder" in refusal(path, tmp_path, TooManyUnreadableError)


def test_a_named_split_column_with_other_words(tmp_path):
    path = table(tmp_path / "data", [], ("image", "label"))
    frame = pd.read_csv(path).assign(part="maybe")
    frame.to_csv(path, index=False)
    assert "'maybe'" in refusal(path, tmp_path, split_column="part")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"image,label\n", "no rows"),
        (b"image,label\na.png\n", "1 cells"),
        (b"image,image\na,b\n", "one name"),
        (b"image,label\n\xff\xfe,cat\n", "UTF-8"),
    ],
)
def test_broken_csv_tables(data, expected, tmp_path):
    (tmp_path / "x.csv").write_bytes(data)
    assert expected in refusal(tmp_path / "x.csv", tmp_path)


def test_a_parquet_with_a_column_of_another_type(tmp_path):
    pq.write_table(pa.table({"image": [[1], [2]], "label": [0, 1]}), tmp_path / "x.parquet")
    message = refusal(tmp_path / "x.parquet", tmp_path)
    assert "list" in message


def npz(tmp_path: Path, **arrays: object) -> Path:
    np.savez(tmp_path / "x.npz", **arrays)
    return tmp_path / "x.npz"


IMAGES = np.zeros((6, 8, 8), np.uint8)
LABELS = np.arange(6) % 2


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"images": np.array([{"a": 1}, None], object), "labels": LABELS}, "object"),
        ({"images": IMAGES, "labels": np.array(["a", 1] * 3, object)}, "object"),
        ({"images": IMAGES, "labels": LABELS[:5]}, "6 images"),
        ({"images": IMAGES, "labels": LABELS, "groups": LABELS[:5]}, "groups"),
        ({"images": np.full((6, 8, 8), np.nan), "labels": LABELS}, "NaN"),
        ({"images": np.full((6, 8, 8), -1.0), "labels": LABELS}, "0..1"),
        ({"images": np.full((6, 8, 8), 999.0), "labels": LABELS}, "0..255"),
        ({"images": np.zeros((6, 64), np.uint8), "labels": LABELS}, "height, width"),
        ({"images": np.zeros((6, 8, 8, 7), np.uint8), "labels": LABELS}, "height, width"),
        ({"images": np.zeros((6, 8, 8), np.int64), "labels": LABELS}, "uint8"),
        ({"images": np.zeros((0, 8, 8), np.uint8), "labels": LABELS[:0]}, "no rows"),
        ({"images": IMAGES, "labels": np.zeros(6, complex)}, "integers or strings"),
        ({"pictures": IMAGES, "kinds": LABELS}, "pictures"),
    ],
)
def test_arrays_that_cannot_be_used(arrays, expected, tmp_path):
    assert expected in refusal(npz(tmp_path, **arrays), tmp_path)


def test_labels_without_a_name_are_unreadable(tmp_path):
    path = npz(tmp_path, images=IMAGES, labels=np.array([0, 1, 0, 1, 2, 7]), class_names=np.array(["a", "b"]))
    reading = load(path, tmp_path, max_bad_share=0.5)
    assert len(reading.unreadable) == 2
    assert reading.data.class_names == ("a", "b")


def test_an_array_that_is_shorter_than_it_says(tmp_path):
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**12, 8, 8)}
    np.lib.format.write_array_header_1_0(file, header)
    labels = io.BytesIO()
    np.save(labels, LABELS)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", file.getvalue() + bytes(100))
        archive.writestr("labels.npy", labels.getvalue())
    assert "shorter" in refusal(tmp_path / "x.npz", tmp_path)


def test_a_pattern_that_matches_no_name(tmp_path):
    message = refusal(folder(tmp_path / "data", cat=5, dog=5), tmp_path, group_pattern="scan_")
    assert "'scan_'" in message
    assert "'0'" in message


def test_a_file_of_an_unknown_kind(tmp_path):
    (tmp_path / "data.docx").write_text("x")
    message = refusal(tmp_path / "data.docx", tmp_path)
    assert "docx" in message
    assert ".npz" in message
