"""What arms make of the test images: their classifiers' probabilities, thresholds moved where an arm does.

An arm that moves its thresholds is trained as the arm without them is, once for both. How far they are
moved is chosen on images that its classifier has not seen: real ones, held out in turn from further
classifiers; or synthetic ones, which take no classifier more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ganaug.dataset import LabelledImages
from ganaug.progress import Progress, in_parts, silent
from ganaug.screen.folds import sample_rows
from ganaug.thresholds import choose_multiple, class_offsets, move
from ganaug.training.contest import Entry, Ground, train_entries, train_everywhere
from ganaug.training.fits import Floats
from ganaug.training.held_out import held_out_in_turn

FOLDS = 5
"""Classifiers that hold real images out for `thresholds on folds`, each with seed 0: of 5 images of a
class, one at a time."""


@dataclass(frozen=True)
class Outcome:
    """What one classifier of an arm makes of the test images.

    Attributes:
        probability: (N, K).
        seconds: That its training took, and its part of what chose its thresholds.
        offsets: (K,) what was added to the logarithms of its probabilities.
    """

    probability: Floats
    seconds: float
    offsets: Floats


def measure(
    ground: Ground, entries: Sequence[Entry], n_seeds: int, progress: Progress = silent
) -> dict[str, list[Outcome]]:
    """Train every arm with every seed, and move the thresholds of those that do.

    Args:
        ground: What they share.
        entries: The arms; their names differ.
        n_seeds: Seeds 0, 1, ...
        progress: Told of the images trained on, over all fits.

    Returns:
        Per arm, one for each seed.
    """
    trained = {entry.arm.trained.name: replace(entry, arm=entry.arm.trained) for entry in entries}
    on_folds = {
        entry.arm.trained.name: trained[entry.arm.trained.name]
        for entry in entries
        if entry.arm.thresholds == "folds"
    }
    on_synthetic = {entry.arm.trained.name for entry in entries if entry.arm.thresholds == "synthetic"}
    counts = [
        n_seeds * (len(trained) - len(on_synthetic)),
        n_seeds * len(on_synthetic),
        FOLDS * len(on_folds),
    ]
    first, second, third = in_parts(progress, [64 * ground.steps * count for count in counts])
    fits = train_entries(
        ground, [one for name, one in trained.items() if name not in on_synthetic], n_seeds, first
    )
    if on_synthetic:
        # Their classifiers look at the calibration images behind the test images, in the same prediction.
        calibration = _calibration(ground)
        wider = replace(ground, test=_joined(ground.test, calibration))
        fits |= train_entries(wider, [trained[name] for name in sorted(on_synthetic)], n_seeds, second)
    held_out = _held_out(ground, list(on_folds.values()), third) if on_folds else {}
    offsets, prevalence = class_offsets(ground.train.counts()), ground.test.counts()

    def outcome(entry: Entry, fit: tuple[Floats, float]) -> Outcome:
        (probability, seconds), name = fit, entry.arm.trained.name
        seen, unseen = probability[: len(ground.test)], probability[len(ground.test) :]
        if entry.arm.thresholds == "none":
            return Outcome(seen, seconds, np.zeros_like(offsets))
        class_ids = calibration.class_ids if entry.arm.thresholds == "synthetic" else ground.train.class_ids
        if entry.arm.thresholds == "folds":
            unseen, more = held_out[name]
            seconds += more / n_seeds
        moved = np.float32(choose_multiple(class_ids, unseen, offsets, prevalence)) * offsets
        return Outcome(move(seen, moved), seconds, moved)

    return {
        entry.arm.name: [outcome(entry, fit) for fit in fits[entry.arm.trained.name]] for entry in entries
    }


def _calibration(ground: Ground) -> LabelledImages:
    """Synthetic images of the wanted classes that have any, and training images of the others."""
    synthetic = ground.calibration or ground.synthetic
    made = synthetic.take(np.flatnonzero(np.isin(synthetic.class_ids, list(ground.wanted))))
    others = np.flatnonzero(~np.isin(ground.train.class_ids, made.class_ids))
    real = ground.train.take(others[sample_rows(ground.train.class_ids[others])])
    return _joined(made.take(sample_rows(made.class_ids)), real)


def _joined(first: LabelledImages, second: LabelledImages) -> LabelledImages:
    index = pd.DataFrame({"class_id": np.concatenate([first.class_ids, second.class_ids])})
    return LabelledImages(np.concatenate([first.images, second.images]), index, first.class_names)


def _held_out(
    ground: Ground, entries: Sequence[Entry], progress: Progress
) -> dict[str, tuple[Floats, float]]:
    """Per arm: (N, K) probabilities of the training images, each by a classifier that has not seen it; seconds."""
    shape = len(ground.train), len(ground.train.class_names)
    found = {entry.arm.name: np.zeros(shape, np.float32) for entry in entries}
    spent = dict.fromkeys(found, 0.0)
    grounds, rows = zip(*held_out_in_turn(ground, FOLDS, "thresholds"), strict=True)
    for held, fits in zip(rows, train_everywhere(grounds, entries, 1, progress), strict=True):
        for name, [(probability, seconds)] in fits.items():
            found[name][held] = probability
            spent[name] += seconds
    return {name: (found[name], spent[name]) for name in found}
