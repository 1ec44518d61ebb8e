"""Cheap refusal: images that are mostly not of their class are not worth an arena.

The screen has asked its classifiers about every image that was produced. Where too few are called
by the class's name, those that passed are the classifiers' mistakes as likely as the generator's
successes, and none of the class's images is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ganaug.dataset import LabelledImages
from ganaug.screen.looks import WRONG_LABEL

NOTHING_KEPT = "no synthetic images were kept"


@dataclass(frozen=True)
class LabelRate:
    """How many of a class's images, as produced, are of the class.

    Attributes:
        class_id: The class.
        class_name: Its name.
        produced: Synthetic images that were screened.
        right_label: Share of them that every screening classifier calls by the class.
        limit: Share that was asked for.
        is_refused: Whether it is less, so that none of them is used.
    """

    class_id: int
    class_name: str
    produced: int
    right_label: float
    limit: float
    is_refused: bool


@dataclass(frozen=True)
class Checked:
    """What was found of the synthetic images before the arena.

    Attributes:
        label_rates: A row per class that images were produced for.
        nothing: Why there are no synthetic images, when there are none.
        notes: What a reader of the verdict should know, in sentences.
    """

    label_rates: tuple[LabelRate, ...] = ()
    nothing: str = NOTHING_KEPT
    notes: tuple[str, ...] = ()

    def with_notes(self, notes: Sequence[str]) -> Checked:
        """The same with more notes; empty ones are left out."""
        return replace(self, notes=(*self.notes, *filter(None, notes)))


def label_rates(
    reasons: Mapping[int, pd.Series], class_names: Sequence[str], limit: float
) -> tuple[LabelRate, ...]:
    """Count what the screen's classifiers said of each class's images.

    Args:
        reasons: Column `reason` of what the screen left, by class id.
        class_names: Name of each class id.
        limit: A class with a smaller share of right labels is refused; 0 refuses none.

    >>> label_rates({1: pd.Series(["", "wrong label", "wrong label", "unrealistic"])}, "ab", 0.6)[0]
    LabelRate(class_id=1, class_name='b', produced=4, right_label=0.5, limit=0.6, is_refused=True)
    """
    rates = []
    for class_id, own in reasons.items():
        if len(own):
            share = float((own != WRONG_LABEL).mean())
            rates.append(LabelRate(class_id, class_names[class_id], len(own), share, limit, share < limit))
    return tuple(rates)


def refuse_mislabelled(
    synthetic: LabelledImages, rates: Sequence[LabelRate]
) -> tuple[LabelledImages, Checked]:
    """Take out the images of refused classes, and say so.

    Args:
        synthetic: The synthetic images that the screen kept.
        rates: What `label_rates` counted.

    Returns:
        The images of the other classes, and what the verdict is to say.
    """
    refused = [rate for rate in rates if rate.is_refused]
    kept = synthetic
    if refused:
        is_out = np.isin(synthetic.class_ids, [rate.class_id for rate in refused])
        kept = synthetic.take(np.flatnonzero(~is_out))
    notes = []
    if rates:
        shares = ", ".join(f"{rate.class_name} {rate.right_label:.0%}" for rate in rates)
        notes.append(
            f"Of the synthetic images as they were produced, all screening classifiers call by their class: {shares}."
        )
    if refused:
        notes.append(f"Left out before the arena: {_of(refused)}. {_WHAT_TO_DO}")
    return kept, Checked(tuple(rates), _nothing(rates, refused), tuple(notes))


_WHAT_TO_DO = (
    "Train longer (train.steps, train.class_steps), where other classes have many images with `--train.recipe "
    "long-tail`, give more real images, or train on a GPU; evaluate.min_right_label 0 switches this off."
)


def _nothing(rates: Sequence[LabelRate], refused: Sequence[LabelRate]) -> str:
    if not refused:
        return NOTHING_KEPT
    others = "" if len(refused) == len(rates) else "; of the other classes no synthetic images were kept"
    return (
        f"the generator was refused before the arena, because too few of its images are of their class: "
        f"{_of(refused)}{others}. {_WHAT_TO_DO.rstrip('.')}"
    )


def _of(refused: Sequence[LabelRate]) -> str:
    shares = ", ".join(
        f"{rate.class_name} {rate.right_label:.1%} of {rate.produced:,} images" for rate in refused
    )
    return f"{shares}, where evaluate.min_right_label asks for {refused[0].limit:.0%}"
