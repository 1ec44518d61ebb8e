"""The part `best baseline` of an arm's name: the way without synthetic images that validation folds choose.

Which way that is depends on the data, so uses of synthetic images are compared together with it, too.
Until it is chosen, an arm that has the part is built as `real` with its other parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ganaug.arms import BEST_BASELINE, PARTS, Arm, make_arm
from ganaug.config import EvaluateConfig
from ganaug.errors import SettingsError

USUAL = "oversampling+albumentations"
"""What stays chosen unless another way is better beyond chance: folds with a handful of rare images are noisy."""


def candidates(arms: Sequence[Arm]) -> list[Arm]:
    """The arms that it is chosen among; none where no arm has the part.

    Not those that move thresholds, which takes classifiers of its own on each fold and goes with any
    way; nor those that start from a discriminator, which has seen the folds.

    >>> [arm.name for arm in candidates([make_arm("real"), make_arm("smote"), make_arm("best baseline+synthetic")])]
    ['real', 'smote']
    >>> candidates([make_arm("real")])
    []
    """
    if not any(arm.is_on_best_baseline for arm in arms):
        return []
    return [
        arm
        for arm in arms
        if not (arm.has_synthetic or arm.function or arm.is_on_best_baseline)
        and (arm.thresholds, arm.start) == ("none", "nothing")
    ]


def check(config: EvaluateConfig, arms: Sequence[Arm]) -> None:
    """Refuse arms on the best baseline where none can be chosen.

    Raises:
        SettingsError: The budget tunes nothing, or there is nothing to choose among.
    """
    asking = [arm.name for arm in arms if arm.is_on_best_baseline]
    if asking and not config.is_tuned:
        raise SettingsError(
            [
                f"evaluate.arms: {asking[0]!r} needs validation folds that choose the baseline: add "
                "`--evaluate.budget standard`, or name a way in its place, as 'oversampling+albumentations+synthetic'"
            ]
        )
    if asking and not candidates(arms):
        raise SettingsError(
            [
                f"evaluate.arms: {asking[0]!r} has nothing to choose its baseline among: add arms without synthetic "
                "images, as 'oversampling+albumentations' and 'logit adjustment'"
            ]
        )


def on_baseline(arm: Arm, baseline: str) -> Arm:
    """The arm with a chosen way in the place of `best baseline`; any other arm as it is.

    Args:
        arm: The arm, under its own name or another.
        baseline: Name of the way, one of `candidates`.

    >>> on_baseline(make_arm("best baseline+synthetic"), "logit adjustment").name
    'logit adjustment+synthetic'
    >>> on_baseline(make_arm("best baseline+synthetic"), "real").name
    'synthetic'
    """
    if not arm.is_on_best_baseline:
        return arm
    way = make_arm(baseline)
    parts = [part.strip() for part in arm.name.split("+")]
    names = [baseline if part == BEST_BASELINE else part for part in parts]
    return replace(
        arm,
        name="+".join(name for name in names if name != "real") or "real",
        meaning=arm.meaning.replace(PARTS[BEST_BASELINE].meaning, way.meaning),
        balance=way.balance,
        is_augmented=way.is_augmented,
        strength=way.strength,
        mixing=way.mixing,
        is_on_best_baseline=False,
    )
