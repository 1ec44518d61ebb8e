"""Folds: every class in each of them, groups whole, however few images a class has."""

import numpy as np
import pandas as pd

from ganaug.dataset import LabelledImages
from ganaug.split.folds import assign_folds


def labelled(counts, groups=None) -> LabelledImages:
    class_ids = np.repeat(np.arange(len(counts)), counts)
    index = pd.DataFrame({"class_id": class_ids, "group": groups or [""] * len(class_ids)})
    names = tuple(f"class {number}" for number in range(len(counts)))
    return LabelledImages(np.zeros((len(class_ids), 8, 8, 1), np.uint8), index, names)


def test_folds_share_every_class_and_never_split_a_group():
    class_ids = np.repeat([0, 1, 2], [60, 12, 3])
    groups = [f"photo {number // 4}" for number in range(72)] + ["", "", ""]
    index = pd.DataFrame({"class_id": class_ids, "group": groups})
    train = LabelledImages(np.zeros((75, 8, 8, 1), np.uint8), index, ("a", "b", "c"))
    fold_of = assign_folds(train, 3, seed=0)
    assert pd.Series(fold_of[:72]).groupby(groups[:72]).nunique().max() == 1
    for class_id in (0, 1, 2):
        shares = np.bincount(fold_of[class_ids == class_id], minlength=3)
        assert shares.max() - shares.min() <= 4
        assert shares.min() > 0


def test_a_class_that_is_one_group_is_dealt_image_by_image():
    index = pd.DataFrame({"class_id": np.repeat([0, 1], [30, 9]), "group": ["x"] * 30 + ["y"] * 9})
    train = LabelledImages(np.zeros((39, 8, 8, 1), np.uint8), index, ("a", "b"))
    fold_of = assign_folds(train, 3, seed=0)
    assert np.bincount(fold_of[30:]).tolist() == [3, 3, 3]


def test_another_seed_deals_otherwise_and_the_same_seed_alike():
    train = labelled([20, 12])
    first, again, other = (assign_folds(train, 3, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_each_class_is_dealt_as_evenly_as_can_be():
    train = labelled([21, 12, 6])
    fold_of = assign_folds(train, 3, seed=0)
    for fold in range(3):
        assert np.bincount(train.class_ids[fold_of == fold]).tolist() == [7, 4, 2]


def test_classes_of_fewer_images_than_folds_are_dealt_without_a_word():
    train = labelled([30, 2, 1])
    fold_of = assign_folds(train, 3, seed=0)
    assert np.bincount(fold_of).tolist() == [11, 11, 11]
    assert len(set(fold_of[30:32])) == 2
