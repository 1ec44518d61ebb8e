import numpy as np
import pandas as pd
import pytest

from ganaug.config import SplitConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, RunFolderError, SettingsError
from ganaug.split import assign_groups, check_lock, load_split, make_split, save_split

ALONE = SplitConfig(near_duplicates=False, group_names=False)


def images_of(classes, *, split="", group="", seed=0):
    """Random images: no two alike."""
    classes = np.asarray(classes)
    pixels = np.random.default_rng(seed).integers(0, 256, (len(classes), 8, 8, 1)).astype(np.uint8)
    index = pd.DataFrame(
        {
            "path": [f"picture{row}" for row in range(len(classes))],
            "class_id": classes.astype(np.int64),
            "split": split,
            "group": group,
            "sha256": [f"{row:064x}" for row in range(len(classes))],
        }
    )
    return LabelledImages(pixels, index, tuple(f"c{k}" for k in range(classes.max() + 1)))


def split(data, config=ALONE, groups=False):
    return make_split(data, config, explicit_groups=groups, previews=None)


def test_every_class_gives_its_share_to_the_test_split():
    made = split(images_of(np.repeat([0, 1, 2], [400, 40, 2])))
    assert made.data.part("test").counts().tolist() == [100, 10, 1]
    assert made.data.part("train").counts().tolist() == [300, 30, 1]


def test_no_group_stands_on_both_sides_and_classes_stay_balanced():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 60, 900)
    classes = rng.choice(3, 900, p=[0.85, 0.1, 0.05])
    made = split(images_of(classes, group=[f"photo{g}" for g in group]), groups=True)
    sides = pd.Series(made.data.index["split"].to_numpy()).groupby(group).nunique()
    assert (sides == 1).all()
    share = made.data.part("test").counts() / np.bincount(classes)
    assert np.abs(share - 0.25).max() < 0.05


@pytest.mark.parametrize("seed", range(6))
def test_a_large_group_does_not_take_the_test_split_where_small_ones_come_nearer(seed):
    group = np.repeat(["quay", "yard", "dock"], [80, 10, 10])
    config = ALONE.model_copy(update={"seed": seed})
    made = split(
        images_of(np.zeros(100, int) + (group != "quay") * (np.arange(100) % 2), group=group),
        config,
        groups=True,
    )
    assert made.data.part("test").counts().tolist() == [5, 5]


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_rows():
    data = images_of(np.arange(200) % 3)
    turned = data.take(np.random.default_rng(1).permutation(200))

    def tested(made):
        return set(made.data.part("test").index["path"])

    assert tested(split(data)) == tested(split(turned))
    other = SplitConfig(near_duplicates=False, group_names=False, seed=1)
    assert tested(split(data)) != tested(split(data, other))


def test_a_users_test_split_is_kept_and_copies_of_it_leave_training():
    data = images_of(np.arange(40) % 2, split=["test"] * 10 + ["train"] * 30)
    data.images[20] = data.images[4]
    made = split(data)
    assert made.data.index["split"].tolist()[:10] == ["test"] * 10
    assert made.data.index["split"][20] == "unused"
    assert made.summary["leaks_removed"] == 1
    assert "1 training image(s)" in made.warnings[0]


@pytest.mark.parametrize("copies", [8, 13])
def test_copies_that_are_much_of_a_class_are_told_with_what_to_do(copies):
    data = images_of(np.repeat([0, 1], [50, 50]))
    data.images[:copies] = data.images[0]
    warnings = " ".join(split(data).warnings)
    assert ("13 of the 50 images of 'c0'. Each" in warnings) == (copies == 13)
    assert ("--split.near-duplicates false" in warnings) == (copies == 13)
    assert "'c1'" not in warnings


