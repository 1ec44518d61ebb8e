"""Unlabelled images that show what the test split shows are dropped, counted, and never trained on."""

import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_sample_images

from ganaug import cli
from ganaug.config import load
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, RunFolderError
from ganaug.run import RunFolder
from ganaug.split import sift_unlabelled
from ganaug.split.duplicates import find_duplicates
from ganaug.steps import load_training, load_unlabelled, open_run


def images_of(pixels, split, sha256=None, group=None):
    count = len(pixels)
    index = pd.DataFrame(
        {
            "class_id": np.arange(count) % 2,
            "split": split,
            "group": [str(row) for row in range(count)] if group is None else group,
            "sha256": [f"{pixels.shape}{row}" for row in range(count)] if sha256 is None else sha256,
            "height": pixels.shape[1],
            "width": pixels.shape[2],
        }
    )
    return LabelledImages(pixels, index, ("a", "b"))


def noise(count, seed, side=8):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 1)).astype(np.uint8)


SIDES = ["train"] * 6 + ["test"] * 3 + ["unused"] * 3


def test_copies_of_test_and_training_images_are_dropped_and_counted():
    data, more = images_of(noise(12, 0), SIDES), noise(10, 1)
    more[0], more[4], more[5], more[7] = data.images[7], data.images[0], data.images[8], data.images[10]
    sifted = sift_unlabelled(images_of(more, ""), data, {})
    # An image that no side uses may come back without its label.
    assert sifted.rows.tolist() == [1, 2, 3, 6, 7, 8, 9]
    assert sifted.dropped == {
        "copies of test images": 2,
        "near-duplicates of test images": 0,
        "copies of training images": 1,
    }
    assert "2 copies of test images" in sifted.note


def test_equal_files_are_copies_whatever_their_pixels_became():
    hashes = [f"x{row}" for row in range(12)]
    more = images_of(noise(4, 1), "", sha256=["x8", "y", "x1", "z"])
    assert sift_unlabelled(more, images_of(noise(12, 0), SIDES, hashes), {}).rows.tolist() == [1, 3]


def test_what_left_training_for_a_test_image_counts_as_a_test_image():
    groups = [str(row) for row in range(11)] + ["7"]
    data, more = images_of(noise(12, 0), SIDES, group=groups), noise(3, 1)
    more[1] = data.images[11]
    sifted = sift_unlabelled(images_of(more, ""), data, {})
    assert sifted.dropped["copies of test images"] == 1


def test_nothing_left_is_an_error_that_says_why():
    data = images_of(noise(12, 0), SIDES)
    with pytest.raises(
        DatasetError, match=r"3 copies of test images.*6 copies of training.*data\.unlabelled"
    ):
        sift_unlabelled(images_of(data.images[:9], ""), data, {})


def tiny_copies(images, rng):
    return (images + rng.integers(-1, 2, images.shape)).clip(0, 255).astype(np.uint8)


def test_near_duplicates_of_tiny_images_are_found():
    rng, data = np.random.default_rng(0), images_of(noise(12, 0).clip(1, 254), SIDES)
    more = np.concatenate([tiny_copies(data.images, rng), noise(20, 1)])
    sifted = sift_unlabelled(images_of(more, ""), data, {"whole": 0.995})
    assert sifted.dropped["near-duplicates of test images"] == 3
    assert set(range(32)) - set(sifted.rows.tolist()) == {6, 7, 8}


@pytest.fixture(scope="module")
def tiles():
    """(36, 100, 100, 3) real, textured, disjoint parts of two photographs."""
    found = []
    for photo in load_sample_images().images:
        for top in range(0, 427 - 100, 105):
            found += [photo[top : top + 100, left : left + 100] for left in range(0, 640 - 100, 105)]
    return np.stack(sorted(found, key=lambda tile: -cv2.Laplacian(tile, cv2.CV_32F).std())[:36])


def frames(tiles, rng):
    """Each tile as the next frame of its burst: moved, in other light, noisy, compressed."""
    found = []
    for tile in tiles:
        shift = np.float32([[1, 0, 5], [0, 1, -3]])
        moved = cv2.warpAffine(tile, shift, tile.shape[:2], borderMode=cv2.BORDER_REFLECT_101)
        lit = (moved.astype(np.float32) - 128) * 1.15 + 140 + rng.normal(0, 4, tile.shape)
        _, code = cv2.imencode(".jpg", lit.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 85])
        found.append(cv2.imdecode(code, cv2.IMREAD_COLOR))
    return np.stack(found)


def small(tiles):
    return np.stack([cv2.resize(tile, (32, 32), interpolation=cv2.INTER_AREA) for tile in tiles])


