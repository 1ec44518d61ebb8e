import cv2
import numpy as np
import pytest

from ganaug.adapters.fit_image import check, fit
from ganaug.errors import TransformError

RNG = np.random.default_rng(0)
GREY_MADE = RNG.integers(0, 256, (16, 16, 1), np.uint8)
RGB_MADE = RNG.integers(0, 256, (16, 16, 3), np.uint8)
RGBA_MADE = RNG.integers(0, 256, (16, 16, 4), np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("side", [(16, 16), (5, 7), (40, 33), (8, 40), (40, 8)])
@pytest.mark.parametrize(
    ("made", "tail"),
    [
        (GREY_MADE, ()),
        (GREY_MADE, (1,)),
        (GREY_MADE, (3,)),
        (RGB_MADE, ()),
        (RGB_MADE, (1,)),
        (RGB_MADE, (3,)),
        (RGBA_MADE, (4,)),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
def test_shape_and_dtype_are_those_of_the_image_at_hand(made, tail, side, dtype):
    like = np.zeros((*side, *tail), dtype)
    check(like, made.shape[2])
    fitted = fit(made, like)
    assert (fitted.shape, fitted.dtype) == (like.shape, like.dtype)
    # The picture is still there: about as bright, and not one grey.
    white = 255 if dtype == np.uint8 else 1
    assert abs(fitted.mean() / white - made.mean() / 255) < 0.05
    assert fitted.std() > 0


def test_at_its_own_size_nothing_changes():
    np.testing.assert_array_equal(fit(RGB_MADE, np.zeros((16, 16, 3), np.uint8)), RGB_MADE)
    np.testing.assert_array_equal(fit(GREY_MADE, np.zeros((16, 16), np.uint8)), GREY_MADE[..., 0])


def test_float_images_lie_in_0_to_1():
    fitted = fit(RGB_MADE, np.zeros((16, 16, 3), np.float32))
    np.testing.assert_allclose(fitted, RGB_MADE / 255, rtol=1e-6)


def test_grey_goes_on_all_three_channels():
    fitted = fit(GREY_MADE, np.zeros((16, 16, 3), np.uint8))
    for channel in range(3):
        np.testing.assert_array_equal(fitted[..., channel], GREY_MADE[..., 0])


def test_colour_becomes_grey_by_its_luminance():
    fitted = fit(RGB_MADE, np.zeros((16, 16, 1), np.uint8))
    luminance = RGB_MADE @ np.array([0.299, 0.587, 0.114])
    assert np.abs(fitted[..., 0] - luminance).max() <= 0.51


@pytest.mark.parametrize("side", [(8, 8), (8, 40), (40, 8)])
def test_shrinking_averages_rather_than_skips(side):
    # Stripes one pixel wide: skipping would leave black or white, not grey.
    stripes = np.zeros((16, 16, 1), np.uint8)
    stripes[::2] = 255
    if side[0] > side[1]:
        stripes = stripes.transpose(1, 0, 2).copy()
    fitted = fit(stripes, np.zeros(side, np.uint8))
    assert set(np.unique(fitted)) <= {127, 128}


def test_growing_interpolates():
    ramp = np.array([[0, 100]], np.uint8)[..., None]
    fitted = fit(ramp, np.zeros((1, 4), np.uint8))
    assert fitted.tolist() == [[0, 25, 75, 100]]


@pytest.mark.parametrize(
    ("image", "channels", "message"),
    [
        (np.zeros((8, 8)), 1, "float64.*Normalize"),
        (np.zeros((8, 8), np.uint16), 1, "uint16"),
        ([[0]], 1, "list"),
        (np.zeros((8, 8, 4), np.uint8), 3, r"\(8, 8, 4\)"),
        (np.zeros((8, 8, 3), np.uint8), 4, "4 channel"),
        (np.zeros((8, 8, 2), np.uint8), 1, r"\(8, 8, 2\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), 3, r"\(2, 8, 8, 3\)"),
        (np.full((8, 8), -1.5, np.float32), 1, "-1.5.*Normalize"),
        (np.full((8, 8), 255, np.float32), 1, "divide by 255"),
        (np.full((8, 8), np.nan, np.float32), 1, "nan"),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
def test_images_that_cannot_be_matched_are_refused(image, channels, message):
    with pytest.raises(TransformError, match=message):
        check(image, channels)


def test_a_little_overshoot_of_interpolation_is_let_pass():
    image = cv2.resize(np.eye(8, dtype=np.float32), (20, 20), interpolation=cv2.INTER_LINEAR) * 1.005
    check(image, 1)
