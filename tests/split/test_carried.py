"""A split that is carried over to data that have grown."""

import numpy as np
import pandas as pd
import pytest

from ganaug.config import SplitConfig
from ganaug.dataset import LabelledImages
from ganaug.split import load_split, make_split, save_split
from ganaug.split.carried import Carried

CONFIG = SplitConfig(near_duplicates=False, group_names=False)


def data(count, *, seed=0, groups=None, classes=2):
    """Random images, each with a hash of its own; the first are the same for every count."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 1), np.uint8)
    index = pd.DataFrame(
        {
            "path": [f"{row}.png" for row in range(count)],
            "class_id": np.arange(count) % classes,
            "split": "",
            "group": [""] * count if groups is None else groups,
            "sha256": [f"{row:064x}" for row in range(count)],
        }
    )
    return LabelledImages(images, index, tuple("ab"[:classes]))


def parted(images, carried=None, **settings):
    config = CONFIG.model_copy(update=settings)
    explicit = bool(images.index["group"].ne("").any())
    return make_split(images, config, explicit_groups=explicit, previews=None, carried=carried)


def carried_of(split, folder):
    save_split(split, folder)
    return Carried.load(folder / "split.parquet")


def in_order(carried):
    return [carried.sides[f"{row:064x}"] for row in range(100)]


@pytest.fixture
def before(tmp_path):
    return carried_of(parted(data(100)), tmp_path)


def test_every_image_keeps_its_side_and_new_ones_have_the_same_share(before):
    grown = parted(data(200), before).data.index
    assert grown["split"][:100].tolist() == in_order(before)
    for class_id in (0, 1):
        own = grown[grown["class_id"] == class_id]
        assert (own["split"] == "test").sum() == 25


def test_images_that_come_one_by_one_are_tested_on_too(tmp_path, before):
    carried = before
    for count in range(101, 121):
        split = parted(data(count), carried)
        carried = carried_of(split, tmp_path)
    assert (split.data.index["split"] == "test").sum() == pytest.approx(0.25 * 120, abs=1)


def test_images_that_vanish_do_not_move_the_others(before):
    smaller = data(100).take(np.arange(10, 90))
    smaller = LabelledImages(smaller.images, smaller.index, smaller.class_names)
    now = parted(smaller, before).data.index
    assert now["split"].tolist() == in_order(before)[10:90]


def test_a_new_image_of_a_group_stands_where_its_group_does(tmp_path):
    groups = [f"g{row // 4}" for row in range(100)]
    before = carried_of(parted(data(100, groups=groups)), tmp_path)
    now = parted(data(200, groups=groups * 2), before).data.index
    assert now["split"][100:].tolist() == now["split"][:100].tolist()


def test_training_images_that_turn_out_to_be_of_a_test_image_s_group_leave_training(before):
    sides = in_order(before)
    train, test = sides.index("train"), sides.index("test")
    groups = [f"g{row}" for row in range(101)]
    groups[train] = groups[test] = groups[100] = "bridge"
    split = parted(data(101, groups=groups), before)
    assert split.data.index["split"].iloc[[train, test, 100]].tolist() == ["unused", "test", "test"]
    assert split.summary["leaks_removed"] == 1
    assert any("leave training" in warning for warning in split.warnings)


def test_a_cut_class_that_has_not_grown_keeps_its_images(tmp_path):
    keep = {"keep": {"a": 5}}
    before = carried_of(parted(data(100), **keep), tmp_path)
    images = data(150)
    # All that is new is of the other class.
    images.index.loc[100:, "class_id"] = 1
    now = parted(images, before, **keep).data.index
    was = {sha for sha, side in before.sides.items() if side == "train" and int(sha, 16) % 2 == 0}
    assert set(now.loc[(now["class_id"] == 0) & (now["split"] == "train"), "sha256"]) == was


def test_a_test_split_of_the_data_s_own_is_kept_as_it_is(before):
    images = data(120)
    images.index["split"] = ["test" if row < 30 else "train" for row in range(120)]
    assert (parted(images, before).data.index["split"] == "test").tolist() == [row < 30 for row in range(120)]


def test_the_lock_is_checked_as_always(tmp_path, before):
    save_split(parted(data(120), before), tmp_path / "next")
    assert len(load_split(tmp_path / "next")) == 120
