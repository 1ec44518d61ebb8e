from itertools import islice

import numpy as np
import pytest

from ganaug.errors import SettingsError, UnknownClassError
from ganaug.generate import Generator


@pytest.fixture
def generator(tiny_pair_model):
    return Generator.open(tiny_pair_model)


def together(batches):
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_a_batch_is_uint8_images_with_the_ids_of_their_classes(generator):
    images, labels = next(generator.stream(32, seed=1))
    assert (images.shape, images.dtype, labels.dtype) == ((32, 8, 8, 1), np.uint8, np.int64)
    names = [generator.card.class_names[label] for label in labels]
    np.testing.assert_array_equal(images, generator.sample_at(names, np.arange(32), seed=1))


def test_no_image_comes_twice_and_every_class_comes_about_as_often(generator):
    images, labels = together(generator.stream(50, batches=60))
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == 3000
    # 1,000 each; the standard deviation is 26.
    assert np.abs(np.bincount(labels) - 1000).max() < 130


def test_a_stream_goes_on_at_any_batch(generator):
    whole = list(generator.stream(16, seed=4, batches=5))
    for (images, labels), (again, same) in zip(
        whole[3:], generator.stream(16, seed=4, start=3), strict=False
    ):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, same)


def test_parts_share_a_stream_without_gaps(generator):
    whole = [images for images, _ in generator.stream(8, batches=6)]
    dealt = [[images for images, _ in generator.stream(8, part=k, parts=2, batches=3)] for k in range(2)]
    np.testing.assert_array_equal(whole[0::2], dealt[0])
    np.testing.assert_array_equal(whole[1::2], dealt[1])


def test_classes_come_in_the_shares_asked_for(generator):
    _, labels = together(generator.stream(100, {"cat": 3, "emu": 1}, batches=20))
    counts = np.bincount(labels, minlength=3)
    assert counts[1] == 0
    # 1,500 of 2,000; the standard deviation is 19.
    assert abs(counts[0] - 1500) < 100
    assert set(together(generator.stream(8, "dog", batches=2))[1]) == {1}


def test_it_has_no_end_unless_one_is_asked_for(generator):
    assert len(list(islice(generator.stream(2), 100))) == 100
    assert list(generator.stream(2, batches=0)) == []


@pytest.mark.parametrize(
    "asked",
    [
        {"batch_size": 0},
        {"start": -1},
        {"batches": -1},
        {"part": 2, "parts": 2},
        {"classes": []},
        {"classes": {"cat": -1, "dog": 2}},
        {"classes": {"cat": 0}},
        {"classes": {"cat": float("nan")}},
    ],
    ids=str,
)
def test_what_cannot_be_streamed_is_refused_before_the_first_batch(generator, asked):
    with pytest.raises(SettingsError, match="stream"):
        generator.stream(**asked)


def test_an_unknown_class_is_refused(generator):
    with pytest.raises(UnknownClassError, match="yak"):
        generator.stream(8, ["cat", "yak"])
