"""Arms: the ways of building a training set that are compared, as recipes of data and draws.

An arm is one entry of `ARMS`. It says nothing of the classifier but what it starts from: it
turns real and synthetic images into a `Recipe`, which any trainer can follow.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds, Images, LabelledImages
from ganaug.errors import DatasetError, SettingsError


@dataclass(frozen=True)
class Recipe:
    """What a classifier is trained on, and how often it sees each image.

    Attributes:
        images: (N, H, W, C) uint8.
        class_ids: (N,) int64.
        draw_probability: (N,) float64 probability that a draw takes the image; sums to 1.
        augmented: (N,) bool, whether the image passes through albumentations when drawn.
        loss_weights: (K,) float32 weight of each class's loss; 1 on average over the draws.
        strength: Name of the augmentation's strength.
        flips: Whether the augmentation mirrors left to right.
    """

    images: Images
    class_ids: ClassIds
    draw_probability: npt.NDArray[np.float64]
    augmented: npt.NDArray[np.bool_]
    loss_weights: npt.NDArray[np.float32]
    strength: str = "strong"
    flips: bool = False


@dataclass(frozen=True)
class Arm:
    """One way of building a training set.

    Attributes:
        name: Its name in settings, tables and sentences.
        meaning: What an engineer would call it, in one line.
        balance: `none` draws images as they come; `oversample` draws every class equally
            often; `weights` draws as they come and weighs each class's loss by 1 / count.
        is_augmented: Whether real images pass through albumentations.
        has_synthetic: Whether synthetic images fill a share of the wanted classes' draws.
        start: What the classifier's first weights are: drawn at random, or those of the base
            GAN's discriminator under a new head.
    """

    name: str
    meaning: str
    balance: Literal["none", "oversample", "weights"]
    is_augmented: bool = False
    has_synthetic: bool = False
    start: Literal["nothing", "discriminator"] = "nothing"

    def recipe(
        self,
        train: LabelledImages,
        synthetic: LabelledImages | None = None,
        wanted: Sequence[int] = (),
        *,
        synthetic_share: float = 0.25,
        strength: str = "strong",
        flips: bool = False,
    ) -> Recipe:
        """Build the arm's recipe.

        Args:
            train: Real training images.
            synthetic: Synthetic images; `class_id` in the index.
            wanted: Class ids for which synthetic images are used.
            synthetic_share: Share of a wanted class's draws that are synthetic. Less where
                there are few: a synthetic image is never drawn more often than a real one.
            strength: Strength of albumentations, where the arm has it.
            flips: Whether albumentations mirrors, where the arm has it.

        Raises:
            DatasetError: There are no training images.
        """
        real_ids, counts = train.class_ids, train.counts()
        if not len(real_ids):
            raise DatasetError("a classifier cannot be trained on 0 images; look at the split's counts")
        n_present = np.count_nonzero(counts)
        per_image = 1.0 / (n_present * np.maximum(counts, 1))  # equal shares for the classes
        is_balanced = self.balance == "oversample"
        draws = per_image[real_ids] if is_balanced else np.full(len(real_ids), 1.0 / len(real_ids))
        weights = per_image * len(real_ids) if self.balance == "weights" else np.ones(len(counts))
        images, class_ids = train.images, real_ids
        augmented = np.full(len(real_ids), self.is_augmented)
        if self.has_synthetic and synthetic is not None and len(synthetic):
            rows = np.flatnonzero(np.isin(synthetic.class_ids, list(wanted)))
            fake_ids = synthetic.class_ids[rows]
            draws = _mix(draws, real_ids, fake_ids, synthetic_share, len(counts))
            images = np.concatenate([images, synthetic.images[rows]])
            class_ids = np.concatenate([real_ids, fake_ids])
            augmented = np.concatenate([augmented, np.zeros(len(rows), bool)])
        return Recipe(images, class_ids, draws, augmented, weights.astype(np.float32), strength, flips)


def _mix(
    draws: npt.NDArray[np.float64], real_ids: ClassIds, fake_ids: ClassIds, share: float, n_classes: int
) -> npt.NDArray[np.float64]:
    """Give each class's synthetic images their share of its draws; classes keep their total."""
    real = np.bincount(real_ids, minlength=n_classes)
    fake = np.bincount(fake_ids, minlength=n_classes)
    share_of = np.where(fake > 0, np.minimum(share, fake / np.maximum(real + fake, 1)), 0.0)
    total = np.bincount(real_ids, weights=draws, minlength=n_classes)
    each_fake = total * share_of / np.maximum(fake, 1)
    return np.concatenate([draws * (1.0 - share_of[real_ids]), each_fake[fake_ids]])


_ALL = [
    Arm("real", "the real images as they are", "none"),
    Arm("class weights", "the loss of each class weighted by 1 / its count", "weights"),
    Arm("oversampling", "every class drawn equally often", "oversample"),
    Arm("oversampling+albumentations", "oversampling with classical augmentation", "oversample", True),
    Arm(
        "oversampling+albumentations+synthetic",
        "the same, with synthetic images in a share of the wanted classes' draws",
        "oversample",
        True,
        True,
    ),
    Arm(
        "oversampling+albumentations+discriminator",
        "oversampling with classical augmentation; the classifier starts from the discriminator's features",
        "oversample",
        True,
        start="discriminator",
    ),
]
ARMS = {arm.name: arm for arm in _ALL}
"""Every arm that `evaluate.arms` can name."""


def find_arms(names: Collection[str]) -> list[Arm]:
    """Look arms up by name, in the order given, each once.

    Raises:
        SettingsError: Unknown names, all in one message, with the known ones.

    >>> [arm.has_synthetic for arm in find_arms(["real", "oversampling+albumentations+synthetic"])]
    [False, True]
    """
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        known = ", ".join(repr(name) for name in ARMS)
        raise SettingsError([f"evaluate.arms: no arm {name!r}; known: {known}" for name in unknown])
    return [ARMS[name] for name in dict.fromkeys(names)]


def starts_from_discriminator(names: Collection[str]) -> bool:
    """Whether one of these arms starts from the discriminator.

    >>> starts_from_discriminator(["real", "oversampling"])
    False
    """
    return any(arm.start == "discriminator" for name, arm in ARMS.items() if name in names)


def check_starts(arms: Sequence[Arm], *, is_kept: bool) -> None:
    """Refuse arms that start from a discriminator where there is none.

    Args:
        arms: The arms asked for.
        is_kept: Whether the base GAN's discriminator is, or will be, kept.

    Raises:
        SettingsError: It is not kept, and an arm needs it.
    """
    lost = [] if is_kept else [arm.name for arm in arms if arm.start == "discriminator"]
    if lost:
        raise SettingsError(
            [
                f"evaluate.arms: {name!r} starts from the discriminator of the base GAN, and none is kept; "
                "add `--train.keep-discriminator true` (and a `train.scope` with a base: not independent), "
                "or leave the arm out"
                for name in lost
            ]
        )
