"""Screening keeps good images, names one reason for each of the others, and its counts add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

from ganaug.config import ScreenConfig
from ganaug.dataset import Images, LabelledImages
from ganaug.errors import DatasetError, ModelError
from ganaug.screen import REASONS, RealNeighbours, copy_distance, pairwise_distances, screen_class

RNG = np.random.default_rng(0)


def brightness_classifier(folder: Path, steepness: float = 8.0) -> Path:
    """A graph that calls dark images class 0 and bright ones class 1, unsure in between."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["centred"]),
        helper.make_node("Mul", ["centred", "steepness"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["bright"]),
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Unsqueeze", ["bright", "last"], ["bright_column"]),
        helper.make_node("Unsqueeze", ["dark", "last"], ["dark_column"]),
        helper.make_node("Concat", ["dark_column", "bright_column"], ["probability"], axis=1),
    ]
    constants = {
        "axes": np.array([1, 2, 3]),
        "last": np.array([1]),
        "middle": np.array(127.5, np.float32),
        "steepness": np.array(steepness / 127.5, np.float32),
        "one": np.array(1.0, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 8, 8, 1])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = folder / f"classifier-{steepness}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def bright(count: int, level: int = 220) -> Images:
    """(N, 8, 8, 1) noisy bright images, no two alike."""
    return RNG.integers(level - 30, level + 30, (count, 8, 8, 1)).astype(np.uint8)


def unsure(count: int) -> Images:
    """Images whose mean is 131 exactly: bright by a hair."""
    noise = RNG.integers(-30, 30, (count, 4, 8, 1))
    return (131 + np.concatenate([noise, -noise], axis=1)).astype(np.uint8)


@pytest.fixture
def real() -> LabelledImages:
    images = np.concatenate([bright(20, level=40), bright(12)])
    index = pd.DataFrame({"class_id": np.repeat([0, 1], [20, 12])})
    return LabelledImages(images, index, ("dark", "bright"))


def manifest(count: int) -> pd.DataFrame:
    return pd.DataFrame({"class_id": 1, "seed": 5, "index": np.arange(count)})


def test_each_image_is_kept_or_rejected_for_its_one_reason(real: LabelledImages, tmp_path: Path) -> None:
    good = bright(6)
    images = np.concatenate(
        [
            good,
            bright(2, level=60),  # wrong label
            unsure(3),
            real.images[-2:] ^ 1,  # real ones, one grey level off
            good[:2] ^ 1,  # the first two again
            real.images[:1],  # a dark real one: the wrong label comes before the copy
        ]
    )
    seen: list[tuple[int, int]] = []
    shards = [images[:5], images[5:]]
    summary = screen_class(
        shards,
        manifest(16),
        1,
        real,
        [brightness_classifier(tmp_path)],
        ScreenConfig(),
        tmp_path / "out",
        lambda done, total: seen.append((done, total)),
    )
    screened = pd.read_parquet(tmp_path / "out" / "screened.parquet")
    expected = (
        [""] * 6 + [REASONS[0]] * 2 + [REASONS[1]] * 3 + [REASONS[2]] * 2 + [REASONS[3]] * 2 + [REASONS[0]]
    )
    assert screened["reason"].tolist() == expected
    assert screened["kept"].tolist() == [not reason for reason in expected]
    assert screened["nearest_real"].tolist()[11:13] == [30, 31]
    assert (summary["made"], summary["kept"]) == (16, 6)
    assert summary["rejected"] == dict(zip(REASONS, (3, 3, 2, 2), strict=True))
    assert sum(summary["rejected"].values()) + summary["kept"] == summary["made"]
    assert summary["right_label_rate"] == pytest.approx(13 / 16, abs=1e-4)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "kept.npy"), good)
    rejected = pd.read_parquet(tmp_path / "out" / "rejected.parquet")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "rejected.npy"), images[rejected["index"]])
    assert {"seed", "index", "class_id"} <= set(screened.columns)
    assert seen[-1] == (16, 16)


def test_all_classifiers_must_agree(real: LabelledImages, tmp_path: Path) -> None:
    images, sure = bright(4, level=150), brightness_classifier(tmp_path, 20.0)
    unsure = onnxruntime.InferenceSession(str(brightness_classifier(tmp_path, 0.5)))
    arguments = ([images], manifest(4), 1, real)
    assert screen_class(*arguments, [sure], ScreenConfig(), tmp_path / "a")["kept"] == 4
    assert screen_class(*arguments, [sure, unsure], ScreenConfig(), tmp_path / "b")["kept"] == 0


