"""A run's screening leaves tables and images that add up, in flat memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from support.screening import bright_and_dark, bright_screen, noisy

from ganaug.dataset import Images, LabelledImages
from ganaug.errors import DatasetError
from ganaug.screen import REASONS, screen_class

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def real() -> LabelledImages:
    return bright_and_dark(20, 12, RNG)


def manifest(count: int) -> pd.DataFrame:
    return pd.DataFrame({"class_id": 1, "seed": 5, "index": np.arange(count), "class_name": "bright"})


def mixed() -> Images:
    """Eight good ones, two of the wrong label, then the first three again."""
    good = noisy(8, 215, RNG)
    return np.concatenate([good, noisy(2, 60, RNG), good[:3] ^ 1])


def test_tables_and_images_say_the_same_and_counts_add_up(real: LabelledImages, tmp_path: Path) -> None:
    images = mixed()
    seen: list[tuple[int, int]] = []
    summary = screen_class(
        [images[:5], images[5:]],
        manifest(13),
        bright_screen(tmp_path, real),
        tmp_path / "out",
        lambda done, total: seen.append((done, total)),
    )
    screened = pd.read_parquet(tmp_path / "out" / "screened.parquet")
    expected = [""] * 8 + [REASONS[0]] * 2 + [REASONS[4]] * 3
    assert screened["reason"].tolist() == expected
    assert screened["kept"].tolist() == [not reason for reason in expected]
    assert {"seed", "index", "class_id", "class_name", "realism", "cluster"} <= set(screened.columns)
    assert (summary["made"], summary["kept"]) == (13, 8)
    assert sum(summary["rejected"].values()) + summary["kept"] == summary["made"]
    assert list(summary["rejected"]) == list(REASONS)
    assert summary["right_label_rate"] == pytest.approx(11 / 13, abs=1e-4)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "kept.npy"), images[:8])
    rejected = pd.read_parquet(tmp_path / "out" / "rejected.parquet")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "rejected.npy"), images[rejected["index"]])
    assert seen[-1] == (13, 13)


def test_shards_and_batches_change_nothing(
    real: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.concatenate([noisy(30, 215, RNG), mixed()])
    screen_class([images], manifest(43), bright_screen(tmp_path / "1", real), tmp_path / "whole")
    monkeypatch.setattr("ganaug.screen.produced.BATCH", 7)
    monkeypatch.setattr("ganaug.screen.produced.GROUP_ROWS", 10)
    parts = [images[:3], images[3:]]
    screen_class(parts, manifest(43), bright_screen(tmp_path / "2", real), tmp_path / "parts")
    whole, pieces = (pd.read_parquet(tmp_path / run / "screened.parquet") for run in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole, pieces, rtol=1e-4)
    kept = [(tmp_path / run / "kept.npy").read_bytes() for run in ("whole", "parts")]
    assert kept[0] == kept[1]
    # Groups of rows are written as they come: no more than one waits in memory.
    assert pq.ParquetFile(tmp_path / "parts" / "screened.parquet").num_row_groups == 4


def test_only_a_few_rejected_images_are_left_as_examples(real: LabelledImages, tmp_path: Path) -> None:
    images = noisy(600, 60, RNG)
    screen_class([images], manifest(600), bright_screen(tmp_path, real), tmp_path / "out")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "rejected.npy"), images[:16])


def test_no_images_is_an_empty_result(real: LabelledImages, tmp_path: Path) -> None:
    summary = screen_class([], manifest(0), bright_screen(tmp_path, real), tmp_path / "out")
    assert (summary["made"], summary["kept"]) == (0, 0)
    assert np.load(tmp_path / "out" / "kept.npy").shape == (0, 8, 8, 1)
    for file in ("screened.parquet", "rejected.parquet"):
        assert list(pd.read_parquet(tmp_path / "out" / file)["kept"]) == []


def test_a_kept_file_of_many_images_is_read_back_whole(real: LabelledImages, tmp_path: Path) -> None:
    images = noisy(1200, 215, RNG)
    summary = screen_class([images], manifest(1200), bright_screen(tmp_path, real), tmp_path / "out")
    kept = np.load(tmp_path / "out" / "kept.npy", mmap_mode="r")
    assert len(kept) == summary["kept"] >= 1000
    screened = pd.read_parquet(tmp_path / "out" / "screened.parquet")
    np.testing.assert_array_equal(kept, images[screened["kept"]])


@pytest.mark.parametrize("rows", [3, 7])
def test_shards_that_do_not_fit_the_manifest_are_refused(
    rows: int, real: LabelledImages, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="produce them again"):
        screen_class([noisy(5, 215, RNG)], manifest(rows), bright_screen(tmp_path, real), tmp_path / "out")
