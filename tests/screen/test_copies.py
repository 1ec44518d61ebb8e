"""Codes bound distances from below, are the same in any batch, and lead to the copies among real images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from support.screening import bright_and_dark, noisy

from ganaug.dataset import Images, LabelledImages
from ganaug.errors import DatasetError
from ganaug.screen import RealNeighbours, copy_distance, pairwise_distances
from ganaug.screen.codes import ROUNDING, Coder, fit_coder, shifted_codes
from ganaug.screen.copies import RealCopies
from ganaug.screen.pixels import neighbour_distances

RNG = np.random.default_rng(0)


def smooth(count: int, size: int = 24) -> Images:
    """(N, size, size, 3) images of large soft blots, as photographs are smooth."""
    coarse = RNG.integers(0, 255, (count, size // 4, size // 4, 3))
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2).astype(np.uint8)


def labelled(images: Images) -> LabelledImages:
    return LabelledImages(images, pd.DataFrame({"class_id": np.zeros(len(images), np.int64)}), ("one",))


def copies_among(images: Images, min_distance: float) -> tuple[RealCopies, Coder]:
    coder = fit_coder(labelled(images))
    codes = shifted_codes(images, coder)
    gaps = neighbour_distances(codes[:, 0].astype(np.float32), np.zeros(len(images), np.int64))
    return RealCopies(images, codes, coder.step, min_distance, float(np.median(gaps))), coder


def test_a_code_is_the_rounded_projection_on_the_principal_components() -> None:
    from sklearn.decomposition import PCA

    brightness = RNG.integers(-60, 60, (300, 1, 1, 1))
    real = np.clip(noisy(300, 120, RNG).astype(int) + brightness, 0, 255).astype(np.uint8)
    coder = fit_coder(labelled(real))
    expected = PCA(1, svd_solver="full").fit_transform(real.reshape(300, -1) / 255)[:, 0] / coder.step
    found = coder(real)[:, 0]
    assert found.dtype == np.int8
    assert np.abs(np.abs(found) - np.abs(expected)).max() <= 0.51
    assert np.abs(found).max() == 100


def test_an_image_has_one_code_in_any_batch() -> None:
    real = smooth(40)
    coder = fit_coder(labelled(real))
    images = smooth(33)
    one_by_one = np.concatenate([coder(image[None]) for image in images])
    np.testing.assert_array_equal(coder(images), one_by_one)


def test_codes_are_those_of_arithmetic_in_whole_numbers() -> None:
    # Bright images that hardly differ: the sums are large, and single precision would be off.
    images = RNG.integers(244, 256, (3000, 24, 24, 3)).astype(np.uint8)
    coder = fit_coder(labelled(images[:50]))
    exact = images.reshape(3000, -1).astype(np.int64) @ coder.basis.astype(np.int64)
    expected = np.rint((exact - coder.centre) / (255 * coder.scale * coder.step))
    np.testing.assert_array_equal(coder(images), expected.clip(-127, 127))


@pytest.mark.parametrize("count", [1, 2, 10, 200])
def test_codes_are_never_farther_apart_than_images_but_for_rounding(count: int) -> None:
    real = smooth(count)
    coder = fit_coder(labelled(real))
    left, right = smooth(20), smooth(20)
    codes = np.linalg.norm(coder(left).astype(float) - coder(right), axis=1)
    pixels = np.linalg.norm((left / 255.0 - right / 255.0).reshape(20, -1), axis=1) / coder.step
    assert (codes <= pixels * 1.001 + ROUNDING).all()
    assert (codes > 0).all()  # even one real image tells others apart


def test_images_smaller_than_a_code_leave_the_rest_of_it_empty() -> None:
    real = RNG.integers(0, 255, (50, 4, 4, 1)).astype(np.uint8)
    code = fit_coder(labelled(real))(real)
    assert code.shape == (50, 24)
    assert not code[:, 16:].any()


@pytest.mark.parametrize("shape", [(8, 8, 1), (24, 24, 3)])
def test_every_copy_of_a_real_image_is_found_with_its_distance(shape: tuple[int, int, int]) -> None:
    real = noisy(60, 120, RNG, shape) if shape[0] == 8 else smooth(60)
    copies = np.clip(real.astype(int) + RNG.integers(-6, 7, real.shape), 0, 255).astype(np.uint8)
    look, coder = copies_among(real, 0.05)
    distance, row = look(copies, coder(copies))
    np.testing.assert_array_equal(row, np.arange(60))
    np.testing.assert_allclose(distance, pairwise_distances(copies, real).diagonal(), atol=1e-4)


def test_a_real_image_moved_by_one_pixel_is_still_found_in_larger_images() -> None:
    # Windows of a larger scene: what comes in at one edge was outside before.
    scene = smooth(60, 32)
    real = np.ascontiguousarray(scene[:, 4:28, 4:28])
    look, coder = copies_among(real, 0.03)
    for y, x in [(1, -1), (0, 1), (-1, 0)]:
        moved = np.ascontiguousarray(scene[:, 4 + y : 28 + y, 4 + x : 28 + x])
        distance, row = look(moved, coder(moved))
        np.testing.assert_array_equal(row, np.arange(60))
        assert distance.max() < 1e-6
        assert pairwise_distances(moved, real).diagonal().min() > 0.05


def test_what_is_no_copy_has_the_distance_to_the_nearest_by_code() -> None:
    real, others = smooth(60), smooth(30)
    look, coder = copies_among(real, 0.02)
    distance, row = look(others, coder(others))
    every = pairwise_distances(others, real)
    gaps = coder(others)[:, None].astype(float) - coder(real)[None]
    by_code = np.square(gaps).sum(axis=2).argmin(axis=1)
    assert (distance <= every[np.arange(30), by_code] + 1e-4).all()
    # Lying moved, a real image may be a little nearer.
    assert (distance >= 0.85 * every[np.arange(30), row]).all()
    assert np.median(distance / every.min(axis=1)) < 1.1


def test_distances_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    real, batch = smooth(11), smooth(6)
    look, coder = copies_among(real, 0.02)
    whole = look(batch, coder(batch))
    monkeypatch.setattr("ganaug.screen.copies.BLOCK", 4)
    for one, other in zip(whole, look(batch, coder(batch)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_distances_are_root_mean_squares_of_pixels_in_0_to_1() -> None:
    left, right = noisy(4, 200, RNG), noisy(5, 200, RNG)
    expected = [[np.sqrt(np.mean((a / 255.0 - b / 255.0) ** 2)) for b in right] for a in left]
    np.testing.assert_allclose(pairwise_distances(left, right), expected, atol=1e-5)


def test_the_plain_search_finds_the_nearest_real_image_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RealNeighbours, "BLOCK", 4)
    reals, batch = noisy(11, 200, RNG), noisy(6, 200, RNG)
    distance, row = RealNeighbours(reals)(batch)
    every = pairwise_distances(batch, reals)
    np.testing.assert_array_equal(row, every.argmin(axis=1))
    np.testing.assert_allclose(distance, every.min(axis=1), atol=1e-5)


def test_the_plain_search_finds_moved_images_too() -> None:
    real = smooth(9)
    distance, row = RealNeighbours(real)(np.roll(real, (1, -1), axis=(1, 2)))
    np.testing.assert_array_equal(row, np.arange(9))
    assert distance.max() < 1e-6


def test_auto_is_below_the_distance_of_real_neighbours_and_near_the_trials_on_digits() -> None:
    from sklearn.datasets import load_digits

    pixels, class_ids = load_digits(return_X_y=True)
    images = np.round(pixels * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    data = LabelledImages(images, pd.DataFrame({"class_id": class_ids}), tuple("0123456789"))
    # The trials took an L2 distance of 0.35 over 64 pixels.
    assert copy_distance(data) == pytest.approx(0.35 / 8, rel=0.15)


def test_auto_does_without_pairs_and_refuses_no_images() -> None:
    real = bright_and_dark(20, 12, RNG)
    assert copy_distance(real.take(np.array([0, 25]))) > 0
    with pytest.raises(DatasetError, match="none"):
        copy_distance(real.take(np.array([], dtype=np.int64)))
