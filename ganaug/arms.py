"""Arms: the ways of building a training set that are compared, as recipes of data and draws.

An arm's name is its parts, joined by `+`: `oversampling+albumentations+mixup`. Each part is one
entry of `PARTS`. An arm says nothing of the classifier but what it starts from: it turns real and
synthetic images into a `Recipe`, which any trainer can follow. A user's own arm is a function,
named as `package.module:function`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ganaug.classifier_name import DEFAULT
from ganaug.config import EvaluateConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, SettingsError
from ganaug.own_arm import call, is_path
from ganaug.recipe import COMPUTED, Doubles, Late, Mixing, Recipe
from ganaug.smote import smote_images
from ganaug.synthetic_use import SyntheticUse, only_real, share_draws
from ganaug.weighting import effective_number, inverse_count, log_priors

Balance = Literal[
    "none", "oversample", "smote", "weights", "effective number", "logit adjustment", "deferred"
]
Thresholds = Literal["none", "folds", "synthetic"]
DEFERRED_FROM = 0.8
"""Share of the steps after which deferred re-weighting weighs: 160 of 200 epochs in its paper."""
BEST_BASELINE = "best baseline"
"""The part of a name that stands for the way that validation folds choose: see `best_baseline`."""
REAL_FROM = 0.5
"""Share of the steps after which an arm that trains on synthetic images first sees real ones alone."""


@dataclass(frozen=True)
class Arm:
    """One way of building a training set.

    Attributes:
        name: Its name in settings, tables and sentences.
        meaning: What an engineer would call it, in one line.
        balance: What is done about classes of unequal size.
        is_augmented: Whether images pass through albumentations; synthetic ones never do.
        strength: Strength of albumentations; empty takes that of the settings.
        mixing: How pairs of images are mixed.
        synthetic: How synthetic images of the wanted classes are used.
        start: What the classifier's first weights are: drawn at random, or those of the base
            GAN's discriminator under a new head.
        thresholds: What chooses how far the trained classifier's decisions are moved towards rare
            classes: nothing, real images held out in turn, or synthetic images.
        is_on_best_baseline: Whether validation folds choose balance, augmentation and mixing; until they
            have, they are those of `real`.
        function: A user's own: `package.module:function` that gives the recipe.
    """

    name: str
    meaning: str
    balance: Balance = "none"
    is_augmented: bool = False
    strength: str = ""
    mixing: Mixing = "none"
    synthetic: SyntheticUse = "none"
    start: Literal["nothing", "discriminator"] = "nothing"
    thresholds: Thresholds = "none"
    is_on_best_baseline: bool = False
    function: str = ""

    @property
    def has_synthetic(self) -> bool:
        """Whether it is one of the arms whose gain is in question."""
        return self.synthetic != "none" or self.thresholds == "synthetic"

    def recipe(
        self,
        train: LabelledImages,
        synthetic: LabelledImages | None = None,
        wanted: Sequence[int] = (),
        *,
        synthetic_share: float = 0.25,
        strength: str = "strong",
        flips: bool = False,
        seed: int = 0,
    ) -> Recipe:
        """Build the arm's recipe.

        Args:
            train: Real training images.
            synthetic: Synthetic images; `class_id` in the index.
            wanted: Class ids for which synthetic images are used.
            synthetic_share: Share of a wanted class's draws that are synthetic, for the arms that
                mix them in. Less where there are few: a synthetic image is never drawn more often
                than a real one.
            strength: Strength of albumentations, where the arm has it and names none.
            flips: Whether albumentations mirrors, where the arm has it.
            seed: Chooses the images that SMOTE computes.

        Raises:
            DatasetError: There are no training images.
            SettingsError: A user's function failed, or gave what no trainer can follow.
        """
        if not len(train):
            raise DatasetError("a classifier cannot be trained on 0 images; look at the split's counts")
        if self.function:
            return call(self.function, train, synthetic, wanted)
        recipe = _real_recipe(train, self, seed)
        if self.synthetic != "none" and synthetic is not None and len(synthetic):
            recipe = _with_synthetic(recipe, len(train), synthetic, wanted, self.synthetic, synthetic_share)
        return replace(recipe, strength=self.strength or strength, flips=flips)


def _real_recipe(train: LabelledImages, arm: Arm, seed: int) -> Recipe:
    """The recipe without synthetic images."""
    images, class_ids, source = train.images, train.class_ids, np.arange(len(train))
    counts = train.counts()
    if arm.balance == "smote":
        computed, computed_ids = smote_images(train, seed=seed)
        images, class_ids = np.concatenate([images, computed]), np.concatenate([class_ids, computed_ids])
        source = np.concatenate([source, np.full(len(computed), COMPUTED)])
    n, sizes = len(class_ids), np.bincount(class_ids, minlength=len(counts))
    draws = np.full(n, 1.0 / n)
    if arm.balance in {"oversample", "smote"}:
        # Equal shares for the classes; SMOTE leaves a class of one image short of that.
        draws = 1.0 / (np.count_nonzero(sizes) * sizes[class_ids])
    plain = np.ones(len(counts), np.float32)
    late = None
    if arm.balance == "deferred":
        late = Late(DEFERRED_FROM, draws, _normalised(effective_number(counts, 0.9999), counts))
    is_adjusted = arm.balance == "logit adjustment"
    return Recipe(
        images,
        class_ids,
        source.astype(np.int64),
        draws,
        np.full(n, arm.is_augmented),
        _normalised(_WEIGHTS[arm.balance](counts), counts) if arm.balance in _WEIGHTS else plain,
        (log_priors(counts) if is_adjusted else np.zeros(len(counts))).astype(np.float32),
        # A smoothed label promises a rare class a share of every common image, which the adjustment
        # then multiplies by the ratio of their sizes: with 100 : 1 it would name the rare class.
        label_smoothing=0.0 if is_adjusted else 0.1,
        mixing=arm.mixing,
        late=late,
    )


_WEIGHTS = {"weights": inverse_count, "effective number": effective_number}


def _normalised(weights: Doubles, counts: Any) -> Any:
    """(K,) float32 weights, 1 on average over draws of images as they come."""
    return (weights * counts.sum() / (weights @ counts)).astype(np.float32)


def _with_synthetic(
    recipe: Recipe,
    n_real: int,
    synthetic: LabelledImages,
    wanted: Sequence[int],
    use: SyntheticUse,
    share: float,
) -> Recipe:
    """The same recipe with synthetic images of the wanted classes behind the others."""
    rows = np.flatnonzero(np.isin(synthetic.class_ids, list(wanted)))
    fake_ids = synthetic.class_ids[rows]
    n_classes = len(recipe.loss_weights)
    draws = share_draws(recipe.draw_probability, recipe.class_ids, fake_ids, use, share, n_classes)
    late = recipe.late
    if late is not None or use == "first":
        begins, weights = (
            (REAL_FROM, recipe.loss_weights) if late is None else (late.begins, late.loss_weights)
        )
        late_draws = only_real(recipe.draw_probability, len(rows)) if use == "first" else draws
        late = Late(begins, late_draws, weights)
    return replace(
        recipe,
        images=np.concatenate([recipe.images, synthetic.images[rows]]),
        class_ids=np.concatenate([recipe.class_ids, fake_ids]),
        source=np.concatenate([recipe.source, n_real + rows]),
        draw_probability=draws,
        augmented=np.concatenate([recipe.augmented, np.zeros(len(rows), bool)]),
        late=late,
    )


@dataclass(frozen=True)
class Part:
    """One part of an arm's name.

    Attributes:
        meaning: What it adds, as the end of a sentence.
        changes: Fields of `Arm` that it sets; two parts that set one field exclude each other.
    """

    meaning: str
    changes: Mapping[str, Any]


PARTS = {
    "real": Part("the real images as they are", {"balance": "none"}),
    "class weights": Part("the loss of each class weighted by 1 / its count", {"balance": "weights"}),
    "effective number": Part(
        "the loss of each class weighted by 1 / its effective number of images (Cui 2019)",
        {"balance": "effective number"},
    ),
    "logit adjustment": Part(
        "logits shifted by the log of each class's share in the loss (Menon 2021)",
        {"balance": "logit adjustment"},
    ),
    "deferred re-weighting": Part(
        "class weights in the last fifth of training only (Cao 2019)", {"balance": "deferred"}
    ),
    "oversampling": Part("every class drawn equally often", {"balance": "oversample"}),
    "smote": Part("rare classes filled up by interpolation between neighbours", {"balance": "smote"}),
    "albumentations": Part("classical augmentation", {"is_augmented": True}),
    "light albumentations": Part("light classical augmentation", {"is_augmented": True, "strength": "light"}),
    "medium albumentations": Part(
        "medium classical augmentation", {"is_augmented": True, "strength": "medium"}
    ),
    "strong albumentations": Part(
        "strong classical augmentation", {"is_augmented": True, "strength": "strong"}
    ),
    "mixup": Part("pairs of images blended, labels alike (Zhang 2018)", {"mixing": "mixup"}),
    "cutmix": Part("a rectangle of another image pasted in, labels alike (Yun 2019)", {"mixing": "cutmix"}),
    BEST_BASELINE: Part(
        "the best way without synthetic images, chosen on validation folds",
        {
            "is_on_best_baseline": True,
            "balance": "none",
            "is_augmented": False,
            "strength": "",
            "mixing": "none",
        },
    ),
    "synthetic": Part("synthetic images in a share of the wanted classes' draws", {"synthetic": "share"}),
    "synthetic to balance": Part(
        "synthetic images for all that the wanted classes lack to the largest", {"synthetic": "fill"}
    ),
    "synthetic first": Part(
        "synthetic images for all that the wanted classes lack, in the first half of training; then real "
        "images alone",
        {"synthetic": "first"},
    ),
    "synthetic only": Part(
        "the wanted classes from synthetic images alone (classification accuracy score, Ravuri 2019)",
        {"synthetic": "only"},
    ),
    "thresholds on folds": Part(
        "decisions moved towards rare classes as far as real images held out in turn say (post-hoc logit "
        "adjustment, Menon 2021)",
        {"thresholds": "folds"},
    ),
    "thresholds on synthetic": Part(
        "decisions moved towards rare classes as far as synthetic images say, of which the classifier has seen "
        "none",
        {"thresholds": "synthetic"},
    ),
    "discriminator": Part(
        "the classifier starts from the discriminator's features", {"start": "discriminator"}
    ),
}
"""What an arm's name may be made of; a new part is one entry here and what `Arm.recipe` does with it."""


