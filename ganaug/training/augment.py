"""Differentiable augmentation of what the discriminator sees, so that few images last longer.

One `Augmentation` holds the random choices for a batch; applied to real images, to the fakes
paired with them and to the exemplars of a pair GAN, it treats all alike, so that only what
the generator is to learn differs between them. Flips and quarter turns are off unless allowed
(`train.flips`, `train.quarter_turns`): they change the class of digits, letters and many
other things.

Source:
    Zhao et al. 2020, arXiv:2006.10738; Karras et al. 2020, arXiv:2006.06676.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


@dataclass(frozen=True)
class Strength:
    """How far each random choice goes; 0 turns it off.

    Attributes:
        shift: Largest translation, as a share of the image side.
        turn: Largest rotation, in radians.
        zoom: Largest change of scale, as a share.
        light: Largest change of brightness, on the [-1, 1] scale.
        contrast: Largest change of contrast, as a share.
        colour: Largest change of saturation, as a share; colour images only.
        cutout: Side of the square that is blanked, as a share of the image side.
        flip: Whether images are mirrored left to right.
        quarter_turns: Whether images are turned by multiples of 90 degrees; by 180 degrees
            alone where they are not square.
        share: Share of images that each kind is applied to; the others stay as they are,
            which tells the generator what is not part of the data.
    """

    shift: float = 0.0
    turn: float = 0.0
    zoom: float = 0.0
    light: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0
    cutout: float = 0.0
    flip: bool = False
    quarter_turns: bool = False
    share: float = 1.0

    @property
    def is_nothing(self) -> bool:
        """Whether every choice is turned off."""
        return replace(self, share=1.0) == Strength()


@dataclass(frozen=True)
class Augmentation:
    """Random choices for a batch of N images.

    Attributes:
        matrices: (N, 2, 3) affine maps in `affine_grid`'s coordinates, or None.
        light: (N, 1, 1, 1) added to the pixels, or None.
        contrast: (N, 1, 1, 1) factor about each image's mean, or None.
        colour: (N, 1, 1, 1) factor about each pixel's grey, or None.
        keep: (N, 1, H, W) 0 where an image is blanked and 1 elsewhere, or None.
    """

    matrices: Tensor | None = None
    light: Tensor | None = None
    contrast: Tensor | None = None
    colour: Tensor | None = None
    keep: Tensor | None = None

    def part(self, rows: slice) -> Augmentation:
        """The choices of some of the images."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Augmentation(**{name: None if v is None else v[rows] for name, v in values.items()})

    def apply(self, images: Tensor) -> Tensor:
        """Treat (N, C, H, W) images in [-1, 1] by these choices; differentiable."""
        if self.matrices is not None:
            images = apply_affine(images, self.matrices)
        if self.colour is not None and images.shape[1] >= 3:
            # Only red, green and blue: an alpha channel has no colour.
            rgb, rest = images[:, :3], images[:, 3:]
            grey = rgb.mean(dim=1, keepdim=True)
            images = torch.cat([grey + (rgb - grey) * self.colour, rest], dim=1)
        if self.contrast is not None:
            mean = images.mean(dim=(1, 2, 3), keepdim=True)
            images = mean + (images - mean) * self.contrast
        if self.light is not None:
            images = images + self.light
        if self.keep is not None:
            images = images * self.keep
        return images


def draw_augmentation(
    count: int,
    height: int,
    width: int,
    strength: Strength,
    rng: torch.Generator,
    share: float | None = None,
) -> Augmentation:
    """Choose an augmentation for each of `count` images of height x width px.

    Args:
        count: Number of images, N.
        height: In px.
        width: In px.
        strength: How far each choice goes.
        rng: Source of the choices.
        share: Instead of the strength's own, where it is adapted during training.

    >>> strength = Strength(shift=0.1, cutout=0.5)
    >>> choice = draw_augmentation(4, 8, 8, strength, torch.Generator().manual_seed(0))
    >>> choice.apply(torch.zeros(4, 1, 8, 8)).shape
    torch.Size([4, 1, 8, 8])
    """
    share = strength.share if share is None else share

    def uniform() -> Tensor:
        return torch.rand(count, generator=rng, device=rng.device)

    def between(limit: float) -> Tensor:
        """(N,) uniform in -limit..limit for the treated share, 0 for the others."""
        value = (2 * uniform() - 1) * limit
        return value * (uniform() < share)

    matrices = light = contrast = colour = keep = None
    if strength.shift or strength.turn or strength.zoom or strength.flip or strength.quarter_turns:
        # The grid spans 2 units, so a shift by a share of the side is twice that share.
        shift_x, shift_y = between(2 * strength.shift), between(2 * strength.shift)
        zoom, turn = 1 + between(strength.zoom), between(strength.turn)
        if strength.quarter_turns:
            step = torch.pi / 2 if height == width else torch.pi
            turn = turn + (uniform() * 4).floor() * step * (uniform() < share)
        matrices = affine_matrices(shift_x, shift_y, turn, zoom, height / width)
        if strength.flip:
            mirrored = (uniform() < 0.5) & (uniform() < share)
            matrices = torch.where(mirrored.view(-1, 1, 1), matrices * _MIRROR.to(rng.device), matrices)
    if strength.light:
        light = between(strength.light).view(-1, 1, 1, 1)
    if strength.contrast:
        contrast = 1 + between(strength.contrast).view(-1, 1, 1, 1)
    if strength.colour:
        colour = 1 + between(strength.colour).view(-1, 1, 1, 1)
    if strength.cutout:
        keep = _draw_cutout(count, height, width, strength.cutout, share, rng)
    return Augmentation(matrices, light, contrast, colour, keep)


_MIRROR = torch.tensor([[-1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
"""Multiplies an affine map so that it reads the image from the other side of the x axis."""


def affine_matrices(
    shift_x: Tensor, shift_y: Tensor, turn: Tensor, zoom: Tensor, aspect: float = 1.0
) -> Tensor:
    """Compose (N,) shifts, angles and zooms to (N, 2, 3) maps for `apply_affine`.

    Args:
        shift_x: Shift in half image widths.
        shift_y: Shift in half image heights.
        turn: Angle in radians.
        zoom: Factor, 1 for none.
        aspect: Height / width, so that a turn does not shear a non-square image.
    """
    cos, sin = torch.cos(turn) / zoom, torch.sin(turn) / zoom
    rows = [cos, -sin * aspect, shift_x, sin / aspect, cos, shift_y]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def apply_affine(images: Tensor, matrices: Tensor) -> Tensor:
    """Resample (N, C, H, W) images by (N, 2, 3) maps; what comes in at the border repeats the edge."""
    grid = affine_grid(matrices, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _draw_cutout(
    count: int, height: int, width: int, side: float, share: float, rng: torch.Generator
) -> Tensor:
    """(N, 1, H, W) masks with one blank rectangle each, whose centre lies anywhere in the image."""
    device = rng.device
    half_y, half_x = side * height / 2, side * width / 2
    centre_y = torch.rand(count, 1, 1, 1, generator=rng, device=device) * height
    centre_x = torch.rand(count, 1, 1, 1, generator=rng, device=device) * width
    treated = torch.rand(count, 1, 1, 1, generator=rng, device=device) < share
    y = torch.arange(height, device=device).view(1, 1, -1, 1) + 0.5
    x = torch.arange(width, device=device).view(1, 1, 1, -1) + 0.5
    inside = ((y - centre_y).abs() < half_y) & ((x - centre_x).abs() < half_x)
    return 1.0 - (inside & treated).float()