def test_shards_and_batches_change_nothing(
    real: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.concatenate([bright(30), unsure(10)])
    images[20:25] = images[:5]
    path = brightness_classifier(tmp_path)
    screen_class([images], manifest(40), 1, real, [path], ScreenConfig(), tmp_path / "whole")
    monkeypatch.setattr("ganaug.screen.BATCH", 7)
    screen_class([images[:3], images[3:]], manifest(40), 1, real, [path], ScreenConfig(), tmp_path / "parts")
    whole, parts = (pd.read_parquet(tmp_path / run / "screened.parquet") for run in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-4)
    assert (whole["reason"] == REASONS[3]).sum() == 5


def test_a_chosen_distance_wins_over_auto(real: LabelledImages, tmp_path: Path) -> None:
    arguments = ([bright(5)], manifest(5), 1, real, [brightness_classifier(tmp_path)])
    assert screen_class(*arguments, ScreenConfig(min_distance=0.9), tmp_path / "far")["kept"] == 0
    # At 0 nothing is a copy, not even the same image twice.
    assert screen_class(*arguments, ScreenConfig(min_distance=0.0), tmp_path / "off")["kept"] == 5


def test_no_images_is_an_empty_result(real: LabelledImages, tmp_path: Path) -> None:
    summary = screen_class(
        [], manifest(0), 1, real, [brightness_classifier(tmp_path)], ScreenConfig(), tmp_path
    )
    assert (summary["made"], summary["kept"]) == (0, 0)
    assert np.load(tmp_path / "kept.npy").shape == (0, 8, 8, 1)
    assert list(pd.read_parquet(tmp_path / "screened.parquet")["kept"]) == []


@pytest.mark.parametrize("rows", [3, 7])
def test_shards_that_do_not_fit_the_manifest_are_refused(
    rows: int, real: LabelledImages, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="produce them again"):
        screen_class(
            [bright(5)], manifest(rows), 1, real, [brightness_classifier(tmp_path)], ScreenConfig(), tmp_path
        )


def test_a_classifier_that_cannot_be_loaded_is_refused(real: LabelledImages, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="export it again"):
        screen_class([], manifest(0), 1, real, [tmp_path / "broken.onnx"], ScreenConfig(), tmp_path)


def test_distances_are_root_mean_squares_of_pixels_in_0_to_1() -> None:
    left, right = bright(4), bright(5)
    expected = [[np.sqrt(np.mean((a / 255.0 - b / 255.0) ** 2)) for b in right] for a in left]
    np.testing.assert_allclose(pairwise_distances(left, right), expected, atol=1e-5)


def test_the_nearest_real_image_is_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RealNeighbours, "BLOCK", 4)
    reals, batch = bright(11), bright(6)
    distance, row = RealNeighbours(reals)(batch)
    every = pairwise_distances(batch, reals)
    np.testing.assert_array_equal(row, every.argmin(axis=1))
    np.testing.assert_allclose(distance, every.min(axis=1), atol=1e-5)


def test_a_real_image_moved_by_one_pixel_is_still_found_in_larger_images() -> None:
    smooth = np.repeat(np.repeat(RNG.integers(0, 255, (9, 6, 6, 3)), 4, axis=1), 4, axis=2).astype(np.uint8)
    moved = np.roll(smooth, (1, -1), axis=(1, 2))
    distance, row = RealNeighbours(smooth)(moved)
    np.testing.assert_array_equal(row, np.arange(9))
    assert distance.max() < 1e-6
    assert pairwise_distances(moved, smooth).diagonal().min() > 0.05


def test_auto_is_below_the_distance_of_real_neighbours_and_near_the_trials_on_digits() -> None:
    from sklearn.datasets import load_digits

    pixels, class_ids = load_digits(return_X_y=True)
    images = np.round(pixels * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    data = LabelledImages(images, pd.DataFrame({"class_id": class_ids}), tuple("0123456789"))
    # The trials took an L2 distance of 0.35 over 64 pixels.
    assert copy_distance(data) == pytest.approx(0.35 / 8, rel=0.15)


def test_auto_does_without_pairs_and_refuses_no_images(real: LabelledImages) -> None:
    assert copy_distance(real.take(np.array([0, 25]))) > 0
    with pytest.raises(DatasetError, match="none"):
        copy_distance(real.take(np.array([], dtype=np.int64)))