def make_arm(name: str) -> Arm:
    """Make the arm of a name.

    Raises:
        SettingsError: An unknown part, or two that exclude each other.

    >>> make_arm("oversampling+light albumentations+mixup").strength
    'light'
    """
    if is_path(name):
        return Arm(name, f"your own: {name}", function=name)
    parts = _split(name)
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        known = ", ".join(repr(part) for part in PARTS)
        raise SettingsError(
            [
                f"evaluate.arms: no part {part!r} in arm {name!r}; known, to be joined by '+': {known}; "
                "or your own function, as package.module:function"
                for part in unknown
            ]
        )
    fields: dict[str, Any] = {}
    for part in parts:
        twice = sorted(fields.keys() & PARTS[part].changes.keys())
        if twice:
            others = [other for other in parts if other != part and twice[0] in PARTS[other].changes]
            raise SettingsError(
                [
                    f"evaluate.arms: {name!r} has {part!r} and {(others or [part])[0]!r}, of which one excludes the other"
                ]
            )
        fields |= PARTS[part].changes
    if fields.get("thresholds") == "synthetic" and "synthetic" in fields:
        raise SettingsError(
            [
                f"evaluate.arms: {name!r} trains on the synthetic images that its thresholds are to be chosen on; "
                "leave one out, or take 'thresholds on folds'"
            ]
        )
    return Arm(name, "; ".join(PARTS[part].meaning for part in parts), **fields)


