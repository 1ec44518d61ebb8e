"""What arms make of the test images: their classifiers' probabilities, thresholds moved where an arm does.

An arm that moves its thresholds is trained as the arm without them is, once for both. How far they are
moved is chosen on images that its classifier has not seen: real ones, held out in turn from further
classifiers; or synthetic ones, which take no classifier more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ganaug.dataset import LabelledImages
from ganaug.progress import Progress, in_parts, silent
from ganaug.screen.folds import sample_rows
from ganaug.thresholds import choose_multiple, class_offsets, move
from ganaug.training.contest import Entry, Ground, train_everywhere
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
    grounds: Sequence[Ground],
    entries: Sequence[Entry],
    n_seeds: int,
    progress: Progress = silent,
    *,
    keep_for_thresholds: bool = False,
) -> list[dict[str, list[Outcome]]]:
    """Train every arm with every seed on every ground, and move the thresholds of those that do.

    Args:
        grounds: What the arms share; with the same settings, trained on side by side.
        entries: The arms; their names differ.
        n_seeds: Seeds 0, 1, ...
        progress: Told of the images trained on, over all fits.
        keep_for_thresholds: Whether what is trained without synthetic images will be asked for again under
            `thresholds on synthetic`, and is not to be trained twice for that.

    Returns:
        Per ground: per arm, one for each seed.
    """
    # Arms that are trained alike share their classifiers, under the name of the first.
    first_of: dict[Entry, Entry] = {}
    for entry in entries:
        first_of.setdefault(entry.trained, entry)
    trained = {
        one.arm.name: replace(one, arm=replace(one.arm, thresholds="none")) for one in first_of.values()
    }
    source = {entry.arm.name: first_of[entry.trained].arm.name for entry in entries}
    on_folds = {source[entry.arm.name] for entry in entries if entry.arm.thresholds == "folds"}
    on_synthetic = {source[entry.arm.name] for entry in entries if entry.arm.thresholds == "synthetic"}
    if keep_for_thresholds:
        on_synthetic |= {name for name, one in trained.items() if not one.arm.has_synthetic}
    counts = [
        n_seeds * (len(trained) - len(on_synthetic)),
        n_seeds * len(on_synthetic),
        FOLDS * len(on_folds),
    ]
    first, second, third = in_parts(progress, [64 * grounds[0].steps * count for count in counts])
    narrow = [one for name, one in trained.items() if name not in on_synthetic]
    fits = train_everywhere(grounds, narrow, n_seeds, first)
    calibrations = [_calibration(ground) if on_synthetic else None for ground in grounds]
    if on_synthetic:
        # Their classifiers look at the calibration images behind the test images, in the same prediction.
        wider = [
            replace(ground, test=_joined(ground.test, behind))
            for ground, behind in zip(grounds, calibrations, strict=True)
            if behind is not None
        ]
        wide = train_everywhere(wider, [trained[name] for name in sorted(on_synthetic)], n_seeds, second)
        fits = [own | more for own, more in zip(fits, wide, strict=True)]
    found = []
    for ground, own, behind, part in zip(
        grounds, fits, calibrations, in_parts(third, [1] * len(grounds)), strict=True
    ):
        held_out = _held_out(ground, [trained[name] for name in sorted(on_folds)], part) if on_folds else {}
        found.append(_outcomes(ground, entries, source, own, behind, held_out))
    return found


def _outcomes(
    ground: Ground,
    entries: Sequence[Entry],
    source: Mapping[str, str],
    fits: Mapping[str, Sequence[tuple[Floats, float]]],
    calibration: LabelledImages | None,
    held_out: Mapping[str, tuple[Floats, float]],
) -> dict[str, list[Outcome]]:
    """Per arm, what its classifiers make of one ground's test images, thresholds moved."""
    offsets, prevalence = class_offsets(ground.train.counts()), ground.test.counts()

    def outcome(entry: Entry, fit: tuple[Floats, float], n_seeds: int) -> Outcome:
        probability, seconds = fit
        seen, unseen = probability[: len(ground.test)], probability[len(ground.test) :]
        if entry.arm.thresholds == "none":
            return Outcome(seen, seconds, np.zeros_like(offsets))
        if entry.arm.thresholds == "folds":
            class_ids = ground.train.class_ids
            unseen, more = held_out[source[entry.arm.name]]
            seconds += more / n_seeds
        else:
            assert calibration is not None
            class_ids = calibration.class_ids
        moved = np.float32(choose_multiple(class_ids, unseen, offsets, prevalence)) * offsets
        return Outcome(move(seen, moved), seconds, moved)

    return {
        entry.arm.name: [outcome(entry, fit, len(own)) for fit in own]
        for entry in entries
        for own in [fits[source[entry.arm.name]]]
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
