"""Health: what goes wrong in GANs, how it is noticed, and what is done about it.

A detector reads the notes of a training (curves at every look, a row per examination) and tells
how bad it is; past its threshold that is a finding. A finding has a remedy, a stronger one each
time the same detector finds something; the last is to stop, and what was best is kept. A new
detector is one function and one entry in `DETECTORS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Remedy = Literal[
    "roll back", "lower the learning rates", "slow the discriminator", "augment more", "stop", "only told"
]
Notes = Mapping[str, Any]

WARM_UP = 0.5
"""Share of the steps before which samples are not expected to be any good."""
WINDOW, LEAST_LOOKS = 8, 3
"""Looks over which losses are compared, and how many it takes to see an explosion."""
ADAPT_BY, MOST_SHARE = 0.05, 0.9
"""How far the augmented share moves at a look, and how far it may go."""
OVERFIT_TARGET = 0.1
"""`overfitting` above it asks for more augmentation."""


@dataclass(frozen=True)
class Detector:
    """One thing that goes wrong.

    Attributes:
        meaning: What it is, in one line.
        measure: How bad it is now, from the notes and the share of the steps done; None when it
            cannot be told yet.
        threshold: A measure above it is a finding.
        remedies: What is done the first time, the second time, and so on; the last for ever.
        at: Whether it reads the curves of looks or the rows of examinations.
    """

    meaning: str
    measure: Callable[[Notes, float], float | None]
    threshold: float
    remedies: tuple[Remedy, ...]
    at: Literal["look", "exam"] = "look"


@dataclass(frozen=True)
class Finding:
    """Something that went wrong.

    Attributes:
        detector: Its name in `DETECTORS`.
        step: When it was noticed.
        value: Its measure.
        threshold: What the measure was to stay under.
        remedy: What was done.
    """

    detector: str
    step: int
    value: float
    threshold: float
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """As it stands in notes and summaries; a number that is none as text."""
        value = self.value if math.isfinite(self.value) else str(self.value)
        # The report tells the meaning, and does not import this package.
        return {**asdict(self), "value": value, "meaning": DETECTORS[self.detector].meaning}

    def sentence(self) -> str:
        """For the log."""
        return (
            f"step {self.step}: {self.detector} ({DETECTORS[self.detector].meaning}): "
            f"{self.value:.3g}, limit {self.threshold:g}; {self.remedy}"
        )


def curve(notes: Notes, name: str, last: int | None = None) -> npt.NDArray[np.float64]:
    """(n,) the newest values of a curve."""
    # Backwards, so that a look costs the same however long the training is.
    values = (value for _, label, value in reversed(notes["curves"]) if label == name)
    return np.array(list(islice(values, last))[::-1], np.float64)


def measure_divergence(notes: Notes, done: float) -> float | None:  # noqa: ARG001
    """Size of a loss or penalty at the last look beside its median before; infinite when no number."""
    recent = [curve(notes, name, LEAST_LOOKS + 1) for name in _LOSSES]
    if not all(np.isfinite(values[-1:]).all() for values in recent):
        return math.inf
    scales = [
        abs(values[-1]) / max(1.0, np.median(np.abs(values[:-1])))
        for values in recent
        if len(values) > LEAST_LOOKS
    ]
    return float(max(scales)) if scales else None


def measure_oscillation(notes: Notes, done: float) -> float | None:  # noqa: ARG001
    """Swing of the generator's loss over the last looks, where it mostly changes direction.

    The swing is the distance between the 10th and the 90th percentile over 1 + the median's
    size; a loss that keeps its direction does not oscillate, and counts as 0.
    """
    losses = curve(notes, "generator_loss", 2 * WINDOW)
    if len(losses) < 2 * WINDOW:
        return None
    steps = np.sign(np.diff(losses))
    turns = float(np.mean(steps[1:] != steps[:-1]))
    swing = float(np.subtract(*np.percentile(losses, [90, 10])))
    return swing / (1.0 + abs(float(np.median(losses)))) if turns >= 0.5 else 0.0


def measure_vanishing(notes: Notes, done: float) -> float | None:  # noqa: ARG001
    """How far the generator's gradient has shrunk while the discriminator is not fooled.

    Returns:
        Minus log10 of the gradient's length beside its largest so far, the median of the last
        looks; 0 where fakes are still taken for real.
    """
    gradients, fooled = curve(notes, "generator_gradient"), curve(notes, "fooled", WINDOW)
    if len(fooled) < WINDOW or len(gradients) < WINDOW:
        return None
    if fooled.max() > 0.05:
        return 0.0
    return -math.log10(max(float(np.median(gradients[-WINDOW:])), 1e-30) / max(float(gradients.max()), 1e-30))


def measure_collapse(notes: Notes, done: float) -> float | None:
    """1 minus the spread of the samples beside that of real images, in the worst class.

    The better of the last two examinations counts: a collapse lasts.
    """
    if done < WARM_UP or len(notes["exams"]) < 2:
        return None
    return min(
        max(1.0 - float(row["spread"]) for row in exam["classes"].values()) for exam in notes["exams"][-2:]
    )


def measure_repetition(notes: Notes, done: float) -> float | None:
    """Share of samples that copy an earlier one, in the worst class; the better of the last two examinations."""
    if done < WARM_UP or len(notes["exams"]) < 2:
        return None
    return min(max(float(row["repeats"]) for row in exam["classes"].values()) for exam in notes["exams"][-2:])


def measure_lost_modes(notes: Notes, done: float) -> float | None:
    """How much mean coverage was lost since it was best, by the better of the last two examinations."""
    if done < WARM_UP or len(notes["exams"]) < 3:
        return None
    means = [float(exam["coverage"]) for exam in notes["exams"]]
    return max(means[:-2]) - max(means[-2:])


def measure_memorisation(notes: Notes, done: float) -> float | None:
    """Share of samples that copy a real training image, in the worst class."""
    if done < WARM_UP or not notes["exams"]:
        return None
    return max(float(row["copies"]) for row in notes["exams"][-1]["classes"].values())


_LOSSES = ("generator_loss", "discriminator_loss", "r1", "r2", "wgan-gp", "dragan", "lecam")
_BACK_AND_SLOWER: tuple[Remedy, ...] = ("roll back", "roll back", "roll back", "stop")

DETECTORS: dict[str, Detector] = {
    "divergence": Detector("a loss exploded or is not a number", measure_divergence, 50.0, _BACK_AND_SLOWER),
    "oscillation": Detector(
        "the losses swing and do not settle",
        measure_oscillation,
        1.0,
        ("lower the learning rates", "lower the learning rates", "stop"),
    ),
    "vanishing gradients": Detector(
        "the discriminator always wins and the generator learns no more",
        measure_vanishing,
        2.0,
        ("slow the discriminator", "augment more", "stop"),
    ),
    "mode collapse": Detector(
        "the samples of a class are alike",
        measure_collapse,
        0.85,
        ("augment more", "roll back", "stop"),
        at="exam",
    ),
    "repetition": Detector(
        "most samples of a class are copies of each other, and screening throws them away",
        measure_repetition,
        0.8,
        # What would help is not known: more augmentation was not tried against it.
        ("only told",),
        at="exam",
    ),
    "lost modes": Detector(
        "the samples cover much less of the real images than before",
        measure_lost_modes,
        0.4,
        ("roll back", "augment more", "stop"),
        at="exam",
    ),
    "memorisation": Detector(
        "samples copy training images",
        measure_memorisation,
        0.5,
        ("augment more", "augment more", "stop"),
        at="exam",
    ),
}


def diagnose(notes: Notes, step: int, done: float, *, at: Literal["look", "exam"]) -> list[Finding]:
    """What is wrong now.

    Args:
        notes: Of the training; `findings` in it are the earlier ones.
        step: Steps done.
        done: Share of all steps.
        at: Which detectors are asked.
    """
    found = []
    for name, detector in DETECTORS.items():
        value = detector.measure(notes, done) if detector.at == at else None
        if value is not None and not value <= detector.threshold:
            times = sum(row["detector"] == name for row in notes["findings"])
            remedy = detector.remedies[min(times, len(detector.remedies) - 1)]
            found.append(Finding(name, step, value, detector.threshold, remedy))
    return found


def overfitting(
    real: npt.NDArray[np.floating], held_out: npt.NDArray[np.floating], fake: npt.NDArray[np.floating]
) -> float:
    """How much better a discriminator knows its training images than other real ones.

    The idea of ADA's r_v, by ranks: scores have no scale of their own in relativistic games.

    Args:
        real: (N,) its scores of training images.
        held_out: (M,) of real images that it was not trained with.
        fake: (L,) of fakes.

    Returns:
        Share of (training, fake) pairs that it ranks right, less that of (held-out, fake) pairs:
        0 where it treats both alike, 1 where it knows its training images by heart.

    Source:
        After Karras et al. 2020, arXiv:2006.06676, equation 1.

    >>> overfitting(np.array([3.0, 2.0]), np.array([1.0, -1.0]), np.array([0.0, 0.5]))
    0.5
    """
    return _ranked_right(real, fake) - _ranked_right(held_out, fake)


def _ranked_right(real: npt.NDArray[np.floating], fake: npt.NDArray[np.floating]) -> float:
    return float((real[:, None] > fake[None, :]).mean())


def adapt_share(share: float, overfit: float, least: float) -> float:
    """The augmented share after a look: more when the discriminator overfits, less when not.

    Never less than the recipe's own: only common classes have images to hold out, and the rare
    ones need the augmentation more.

    >>> adapt_share(0.5, 0.9, 0.4), adapt_share(0.4, 0.0, 0.4)
    (0.55, 0.4)
    """
    moved = share + (ADAPT_BY if overfit > OVERFIT_TARGET else -ADAPT_BY)
    return min(max(moved, least), max(MOST_SHARE, least))