def _split(name: str) -> list[str]:
    return [part.strip() for part in name.split("+")]


def without_synthetic(arm: Arm) -> str:
    """Name of the arm that this one is without its synthetic images; its own where it has no parts.

    >>> without_synthetic(make_arm("logit adjustment+synthetic")), without_synthetic(make_arm("synthetic"))
    ('logit adjustment', 'real')
    """
    return "+".join(part for part in _split(arm.name) if not make_arm(part).has_synthetic) or "real"


QUICK = (
    "real",
    "oversampling+albumentations",
    "oversampling+albumentations+thresholds on folds",
    "oversampling+albumentations+synthetic",
    "oversampling+albumentations+thresholds on synthetic",
)
"""The arms of `evaluate.budget: quick`."""
STANDARD = (
    "real",
    "class weights",
    "effective number",
    "logit adjustment",
    "deferred re-weighting",
    "oversampling",
    "smote",
    "oversampling+mixup",
    "oversampling+cutmix",
    "oversampling+albumentations",
    "logit adjustment+albumentations",
    "deferred re-weighting+albumentations",
    "smote+albumentations",
    "oversampling+albumentations+mixup",
    "oversampling+albumentations+cutmix",
    "oversampling+albumentations+thresholds on folds",
    "oversampling+albumentations+mixup+thresholds on folds",
    "oversampling+albumentations+synthetic",
    "oversampling+albumentations+synthetic to balance",
    "oversampling+albumentations+synthetic first",
    "oversampling+albumentations+synthetic only",
    "oversampling+albumentations+thresholds on synthetic",
    "synthetic",
    "synthetic to balance",
    "synthetic first",
    "thresholds on synthetic",
    "best baseline",
    "best baseline+synthetic",
    "best baseline+synthetic to balance",
    "best baseline+synthetic first",
    "best baseline+thresholds on synthetic",
)
"""The arms of `evaluate.budget: standard` and `paper`: each use of synthetic images by itself, with what one would
usually do, and with the best way without them; where that is the usual one, both are trained once."""
STARTED = ("oversampling+albumentations+discriminator", "discriminator")
"""Arms that `standard` and `paper` have too where the base GAN's discriminator is kept."""
ARMS = {name: make_arm(name) for name in (*STANDARD, *STARTED)}
"""The arms that the README lists; any other combination of parts can be named as well."""


def arm_names(config: EvaluateConfig, *, has_start: bool = False) -> tuple[str, ...]:
    """The arms that are asked for, `auto` resolved.

    Args:
        config: Names them, or the budget.
        has_start: Whether a discriminator is, or will be, kept that a classifier could start from.
    """
    if config.arms != "auto":
        return config.arms
    if config.budget == "quick":
        return QUICK
    # They train the discriminator as the classifier, which is no substitute for a user's own.
    return (*STANDARD, *STARTED) if has_start and config.classifier == DEFAULT else STANDARD


def find_arms(names: Collection[str]) -> list[Arm]:
    """Make arms of names, in the order given, each once.

    Raises:
        SettingsError: Names that no arm can be made of, all in one message.

    >>> [arm.has_synthetic for arm in find_arms(["real", "oversampling+albumentations+synthetic"])]
    [False, True]
    """
    arms, problems = [], []
    for name in dict.fromkeys(names):
        try:
            arms.append(make_arm(name))
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(problems)
    return arms


def starts_from_discriminator(names: Collection[str]) -> bool:
    """Whether one of these arms starts from the discriminator.

    >>> starts_from_discriminator(["real", "oversampling"])
    False
    """
    return any(arm.start == "discriminator" for arm in find_arms(names))


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