@pytest.mark.parametrize("block", [4096, 1])
def test_frames_of_one_burst_with_test_images_are_dropped_and_no_others(block, tiles, monkeypatch):
    monkeypatch.setattr("ganaug.split.unlabelled._BLOCK", block)
    sides = np.array((["train"] * 2 + ["test"]) * 8)
    data = images_of(small(tiles[:24]), sides)
    limits = find_duplicates(data.images, data.class_ids, data.index["sha256"].to_numpy(object)).limits
    burst = small(frames(tiles[:24], np.random.default_rng(0)))
    sifted = sift_unlabelled(images_of(np.concatenate([burst, small(tiles[24:])]), ""), data, limits)
    dropped = set(range(36)) - set(sifted.rows.tolist())
    assert dropped <= set(np.flatnonzero(sides == "test").tolist())
    assert len(dropped) >= 7


def test_crops_that_overlap_a_test_image_are_found_in_previews(tiles):
    views = np.stack([cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY) for tile in tiles])
    known, others = (
        np.stack([cv2.resize(view, (96, 96)) for view in part])
        for part in (views[:12, :84, :84], np.concatenate([views[:12, 16:, 16:], views[12:, :84, :84]]))
    )
    data = images_of(small(known)[..., None], np.array(["train", "test"] * 6))
    sifted = sift_unlabelled(
        images_of(small(others)[..., None], ""), data, {"whole": 0.6, "part": 0.6}, previews=(others, known)
    )
    dropped = set(range(36)) - set(sifted.rows.tolist())
    assert dropped <= {1, 3, 5, 7, 9, 11}
    assert len(dropped) >= 3


@pytest.fixture
def sources(tiles, tmp_path, monkeypatch):
    """A folder with `data/a`, `data/b`, and `more` with a frame and a copy of each of their images."""
    monkeypatch.chdir(tmp_path)
    for name in ("data/a", "data/b", "more"):
        (tmp_path / name).mkdir(parents=True)
    for row, tile in enumerate(tiles[:24]):
        cv2.imwrite(f"data/{'ab'[row % 2]}/{row}.png", tile)
        cv2.imwrite(f"more/copy{row}.bmp", tile)
    for row, tile in enumerate(frames(tiles[:24], np.random.default_rng(0))):
        cv2.imwrite(f"more/frame{row}.png", tile)
    for row, tile in enumerate(tiles[24:]):
        cv2.imwrite(f"more/other{row}.png", tile)
    (tmp_path / "more" / "broken.png").write_bytes(b"no image")
    return tmp_path


def plan(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["ganaug", "plan", "data/", "--run-dir", "run", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code or 0


MORE = ("--data.unlabelled", "more/", "--data.max-bad-share", "0.1")


def test_the_plan_verb_leaves_the_unlabelled_images(sources, monkeypatch):
    assert plan(monkeypatch, *MORE) == 0
    run = RunFolder.open(sources / "run")
    record, kept = run.record("split"), load_unlabelled(run)
    tested, trained = sum(record.summary["test"].values()), len(load_training(run))
    dropped = record.summary["unlabelled_dropped"]
    assert dropped["copies of test images"] == tested
    assert dropped["copies of training images"] == trained
    assert 0.7 * tested <= dropped["near-duplicates of test images"] <= tested
    assert len(kept) == record.summary["unlabelled"] == 60 - sum(dropped.values())
    assert kept.dtype == np.uint8
    assert kept.shape[1:] == load_training(run).images.shape[1:]
    assert any("unlabelled images are of use" in note for note in record.summary["notes"])
    assert record.summary["unlabelled_unreadable"] == 1
    assert "broken.png" in (run.path("split") / "unlabelled_unreadable.csv").read_text()
    assert not (run.path("split") / "unlabelled").exists()


def test_exact_copies_are_dropped_without_the_search_as_well(sources, monkeypatch):
    assert plan(monkeypatch, *MORE, "--split.near-duplicates", "false") == 0
    summary = RunFolder.open(sources / "run").record("split").summary
    assert list(summary["unlabelled_dropped"].values())[1] == 0
    assert summary["unlabelled"] == 36


def test_without_the_setting_nothing_is_left_and_with_it_the_run_is_another(sources, monkeypatch):
    assert plan(monkeypatch, "--split.near-duplicates", "false") == 0
    run = RunFolder.open(sources / "run")
    assert load_unlabelled(run) is None
    assert "unlabelled" not in run.record("split").summary
    with pytest.raises(RunFolderError, match="another dataset"):
        open_run(load(data="data", overrides={"run_dir": "run", "data.unlabelled": "more"}))


def test_too_many_unreadable_ones_stop_the_run_and_are_listed(sources, monkeypatch, capsys):
    assert plan(monkeypatch, *MORE[:2]) == 1
    assert "unlabelled images" in " ".join(capsys.readouterr().err.split())
    assert "broken.png" in (sources / "run" / "unreadable.csv").read_text()
