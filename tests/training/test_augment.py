"""Augmentation treats both images of a pair alike, stays in bounds, and can be learned through."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ganaug.training.augment import Strength, affine_matrices, apply_affine, draw_augmentation
from ganaug.training.networks.presets import PRESETS

ALL = Strength(shift=0.1, turn=0.2, zoom=0.1, light=0.2, contrast=0.3, cutout=0.4)
SHAPES = [(1, 8, 8), (3, 16, 24), (4, 33, 17)]


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_images_of_a_pair_get_the_same_treatment(shape: tuple[int, int, int]) -> None:
    images = torch.rand(16, *shape, generator=_rng()) * 2 - 1
    choice = draw_augmentation(16, *shape[1:], ALL, _rng())
    assert torch.equal(choice.apply(images), choice.apply(images.clone()))
    assert not torch.equal(choice.apply(images), images)


def test_images_of_a_batch_are_treated_differently() -> None:
    image = torch.rand(1, 1, 8, 8, generator=_rng()).expand(8, -1, -1, -1)
    treated = draw_augmentation(8, 8, 8, ALL, _rng()).apply(image)
    assert len({tuple(one.flatten().tolist()) for one in treated}) == 8


def test_flips_and_quarter_turns_move_pixels_and_change_none() -> None:
    images = torch.rand(64, 3, 8, 8, generator=_rng())
    flipped = draw_augmentation(64, 8, 8, Strength(flip=True), _rng()).apply(images)
    turned = draw_augmentation(64, 8, 8, Strength(quarter_turns=True), _rng()).apply(images)
    ways = [torch.rot90(images, times, (2, 3)) for times in range(4)]

    def same(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one - other).abs().amax(dim=(1, 2, 3)) < 1e-4

    mirrored, kept = same(flipped, images.flip(3)), same(flipped, images)
    assert (mirrored | kept).all()
    assert 16 < mirrored.sum() < 48
    found = torch.stack([same(turned, way) for way in ways])
    assert found.any(dim=0).all()
    assert found.any(dim=1).all()
    # A quarter turn would pull black borders into an image that is not square.
    wide = torch.rand(64, 1, 8, 12, generator=_rng())
    halves = draw_augmentation(64, 8, 12, Strength(quarter_turns=True), _rng()).apply(wide)
    assert (same(halves, wide) | same(halves, torch.rot90(wide, 2, (2, 3)))).all()


def test_colour_is_of_colour_images_and_leaves_alpha_alone() -> None:
    grey, rgba = torch.rand(8, 1, 8, 8, generator=_rng()), torch.rand(8, 4, 8, 8, generator=_rng())
    choice = draw_augmentation(8, 8, 8, Strength(colour=0.5), _rng())
    assert torch.equal(choice.apply(grey), grey)
    treated = choice.apply(rgba)
    assert torch.equal(treated[:, 3], rgba[:, 3])
    torch.testing.assert_close(treated[:, :3].mean(1), rgba[:, :3].mean(1))
    assert not torch.allclose(treated, rgba)


def test_a_part_of_the_choices_treats_a_part_of_the_images_alike() -> None:
    images = torch.rand(12, 3, 8, 8, generator=_rng())
    choice = draw_augmentation(12, 8, 8, replace(ALL, colour=0.3, flip=True), _rng())
    torch.testing.assert_close(choice.part(slice(4, 9)).apply(images[4:9]), choice.apply(images)[4:9])


@pytest.mark.parametrize("kind", ["shift", "turn", "zoom", "light", "contrast", "cutout"])
def test_each_kind_changes_images_and_passes_gradients(kind: str) -> None:
    images = (torch.rand(8, 1, 12, 12, generator=_rng()) * 2 - 1).requires_grad_()
    choice = draw_augmentation(8, 12, 12, replace(Strength(), **{kind: 0.3}), _rng())
    treated = choice.apply(images)
    assert not torch.allclose(treated, images)
    treated.square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_no_strength_leaves_images_as_they_are() -> None:
    images = torch.rand(4, 3, 8, 8, generator=_rng())
    assert torch.equal(draw_augmentation(4, 8, 8, Strength(), _rng()).apply(images), images)


def test_a_share_of_the_images_stays_untouched() -> None:
    images = torch.rand(400, 1, 8, 8, generator=_rng())
    choice = draw_augmentation(400, 8, 8, Strength(light=0.3, share=0.25), _rng())
    changed = (choice.apply(images) != images).flatten(1).any(dim=1).float().mean()
    assert 0.15 < changed < 0.35


def test_a_shift_moves_the_image_by_that_share_of_its_side() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[..., 2, 5] = 1.0
    # One pixel of eight is a quarter of half the side; the map says where a pixel comes from.
    one, none = torch.tensor([0.25]), torch.zeros(1)
    moved = apply_affine(image, affine_matrices(one, none, none, torch.ones(1)))
    assert moved[0, 0, 2, 4].item() == pytest.approx(1.0, abs=1e-5)


def test_a_turn_of_a_wide_image_keeps_distances_in_pixels() -> None:
    image = torch.zeros(1, 1, 16, 32)
    image[..., 7:9, 24:26] = 1.0
    quarter = torch.tensor([torch.pi / 2])
    none = torch.zeros(1)
    turned = apply_affine(image, affine_matrices(none, none, quarter, torch.ones(1), 16 / 32))
    # 9 px from the centre sideways lies outside 8 px upwards: the dot leaves the image.
    assert turned.max() < 0.6


def test_no_preset_flips_or_turns_far() -> None:
    for preset in PRESETS.values():
        for strength in (preset.warp, preset.augment):
            assert strength.turn < 0.35, "20 degrees"
            assert strength.zoom < 1, "a zoom of -1 would be a flip"
