"""What synthetic images become beside the real ones of a dataset."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.samples import (
    CATS,
    COLOURED,
    DOGS,
    LABELS,
    REALS,
    Listed,
    Transformed,
    pictures,
    pixels,
    tensors,
)
from torch.utils.data import ConcatDataset, Subset

import ganaug
from ganaug import balanced
from ganaug.errors import DatasetError


@pytest.fixture
def dogs(tiny_model):
    """The synthetic dogs that are lacking: (5, 8, 8, 1) uint8."""
    return ganaug.load(tiny_model).sample("dog", CATS - DOGS)


KINDS = {
    "PIL, grey": (pictures(), lambda dog: dog[..., 0]),
    "PIL, RGB": (pictures(COLOURED), lambda dog: dog.repeat(3, axis=2)),
    "array HWC": (REALS, lambda dog: dog),
    "array HW": ([image[..., 0] for image in REALS], lambda dog: dog[..., 0]),
    "array CHW": ([image.transpose(2, 0, 1) for image in REALS], lambda dog: dog.transpose(2, 0, 1)),
    "array HWC, RGB": (COLOURED, lambda dog: dog.repeat(3, axis=2)),
    "array, float32": ([np.float32(image / 255) for image in REALS], lambda dog: np.float32(dog / 255)),
    "array, float64": ([image / 255 for image in REALS], lambda dog: dog / 255),
    "tensor": (tensors(), lambda dog: torch.from_numpy(dog.transpose(2, 0, 1))),
    "tensor HW": ([image[0] for image in tensors()], lambda dog: torch.from_numpy(dog[..., 0])),
    "tensor HWC": ([image.permute(1, 2, 0) for image in tensors()], torch.from_numpy),
    "tensor, RGB": (tensors(COLOURED), lambda dog: torch.from_numpy(dog.transpose(2, 0, 1)).repeat(3, 1, 1)),
    "tensor, float32": (
        [image.float() / 255 for image in tensors()],
        lambda dog: torch.from_numpy(dog.transpose(2, 0, 1)).float() / 255,
    ),
    "tensor, bfloat16": (
        [(image / 255).bfloat16() for image in tensors()],
        lambda dog: (torch.from_numpy(dog.transpose(2, 0, 1)).double() / 255).bfloat16(),
    ),
}


def form(image):
    """What must be alike for images to be collated."""
    if isinstance(image, Image.Image):
        return image.mode, image.size
    return type(image), image.dtype, tuple(image.shape)


def values(image):
    return image.double().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)


@pytest.mark.parametrize(("images", "as_kind"), KINDS.values(), ids=KINDS)
def test_synthetic_images_are_what_the_real_ones_are(tiny_model, dogs, images, as_kind):
    dataset = balanced(Listed(list(zip(images, LABELS, strict=True))), tiny_model)
    assert len(dataset) == 2 * CATS
    for index, dog in enumerate(dogs):
        image, label = dataset[len(LABELS) + index]
        assert label == 1
        assert form(image) == form(images[0])
        np.testing.assert_array_equal(values(image), values(as_kind(dog)))


def test_a_subclass_of_tensor_is_kept(tiny_model):
    class Pixels(torch.Tensor):
        pass

    samples = [(image.as_subclass(Pixels), label) for image, label in zip(tensors(), LABELS, strict=True)]
    assert type(balanced(Listed(samples), tiny_model)[-1][0]) is Pixels


@pytest.mark.parametrize("make", [pictures, tensors, list], ids=["PIL", "tensor", "array"])
def test_they_get_the_size_of_the_real_ones(tiny_model, make):
    images = make(list(pixels(len(LABELS), 12, 20, 3)))
    dataset = balanced(Listed(list(zip(images, LABELS, strict=True))), tiny_model)
    assert form(dataset[-1][0]) == form(dataset[0][0])


def test_they_go_through_the_transform_of_the_dataset(tiny_model, dogs):
    def transform(picture):
        return (torch.from_numpy(np.array(picture)).float()[None] - 100) / 50

    samples = list(zip(pictures(), LABELS, strict=True))
    whole = Transformed(samples, transform=transform)
    for dataset in (whole, Subset(whole, range(13)), ConcatDataset([whole, Transformed([])])):
        made = torch.stack([image for image, _ in balanced(dataset, tiny_model)][-5:])
        assert torch.equal(made, (torch.from_numpy(dogs).permute(0, 3, 1, 2).float() - 100) / 50)


def test_one_that_is_given_counts_instead(tiny_model, dogs):
    whole = Transformed(list(zip(pictures(), LABELS, strict=True)), transform=np.asarray)
    dataset = balanced(whole, tiny_model, transform=lambda picture: np.asarray(picture) / 2)
    np.testing.assert_array_equal(dataset[-1][0], dogs[-1, ..., 0] / 2)


def test_a_dataset_that_resizes_nothing_gets_its_own_size_and_mode(tiny_model):
    large = pictures(list(pixels(len(LABELS), 12, 20, 3)))
    dataset = balanced(Transformed(list(zip(large, LABELS, strict=True)), transform=np.asarray), tiny_model)
    assert dataset[0][0].shape == dataset[-1][0].shape == (12, 20, 3)
    resizing = Transformed(
        list(zip(large, LABELS, strict=True)), transform=lambda picture: np.asarray(picture.resize((4, 4)))
    )
    seen = balanced(resizing, tiny_model).synthetic.transform
    assert (seen.mode, seen.size_px) == ("RGB", None)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_normalised_images_without_a_transform_are_refused(tiny_model, dtype):
    scale = (lambda image: (image / 255 - 0.5) / 0.5) if dtype is np.float32 else (lambda image: image * 2.0)
    samples = [(scale(image).astype(np.float32), label) for image, label in zip(REALS, LABELS, strict=True)]
    with pytest.raises(DatasetError, match="transform="):
        balanced(Listed(samples), tiny_model)
    assert balanced(Listed(samples), tiny_model, transform=np.asarray)[-1][0].dtype == np.uint8
