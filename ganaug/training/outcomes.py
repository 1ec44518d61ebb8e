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
from ganaug.progress import Progress, silent
from ganaug.screen.folds import sample_rows
from ganaug.thresholds import choose_multiple, class_offsets, move
from ganaug.training.contest import Entry, Fits, Ground, Job, train_all
from ganaug.training.fits import Floats
from ganaug.training.held_out import Rows, held_out_in_turn

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
    narrow = [one for name, one in trained.items() if name not in on_synthetic]
    wide = [one for name, one in trained.items() if name in on_synthetic]
    in_turn = [one for name, one in trained.items() if name in on_folds]
    plans = [_plan(ground, n_seeds, narrow, wide, in_turn) for ground in grounds]
    fits = iter(train_all([job for plan in plans for job in plan.jobs], progress))
    return [_outcomes(plan, entries, source, [next(fits) for _ in plan.jobs]) for plan in plans]


@dataclass(frozen=True)
class _Plan:
    """What is trained for one ground.

    Attributes:
        ground: The ground.
        jobs: Arms that look at the test images alone; those that look at the calibration images behind
            them, in the same prediction; and for each fold those that hold it out.
        calibration: The calibration images; None where there are none of those arms.
        held: (N,) rows of each fold.
    """

    ground: Ground
    jobs: Sequence[Job]
    calibration: LabelledImages | None
    held: Sequence[Rows]


def _plan(
    ground: Ground, n_seeds: int, narrow: Sequence[Entry], wide: Sequence[Entry], in_turn: Sequence[Entry]
) -> _Plan:
    calibration = _calibration(ground) if wide else None
    wider = ground if calibration is None else replace(ground, test=_joined(ground.test, calibration))
    folds = held_out_in_turn(ground, FOLDS, "thresholds") if in_turn else []
    jobs = [Job(ground, narrow, n_seeds), Job(wider, wide, n_seeds)]
    jobs += [Job(fold, in_turn, 1) for fold, _ in folds]
    return _Plan(ground, jobs, calibration, [rows for _, rows in folds])


def _outcomes(
    plan: _Plan, entries: Sequence[Entry], source: Mapping[str, str], fits: Sequence[Fits]
) -> dict[str, list[Outcome]]:
    """Per arm, what its classifiers make of one ground's test images, thresholds moved."""
    narrow, wide, *folds = fits
    ground, trained = plan.ground, {**narrow, **wide}
    held_out = _put_together(ground, plan.held, folds)
    offsets, prevalence = class_offsets(ground.train.counts()), ground.prevalence

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
            assert plan.calibration is not None
            class_ids = plan.calibration.class_ids
        moved = np.float32(choose_multiple(class_ids, unseen, offsets, prevalence)) * offsets
        return Outcome(move(seen, moved), seconds, moved)

    found = {}
    for entry in entries:
        own = trained[source[entry.arm.name]]
        found[entry.arm.name] = [outcome(entry, fit, len(own)) for fit in own]
    return found


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


def _put_together(
    ground: Ground, held: Sequence[Rows], folds: Sequence[Fits]
) -> dict[str, tuple[Floats, float]]:
    """Per arm: (N, K) probabilities of the training images, each by a classifier that has not seen it; seconds."""
    shape = len(ground.train), len(ground.train.class_names)
    found: dict[str, tuple[Floats, float]] = {}
    for rows, fits in zip(held, folds, strict=True):
        for name, [(probability, seconds)] in fits.items():
            seen, spent = found.get(name, (np.zeros(shape, np.float32), 0.0))
            seen[rows] = probability
            found[name] = seen, spent + seconds
    return found
