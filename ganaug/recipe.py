"""A recipe: what a classifier is trained on, how often it sees each image, and under which loss.

It is data alone. Arms write recipes, any trainer can follow them, and the winner's leaves the run
as files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds, Images

Mixing = Literal["none", "mixup", "cutmix"]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

COMPUTED = -1
"""`Recipe.source` of an image that is neither a real nor a synthetic one, such as SMOTE's."""


@dataclass(frozen=True)
class Late:
    """What changes in the last part of training.

    Attributes:
        begins: Share of the steps after which it does.
        draw_probability: (N,) as `Recipe.draw_probability`.
        loss_weights: (K,) as `Recipe.loss_weights`.
    """

    begins: float
    draw_probability: Doubles
    loss_weights: Floats


@dataclass(frozen=True)
class Recipe:
    """What a classifier is trained on, and how.

    Attributes:
        images: (N, H, W, C) uint8.
        class_ids: (N,) int64.
        source: (N,) int64 where each image comes from: its row among the real training images;
            their number and its row among the synthetic ones; or `COMPUTED`.
        draw_probability: (N,) float64 probability that a draw takes the image; sums to 1.
        augmented: (N,) bool, whether the image passes through albumentations when drawn.
        loss_weights: (K,) float32 weight of each class's loss; 1 on average over the draws.
        logit_offsets: (K,) float32, added to the logits in the loss alone.
        label_smoothing: Share of each label that is spread over all classes.
        mixing: How pairs of images of a batch are mixed, labels alike.
        late: What changes in the last part of training; None where nothing does.
        strength: Name of the augmentation's strength.
        flips: Whether the augmentation mirrors left to right.
        decision_offsets: (K,) float32, to be added to the logits (or log-probabilities) of the trained
            classifier before it decides; None adds nothing.
    """

    images: Images
    class_ids: ClassIds
    source: npt.NDArray[np.int64]
    draw_probability: Doubles
    augmented: npt.NDArray[np.bool_]
    loss_weights: Floats
    logit_offsets: Floats
    label_smoothing: float = 0.1
    mixing: Mixing = "none"
    late: Late | None = None
    strength: str = "strong"
    flips: bool = False
    decision_offsets: Floats | None = None

    def late_step(self, steps: int) -> int:
        """First of `steps` training steps, counted from 0, of the late part; `steps` without one."""
        return steps if self.late is None else round(self.late.begins * steps)

    def loss_weights_at(self, step: int, steps: int) -> Floats:
        """(K,) weights of the classes' losses in this step, counted from 0."""
        return (
            self.loss_weights if self.late is None or step < self.late_step(steps) else self.late.loss_weights
        )

    def has_synthetic(self, n_real: int) -> bool:
        """Whether a synthetic image is in it, where there are so many real ones."""
        return bool((self.source >= n_real).any())


def problems(
    recipe: object, n_real: int, n_synthetic: int, n_classes: int, image_shape: Sequence[int]
) -> list[str]:
    """What a trainer could not follow in a recipe, in words; empty for a sound one.

    Args:
        recipe: Said to be a `Recipe`.
        n_real: Real training images.
        n_synthetic: Synthetic images.
        n_classes: Classes, K.
        image_shape: (height, width, channels) of the test images.
    """
    if not isinstance(recipe, Recipe):
        return [f"gave a {type(recipe).__name__}; a ganaug.recipe.Recipe is expected"]
    n = len(recipe.images)
    if not n:
        return ["gave a recipe of 0 images"]
    found = []
    if recipe.images.dtype != np.uint8 or tuple(recipe.images.shape[1:]) != tuple(image_shape):
        found.append(
            f"images are {recipe.images.dtype} of {tuple(recipe.images.shape[1:])}; uint8 of {tuple(image_shape)} are needed"
        )
    found += [
        f"{name} has shape {getattr(recipe, name).shape}; one value for each of {n} images is needed"
        for name in ("class_ids", "source", "draw_probability", "augmented")
        if getattr(recipe, name).shape != (n,)
    ]
    by_class = {"loss_weights": recipe.loss_weights, "logit_offsets": recipe.logit_offsets}
    if recipe.decision_offsets is not None:
        by_class["decision_offsets"] = recipe.decision_offsets
    found += [
        f"{name} must be {n_classes} finite numbers, one per class"
        for name, values in by_class.items()
        if values.shape != (n_classes,) or not np.isfinite(values).all()
    ]
    if not found:
        found += _wrong_values(recipe, n_real + n_synthetic, n_classes)
    return found


def _wrong_values(recipe: Recipe, n_known: int, n_classes: int) -> list[str]:
    found = []
    if recipe.class_ids.min() < 0 or recipe.class_ids.max() >= n_classes:
        found.append(f"class_ids must lie in 0 to {n_classes - 1}")
    if recipe.source.min() < COMPUTED or recipe.source.max() >= n_known:
        found.append(
            f"source must lie in {COMPUTED} to {n_known - 1}: real images first, then synthetic ones"
        )
    late = [] if recipe.late is None else [recipe.late.draw_probability]
    found += [
        "draw_probability must be non-negative numbers, one per image, that sum to 1"
        for draws in (recipe.draw_probability, *late)
        if draws.shape != recipe.class_ids.shape or draws.min() < 0 or not np.isclose(draws.sum(), 1.0)
    ]
    if recipe.late is not None and not 0 < recipe.late.begins < 1:
        found.append("late.begins must lie between 0 and 1")
    return found