@pytest.mark.parametrize("is_named", [True, False])
def test_large_groups_that_leave_few_images_to_test_on_are_told(is_named):
    scenes = np.repeat(["quay", "yard", "weir", "dock", "a", "b", "c", "d"], [28, 28, 2, 2, 10, 10, 10, 10])
    data = images_of(np.repeat([0, 1], [60, 40]), group=scenes if is_named else "")
    data.index["path"] = [f"{scene}-{row}" for row, scene in enumerate(scenes)]
    # What names tell is believed where images of a name are alike.
    firsts = data.images[np.unique(scenes, return_index=True)[1]][np.unique(scenes, return_inverse=True)[1]]
    data.images[:] = firsts // 4 * 3 + data.images // 4
    config = ALONE.model_copy(update={"group_names": not is_named})
    (warning,) = split(data, config, groups=is_named).warnings
    assert "4 of the 60 images of 'c0', where `split.test_share` asks for 25%" in warning
    assert "'c1'" not in warning
    assert ("--split.group-names" in warning) != is_named


@pytest.mark.parametrize(("has_test", "side"), [(True, "train"), (False, "test")])
def test_a_validation_split_tests_only_when_nothing_else_does(has_test, side):
    given = ["val"] * 10 + (["test"] * 10 if has_test else ["train"] * 10) + ["train"] * 20
    made = split(images_of(np.arange(40) % 2, split=given))
    assert set(made.data.index["split"][:10]) == {side}
    assert len(made.warnings) == 1


def test_keep_and_long_tail_cut_training_only():
    data = images_of(np.repeat([0, 1, 2], 80))
    kept = split(data, SplitConfig(near_duplicates=False, keep={"c1": 5}))
    assert kept.data.part("train").counts().tolist() == [60, 5, 60]
    tail = split(data, SplitConfig(near_duplicates=False, long_tail=100))
    assert tail.data.part("train").counts().tolist() == [60, 6, 1]
    assert tail.data.part("test").counts().tolist() == [20, 20, 20]


def test_keep_refuses_a_class_that_does_not_exist():
    with pytest.raises(SettingsError, match=r"'zebra'.*c0"):
        split(images_of(np.arange(20) % 2), SplitConfig(keep={"zebra": 5}))


def test_a_class_of_one_group_is_refused_with_advice():
    group = ["one"] * 10 + [f"photo{row}" for row in range(30)]
    with pytest.raises(DatasetError, match=r"c0.*near-duplicates false"):
        split(images_of([0] * 10 + [1] * 30, group=group), groups=True)


@pytest.mark.parametrize("classes", [[1] * 9, [0] * 9 + [1]], ids=["one class", "a class with one image"])
def test_what_cannot_be_parted_is_refused(classes):
    with pytest.raises(DatasetError):
        split(images_of(classes))


def test_single_images_and_bursts_have_the_same_share_of_the_test_split():
    groups = np.r_[np.repeat(np.arange(50), 4), np.arange(50, 250)]
    chosen = assign_groups(groups, np.zeros(400, np.int64), 0.25, seed=0)
    assert chosen[:200].sum() == pytest.approx(50, abs=4)
    assert chosen.sum() == 100


def test_the_lock_tells_that_the_split_was_changed(tmp_path):
    save_split(split(images_of(np.arange(40) % 2)), tmp_path)
    check_lock(tmp_path)
    assert set(load_split(tmp_path).index["split"]) == {"train", "test"}
    table = pd.read_parquet(tmp_path / "split.parquet")
    table.loc[0, "split"] = "test" if table["split"][0] == "train" else "train"
    table.to_parquet(tmp_path / "split.parquet")
    with pytest.raises(RunFolderError, match="changed after it was locked"):
        check_lock(tmp_path)


def test_the_lock_tells_that_the_index_was_changed(tmp_path):
    made = split(images_of(np.arange(40) % 2))
    save_split(made, tmp_path)
    made.data.index.assign(split="test").to_parquet(tmp_path / "index.parquet")
    with pytest.raises(RunFolderError, match="changed after it was locked"):
        load_split(tmp_path)
