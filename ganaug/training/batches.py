"""Training batches of an arm: draws by its recipe, and albumentations on what the recipe says.

albumentations costs about a third of a millisecond an image on one core, several times what
the small classifier needs for a training step. So each round draws and augments a pool
afresh and trains on every picture of it `ECHO` times (data echoing) before the next round.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds, Images
from ganaug.errors import SettingsError
from ganaug.recipe import Recipe

ECHO = 3
"""Times that an augmented image is trained on before it is drawn and augmented afresh."""
POOL_BATCHES = 8
"""Batches that a pool fills once; it then serves `ECHO` times as many steps."""
EDGE_IMAGES = 512


@dataclass(frozen=True)
class Strength:
    """How far albumentations may go; shares are of the image's size or of full contrast.

    Attributes:
        shift: Largest shift, as a share of the image.
        scale: Largest change of size: 0.1 allows 0.9 to 1.1.
        rotate: Largest rotation in degrees, either way.
        shear: Largest shear in degrees, either way.
        light: Largest change of brightness and of contrast.
        noise: Largest standard deviation of Gaussian noise, as a share of white.
        hole: Largest side of the one dropped rectangle, as a share of the image.
    """

    shift: float
    scale: float
    rotate: float
    shear: float
    light: float
    noise: float
    hole: float


STRENGTHS = {
    "light": Strength(shift=0.06, scale=0.08, rotate=8, shear=5, light=0.1, noise=0.08, hole=0.0),
    "medium": Strength(shift=0.1, scale=0.12, rotate=14, shear=10, light=0.2, noise=0.14, hole=0.25),
    "strong": Strength(shift=0.15, scale=0.2, rotate=22, shear=16, light=0.3, noise=0.2, hole=0.4),
}
"""Augmentations that the arms may use; new ones are tested by the contract tests.

Tuned on digits, three classes of 5 images, splits 100 to 102 (mean recall of the three: light 72,
medium 79, strong 88; still further geometry or noise within noise of strong). Report on others.
"""


def albumentations_pipeline(
    strength: str, seed: int, *, fill: tuple[int, ...] = (0,), flips: bool = False
) -> Any:
    """Build the albumentations pipeline that the arms share, with randomness of its own.

    Args:
        strength: One of `STRENGTHS`.
        seed: Where its random sequence begins.
        fill: Colour, per channel, of what comes in from outside the image and of the hole.
        flips: Mirror left to right as well; only where that leaves the class as it is.

    Returns:
        An `albumentations.Compose`; call it with `image=` (H, W, C) uint8.

    Raises:
        SettingsError: No such strength.
    """
    if strength not in STRENGTHS:
        raise SettingsError([f"evaluate.augment: no strength {strength!r}; known: {', '.join(STRENGTHS)}"])
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it asks the network
    import albumentations
    import cv2

    how = STRENGTHS[strength]
    steps: list[Any] = [albumentations.HorizontalFlip(p=0.5)] if flips else []
    steps.append(
        albumentations.Affine(
            translate_percent=(-how.shift, how.shift),
            scale=(1 - how.scale, 1 + how.scale),
            rotate=(-how.rotate, how.rotate),
            shear=(-how.shear, how.shear),
            border_mode=cv2.BORDER_CONSTANT,
            fill=fill,
            p=0.9,
        )
    )
    steps.append(albumentations.RandomBrightnessContrast(how.light, how.light, p=0.5))
    steps.append(albumentations.GaussNoise(std_range=(0.0, how.noise), p=0.4))
    if how.hole:
        side = (how.hole / 3, how.hole)
        steps.append(
            albumentations.CoarseDropout(
                num_holes_range=(1, 1), hole_height_range=side, hole_width_range=side, fill=fill, p=0.3
            )
        )
    return albumentations.Compose(steps, seed=seed)


def edge_colour(images: Images) -> tuple[int, ...]:
    """Median colour, per channel, along the edges of (N, H, W, C) uint8 images.

    Rolled-in borders of that colour beat smeared edge pixels by 4 points of rare-class recall
    on the digits, and need no knowledge of the subject.

    >>> edge_colour(np.full((2, 4, 4, 3), 7, np.uint8))
    (7, 7, 7)
    """
    channels = images.shape[-1]
    sides = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    edges = np.concatenate([side.reshape(-1, channels) for side in sides])
    return tuple(int(value) for value in np.median(edges, axis=0))


def pipeline_of(recipe: Recipe, seed: int) -> Any:
    """The `albumentations.Compose` that a recipe's images pass through; None where none does."""
    if not recipe.augmented.any():
        return None
    fill = edge_colour(recipe.images[np.flatnonzero(recipe.augmented)[:EDGE_IMAGES]])
    return albumentations_pipeline(recipe.strength, seed, fill=fill, flips=recipe.flips)


def batches(recipe: Recipe, batch: int, steps: int, seed: int) -> Iterator[tuple[Images, ClassIds]]:
    """Yield `steps` batches of (B, H, W, C) uint8 images with their (B,) class ids.

    The same arguments give the same batches, whatever else the process does.

    Source:
        Data echoing: Choi et al. 2019, arXiv:1907.05550.
    """
    rng = np.random.default_rng([seed, 1])
    pipeline = pipeline_of(recipe, seed)
    echoes = ECHO if pipeline is not None else 1
    for start, stop, probability in _pools(recipe, steps, POOL_BATCHES * echoes):
        rows = draw(probability, batch * POOL_BATCHES, rng)
        pool = recipe.images[rows]
        if pipeline is not None:
            for place in np.flatnonzero(recipe.augmented[rows]):
                pool[place] = pipeline(image=pool[place])["image"].reshape(pool.shape[1:])
        orders = [rng.permutation(len(rows)).reshape(POOL_BATCHES, batch) for _ in range(echoes)]
        for chosen in np.concatenate(orders)[: stop - start]:
            yield pool[chosen], recipe.class_ids[rows[chosen]]


def _pools(recipe: Recipe, steps: int, length: int) -> Iterator[tuple[int, int, npt.NDArray[np.float64]]]:
    """First step, last step + 1 and draw probabilities of each pool; the late part has its own."""
    late_step = recipe.late_step(steps)
    for start in range(0, late_step, length):
        yield start, min(start + length, late_step), recipe.draw_probability
    if recipe.late is not None:
        for start in range(late_step, steps, length):
            yield start, min(start + length, steps), recipe.late.draw_probability


def draw(probability: npt.NDArray[np.float64], count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw row numbers with these probabilities, spread evenly (systematic resampling).

    Every row comes floor or ceil of `count * probability` times, so that a pool holds the
    classes in the recipe's shares and not just on average.

    >>> draw(np.array([0.5, 0.0, 0.25, 0.25]), 8, np.random.default_rng(0)).tolist().count(0)
    4
    """
    order = rng.permutation(len(probability))
    edges = np.cumsum(probability[order])
    points = (np.arange(count) + rng.random()) * (edges[-1] / count)
    rows: npt.NDArray[np.int64] = order[
        np.minimum(np.searchsorted(edges, points, side="right"), len(order) - 1)
    ]
    return rows
