"""Which classifier was chosen, what it can do, and which arms that leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ganaug.arms import Arm
from ganaug.classifier_name import DEFAULT, kind_of
from ganaug.config import EvaluateConfig
from ganaug.errors import SettingsError, TrainingError
from ganaug.own_classifier import SETTING, check_is_there, check_starts_alike
from ganaug.recipe import Recipe
from ganaug.training.classifiers.estimator import MOST_IMAGES, weight_parameter
from ganaug.training.classifiers.factory import OwnNetwork, examine

SUM_TOLERANCE = 0.01
"""How far a row of probabilities may be from 1 in sum: float16 rounds, logits are farther."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Choice:
    """A classifier.

    Attributes:
        name: The setting.
        kind: A network that ganaug trains, an estimator that it fits, or a command that does all itself.
        takes_weights: Whether a weight of each image can be told to it.
        max_seconds: A command that takes longer is stopped.
    """

    name: str = DEFAULT
    kind: Literal["network", "estimator", "command"] = "network"
    takes_weights: bool = True
    max_seconds: float | None = None

    @property
    def note(self) -> str:
        """What was trained, in a sentence; empty for the default, which needs none."""
        if self.name == DEFAULT:
            return ""
        more = {
            "network": "trained as the small CNN is by default",
            "estimator": (
                "fitted in each arm and seed at once, with hard labels, on at most "
                f"{MOST_IMAGES:,} images as the arm draws them"
            ),
            "command": (
                "it does the training itself: what it ignores of an arm's recipe (mixing, offsets, weights) "
                "was not measured"
            ),
        }[self.kind]
        return f"The classifier of all arms is {self.name!r}, {more}."


SMALL_CNN = Choice()
"""The default."""


def choose(config: EvaluateConfig, image_shape: tuple[int, int, int], n_classes: int) -> Choice:
    """Find out what the chosen classifier is; a user's function is called and tried.

    Raises:
        SettingsError: A function that cannot be imported or makes what cannot be used, or a program
            that is not there.
    """
    name = config.classifier
    check_is_there(name)
    kind = kind_of(name)
    if kind == "command":
        return Choice(name, "command", max_seconds=config.classifier_max_seconds)
    if kind == "function":
        made = examine(name, image_shape, n_classes)
        if not isinstance(made, OwnNetwork):
            return Choice(name, "estimator", takes_weights=bool(weight_parameter(made)))
    return Choice(name)


def usable(
    choice: Choice, arms: Sequence[Arm], recipe_of: Callable[[Arm], Recipe], *, is_auto: bool
) -> tuple[list[Arm], tuple[str, ...]]:
    """The arms that the classifier can follow, and what is to be said of it and of the others.

    Args:
        choice: The classifier.
        arms: The arms that the data allow.
        recipe_of: Builds the recipe of a user's own arm, which shows what it asks for.
        is_auto: Whether the user left the arms to ganaug: then what cannot be followed is left out.

    Raises:
        SettingsError: The user named arms that it cannot follow.
    """
    check_starts_alike(choice.name, arms)
    lacks = {arm.name: _lacks(choice, arm, recipe_of) for arm in arms}
    wrong = {name: why for name, why in lacks.items() if why}
    if wrong and not is_auto:
        raise SettingsError(
            [f"evaluate.arms: leave out {name!r}: {choice.name!r} {why}" for name, why in wrong.items()]
        )
    notes = [choice.note] if choice.note else []
    if wrong:
        listed = "; ".join(f"{name!r}, which {why}" for name, why in wrong.items())
        notes.append(f"Arms that {choice.name!r} cannot follow were left out: {listed}.")
    return [arm for arm in arms if not lacks[arm.name]], tuple(notes)


def _lacks(choice: Choice, arm: Arm, recipe_of: Callable[[Arm], Recipe]) -> str:
    """What the classifier cannot do that the arm asks for; empty where there is nothing."""
    if choice.kind != "estimator":
        return ""
    if arm.function:
        recipe = recipe_of(arm)
        mixing, is_shifted = recipe.mixing != "none", bool(recipe.logit_offsets.any())
        is_late, is_weighted = recipe.late is not None, bool((recipe.loss_weights != 1).any())
    else:
        mixing, is_shifted = arm.mixing != "none", arm.balance == "logit adjustment"
        is_late = arm.balance == "deferred" or arm.synthetic == "first"
        is_weighted = arm.balance in {"weights", "effective number"}
    return _words(mixing, is_shifted, is_late, is_weighted and not choice.takes_weights)


def _words(mixing: bool, is_shifted: bool, is_late: bool, is_weighted: bool) -> str:
    reasons = {
        "labels that are mixed": mixing,
        "logits that are shifted in the loss": is_shifted,
        "a last part of training that differs: it is fitted at once": is_late,
        "weights: its fit has no sample_weight": is_weighted,
    }
    found = [reason for reason, is_so in reasons.items() if is_so]
    return f"cannot take {', nor '.join(found)}" if found else ""


def checked(probability: Floats, n_images: int, n_classes: int, name: str) -> Floats:
    """Probabilities that can be scored: finite, not negative, each row with the sum 1.

    Args:
        probability: As a classifier gave them.
        n_images: Test images, N.
        n_classes: K.
        name: The classifier, for errors.

    Returns:
        The same array.

    Raises:
        TrainingError: They are not.

    >>> checked(np.array([[0.25, 0.75]], np.float32), 1, 2, "mine").tolist()
    [[0.25, 0.75]]
    """
    sums = probability.sum(1, dtype=np.float64) if probability.ndim == 2 else np.empty(0)
    if probability.shape != (n_images, n_classes):
        wrong = f"are of shape {probability.shape}, not {(n_images, n_classes)}"
    elif not np.isfinite(probability).all():
        rows = np.flatnonzero(~np.isfinite(probability).all(1))
        wrong = (
            f"are not finite numbers in {len(rows)} rows of {n_images} (row {rows[0]}); did training diverge"
        )
    elif probability.min() < 0:
        wrong = f"go down to {probability.min():.3g}; are they logits? Apply softmax"
    elif np.abs(sums - 1).max() > SUM_TOLERANCE:
        row = int(np.abs(sums - 1).argmax())
        wrong = (
            f"of row {row} have the sum {sums[row]:.4g}, not 1; divide each row by its sum, or apply softmax"
        )
    else:
        return probability
    raise TrainingError(f"the probabilities of {name!r} (`{SETTING}`) {wrong}.")
