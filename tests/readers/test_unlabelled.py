"""Unlabelled images: every kind of source, without labels, brought to the size of the labelled ones."""

import io
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
from ganaug.readers import fingerprint, read, read_unlabelled


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pictures(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def write_files(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


MORE = pictures(6, 16, 16, 3, seed=1)


def flat_folder(root):
    return write_files(root / "more", {f"{k}.png": png(image) for k, image in enumerate(MORE)})


def nested_folder(root):
    names = ["0.png", "a/1.png", "a/2.png", "test/3.png", "test/deep/4.png", "train/5.png"]
    return write_files(root / "more", dict(zip(names, map(png, MORE), strict=True)))


def zip_of_a_flat_folder(root):
    with zipfile.ZipFile(root / "more.zip", "w") as archive:
        for k, image in enumerate(MORE):
            archive.writestr(f"{k}.png", png(image))
    return root / "more.zip"


def tar_of_a_flat_folder(root):
    with tarfile.open(root / "more.tar.gz", "w:gz") as archive:
        for k, image in enumerate(MORE):
            data = png(image)
            member = tarfile.TarInfo(f"{k}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return root / "more.tar.gz"


def csv_of_paths(root):
    flat_folder(root)
    (root / "more.csv").write_text("image\n" + "".join(f"more/{k}.png\n" for k in range(6)))
    return root / "more.csv"


def csv_with_empty_labels(root):
    flat_folder(root)
    (root / "more.csv").write_text("image,label\n" + "".join(f"more/{k}.png,\n" for k in range(6)))
    return root / "more.csv"


def parquet_of_paths(root):
    flat_folder(root)
    pd.DataFrame({"path": [f"more/{k}.png" for k in range(6)]}).to_parquet(root / "more.parquet")
    return root / "more.parquet"


def image_parquet(root):
    cells = [{"bytes": png(image), "path": f"{k}.png"} for k, image in enumerate(MORE)]
    pq.write_table(pa.table({"image": cells}), root / "more.parquet")
    return root / "more.parquet"


def image_parquet_of_bytes_alone(root):
    pq.write_table(pa.table({"image": [png(image) for image in MORE]}), root / "more.parquet")
    return root / "more.parquet"


def folder_of_image_parquet(root):
    (root / "more").mkdir()
    return image_parquet(root).rename(root / "more" / "train-0.parquet").parent


def npz(root):
    np.savez(root / "more.npz", images=MORE)
    return root / "more.npz"


def npz_with_labels_of_another_length(root):
    np.savez(root / "more.npz", x=MORE, y=np.arange(3), class_names=np.array(["a", "b"]))
    return root / "more.npz"


SOURCES = (
    flat_folder,
    nested_folder,
    zip_of_a_flat_folder,
    tar_of_a_flat_folder,
    csv_of_paths,
    csv_with_empty_labels,
    parquet_of_paths,
    image_parquet,
    image_parquet_of_bytes_alone,
    folder_of_image_parquet,
    npz,
    npz_with_labels_of_another_length,
)


@pytest.fixture
def labelled(tmp_path):
    """A reading of 12 labelled RGB images of 16 px, and its settings."""
    return labelled_of(tmp_path, pictures(12, 16, 16, 3))


def labelled_of(root, images, previews=False, **settings):
    data = {f"{'ab'[k % 2]}/{k}.png": png(image) for k, image in enumerate(images)}
    config = DataConfig(path=write_files(root / "data", data), **settings)
    return config, read(config, root / "out", previews=previews)


def read_more(labelled, path, **settings):
    config, reading = labelled
    config = config.model_copy(update={"unlabelled": path, **settings})
    return read_unlabelled(config, path.parent / "read", reading)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_every_kind_of_source_is_read_without_labels(source, labelled, tmp_path):
    reading = read_more(labelled, source(tmp_path))
    assert not reading.unreadable
    assert (reading.data.images == MORE).all()
    assert reading.data.class_names == ("unlabelled",)
    assert reading.data.index["sha256"].is_unique


@pytest.mark.parametrize("channels", [1, 3])
def test_size_channels_and_previews_follow_the_labelled_images(channels, tmp_path):
    shape = (70, 90) if channels == 1 else (70, 90, 3)
    labelled = labelled_of(tmp_path, pictures(6, *shape), previews=True, fit="pad")
    mixed = {
        "grey.png": png(pictures(1, 9, 20)[0]),
        "rgb.png": png(pictures(1, 200, 50, 3)[0]),
        "rgba.png": png(pictures(1, 32, 32, 4)[0]),
    }
    reading = read_more(labelled, write_files(tmp_path / "more", mixed))
    assert reading.data.images.shape == (3, *labelled[1].data.images.shape[1:])
    assert reading.data.images.shape[3] == channels
    assert reading.previews.shape == (3, 96, 96)


def test_an_image_in_both_sources_has_the_same_pixels_and_hash(tmp_path):
    images = pictures(6, 70, 90, 3)
    config, reading = labelled_of(tmp_path, images, previews=True)
    more = read_more((config, reading), write_files(tmp_path / "more", {"x.png": png(images[2])}))
    row = reading.data.index["path"].tolist().index("a/2.png")
    assert (more.data.images[0] == reading.data.images[row]).all()
    assert (more.previews[0] == reading.previews[row]).all()
    assert more.data.index["sha256"][0] == reading.data.index["sha256"][row]


def test_settings_of_labels_and_groups_do_not_matter(tmp_path):
    config, reading = labelled_of(tmp_path, pictures(12, 16, 16, 3), group_pattern="^(.*)$")
    config = config.model_copy(update={"label_column": "kind", "group_column": "patient"})
    assert len(read_more((config, reading), csv_of_paths(tmp_path)).data) == 6


def test_bad_unlabelled_files_are_listed_and_many_stop(labelled, tmp_path):
    root = flat_folder(tmp_path)
    (root / "broken.png").write_bytes(b"no image")
    reading = read_more(labelled, root, max_bad_share=0.5)
    assert [one.path for one in reading.unreadable] == ["broken.png"]
    assert len(reading.data) == 6
    with pytest.raises(TooManyUnreadableError, match="1 of 7 unlabelled images"):
        read_more(labelled, root)


def test_an_archive_of_unlabelled_images_may_not_do_harm(labelled, tmp_path):
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("../0.png", png(MORE[0]))
    with pytest.raises(UnsafeArchiveError):
        read_more(labelled, tmp_path / "more.zip")


def empty_folder(root):
    (root / "more").mkdir()
    return root / "more"


def zip_without_images(root):
    with zipfile.ZipFile(root / "more.zip", "w") as archive:
        archive.writestr("notes.txt", "no")
    return root / "more.zip"


def npz_without_images(root):
    np.savez(root / "more.npz", pixels=MORE)
    return root / "more.npz"


def csv_without_an_image_column(root):
    (root / "more.csv").write_text("a,b\n1,2\n")
    return root / "more.csv"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (empty_folder, "unlabelled images: any folder"),
        (zip_without_images, "unlabelled images: any folder"),
        (npz_without_images, "unlabelled, images or x"),
        (csv_without_an_image_column, "no column looks like the images"),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_a_source_without_images_is_refused_with_advice(source, words, labelled, tmp_path):
    with pytest.raises(DatasetError) as caught:
        read_more(labelled, source(tmp_path))
    assert words in str(caught.value)


def test_a_missing_source_is_named(labelled, tmp_path):
    with pytest.raises(PathNotFoundError, match="unlabelled images"):
        read_more(labelled, tmp_path / "gone")
    with pytest.raises(PathNotFoundError, match="unlabelled images"):
        fingerprint(DataConfig(path=labelled[0].path, unlabelled=tmp_path / "gone"))


def test_labelled_images_still_need_labels(tmp_path):
    for source in (flat_folder, csv_of_paths, image_parquet, npz):
        with pytest.raises(DatasetError):
            read(DataConfig(path=source(tmp_path)), tmp_path / "out", previews=False)


def test_the_fingerprint_follows_the_unlabelled_source(tmp_path):
    data = write_files(tmp_path / "data", {"a/1.png": b"x"})
    more = write_files(tmp_path / "more", {"1.png": b"x"})
    alone, first = fingerprint(DataConfig(path=data)), fingerprint(DataConfig(path=data, unlabelled=more))
    assert len({alone, first, fingerprint(DataConfig(unlabelled=more)), fingerprint(DataConfig())}) == 4
    (more / "2.png").write_bytes(b"x")
    second = fingerprint(DataConfig(path=data, unlabelled=more))
    assert second not in {alone, first}
    more.rename(tmp_path / "moved")
    assert fingerprint(DataConfig(path=data, unlabelled=tmp_path / "moved")) == second


def test_a_file_counts_in_another_way_as_an_unlabelled_one(tmp_path):
    data = write_files(tmp_path / "data", {"a/1.png": b"x", "z/2.png": b"x"})
    together = fingerprint(DataConfig(path=data))
    (tmp_path / "more").mkdir()
    (data / "z").rename(tmp_path / "more" / "z")
    assert fingerprint(DataConfig(path=data, unlabelled=tmp_path / "more")) != together
