"""Test images among synthetic ones are found; look-alikes as real images have them are not accused."""

from __future__ import annotations

import numpy as np
import pytest
from support.digits import as_synthetic, rare_digits

import ganaug
from ganaug.dataset import LabelledImages
from ganaug.errors import LeakError
from ganaug.leak import find_copies, refuse_leaks

TRAIN, TEST, CUT = rare_digits()
THREES = TEST.images[TEST.class_ids == 3]
ROWS = np.flatnonzero(TEST.class_ids == 3)
# Real threes that neither train nor test.
HONEST = CUT.images[CUT.class_ids == 3]


INNOCENT = "None of the "


def jittered(images, rng):
    return np.clip(images + rng.normal(0, 6, images.shape), 0, 255).astype(np.uint8)


CHANGES = {
    "exact": lambda images, rng: images,
    "noise": jittered,
    "a pixel to the side": lambda images, rng: np.roll(images, 1, axis=2),
    "a pixel down": lambda images, rng: np.roll(images, 1, axis=1),
    "brighter": lambda images, rng: np.clip(images.astype(int) + 8, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_handful_of_test_images_among_honest_ones_is_caught_and_named(change):
    smuggled = change(THREES[:6], np.random.default_rng(0))
    mixed = as_synthetic(
        np.concatenate(
            [
                jittered(np.repeat(TRAIN.images[TRAIN.class_ids == 3], 90, 0), np.random.default_rng(1)),
                smuggled,
            ]
        ),
        3,
    )
    with pytest.raises(LeakError, match="seen the test split") as caught:
        refuse_leaks(TRAIN, TEST, mixed)
    assert caught.value.test_rows == {"3": ROWS[:6].tolist()}
    assert f"{ROWS[0]} ({TEST.index['path'][ROWS[0]]})" in str(caught.value)


def test_near_copies_may_be_told_of_instead():
    shifted = as_synthetic(np.concatenate([HONEST, CHANGES["brighter"](THREES[:6], None)]), 3)
    with pytest.raises(LeakError, match="near-copies note"):
        refuse_leaks(TRAIN, TEST, shifted)
    note = refuse_leaks(TRAIN, TEST, shifted, "note")
    assert "may be a leak" in note
    assert str(TEST.index["path"][ROWS[0]]) in note


def test_one_exact_copy_is_enough():
    mixed = as_synthetic(np.concatenate([HONEST, THREES[:1]]), 3)
    with pytest.raises(LeakError, match="1 are test images to the last pixel") as caught:
        refuse_leaks(TRAIN, TEST, mixed, "note")
    assert "near-copies note" not in str(caught.value)


def test_an_exact_copy_under_another_label_is_one_too():
    with pytest.raises(LeakError):
        refuse_leaks(TRAIN, TEST, as_synthetic(THREES[:2], 8))


def test_real_images_that_no_one_tests_with_are_not_accused():
    note = refuse_leaks(TRAIN, TEST, CUT)
    assert f"None of the {len(CUT)} synthetic images is a copy of a test image" in note


def test_copies_of_training_images_are_not_taken_for_copies_of_test_images():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(TRAIN), 2000)
    for copies in (TRAIN.images[rows], jittered(TRAIN.images[rows], rng), np.roll(TRAIN.images[rows], 1, 1)):
        assert refuse_leaks(TRAIN, TEST, as_synthetic(copies, TRAIN.class_ids[rows])).startswith(INNOCENT)


def test_training_images_that_the_test_split_holds_too_accuse_nobody():
    """A dataset that comes with its own split may repeat images: that is its fault, and told elsewhere."""
    train = LabelledImages(
        np.concatenate([TRAIN.images, THREES[:20]]),
        TRAIN.index.loc[[*range(len(TRAIN)), *[0] * 20]].reset_index(drop=True),
        TRAIN.class_names,
    )
    train.index.loc[len(TRAIN) :, "class_id"] = 3
    assert refuse_leaks(train, TEST, as_synthetic(np.repeat(THREES[:20], 5, axis=0), 3)).startswith(INNOCENT)


def test_images_of_one_colour_give_nothing_away():
    blank = np.zeros((1, 8, 8, 1), np.uint8)
    test = LabelledImages(
        np.concatenate([TEST.images, blank]),
        TEST.index.loc[[*range(len(TEST)), 0]].reset_index(drop=True),
        TEST.class_names,
    )
    assert refuse_leaks(TRAIN, test, as_synthetic(np.repeat(blank, 50, 0), 3)).startswith(INNOCENT)


def test_the_shipped_generator_is_not_accused():
    """A pair GAN that has seen five real images each of these classes."""
    generator = ganaug.load("exported/digits@1")
    made = np.concatenate([generator.sample(str(digit), count=300, seed=0) for digit in (3, 5, 8)])
    assert refuse_leaks(TRAIN, TEST, as_synthetic(made, np.repeat([3, 5, 8], 300))).startswith(INNOCENT)


def test_look_alikes_that_real_images_have_too_are_explained():
    """Where every test image has a near twin in training, near-copies are no evidence."""
    rng = np.random.default_rng(0)
    of_zero = TEST.take(np.flatnonzero(TEST.class_ids == 0))
    pairs = rng.permutation(len(of_zero))
    twins = LabelledImages(
        jittered(of_zero.images[pairs], rng),
        of_zero.index.iloc[pairs].reset_index(drop=True),
        TEST.class_names,
    )
    others = as_synthetic(jittered(of_zero.images[pairs[:30]], rng), 0)
    assert find_copies(TRAIN.take(np.flatnonzero(TRAIN.class_ids != 0)), TEST, others)[0].chance < 1e-6
    (found,) = find_copies(twins, TEST, others)
    assert found.chance > 0.01


def test_memory_is_flat_and_blocks_change_nothing(monkeypatch):
    mixed = as_synthetic(np.concatenate([HONEST, jittered(THREES[:8], np.random.default_rng(0))]), 3)
    whole = find_copies(TRAIN, TEST, mixed)
    monkeypatch.setattr("ganaug.leak.BLOCK_PIXELS", 640)
    monkeypatch.setattr("ganaug.leak.BATCH", 7)
    assert find_copies(TRAIN, TEST, mixed) == whole
    assert len(whole[0].near_rows) == 8


def test_without_synthetic_images_there_is_nothing_to_say():
    assert refuse_leaks(TRAIN, TEST, CUT.take(np.arange(0))) == ""


def test_groups_of_the_test_split_are_spoken_of():
    test = LabelledImages(TEST.images, TEST.index.assign(group="patient 7"), TEST.class_names)
    with pytest.raises(LeakError, match="whole groups"):
        refuse_leaks(TRAIN, test, as_synthetic(THREES[:5], 3))
