"""The arena: what each arm scores on the locked real test images, the verdict, and the winner's recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ganaug.arms import Arm, arm_names, find_arms, make_arm, without_synthetic
from ganaug.best_baseline import check, on_baseline
from ganaug.config import EvaluateConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, SettingsError
from ganaug.evaluate import Arena, judge
from ganaug.pooled import PER_CLASS_FILE, SCORES_FILE, SplitResult, pool, tables
from ganaug.progress import Progress, in_parts, silent
from ganaug.refusal import Checked
from ganaug.scores import confusion, matched_recall, score, score_classes
from ganaug.training.classifiers.choice import choose, usable
from ganaug.training.contest import Entry, Ground
from ganaug.training.discriminator_start import has_discriminator
from ganaug.training.outcomes import Outcome, measure
from ganaug.training.tuning import Tuned, asked_of, tune
from ganaug.training.winner import winner_of, write_winner

RECIPE_FOLDER, CONFUSION_FILE = "recipe", "confusion.parquet"


def run_arena(
    train: LabelledImages,
    synthetic: LabelledImages,
    test: LabelledImages,
    wanted: Sequence[int],
    config: EvaluateConfig,
    folder: Path,
    *,
    calibration: LabelledImages | None = None,
    checked: Checked | None = None,
    discriminator: Path | None = None,
    device: str = "cpu",
    others: Sequence[SplitResult] = (),
    progress: Progress = silent,
) -> Arena:
    """Train every arm with every seed, score them on real test images and give the verdict.

    Without synthetic images the arms that need them are left out, and the verdict says so.

    Args:
        train: Real training images.
        synthetic: Synthetic images; `class_id` in the index. May be empty.
        test: The locked real test images.
        wanted: Class ids that the plan wants more of.
        config: Arms, seeds and how they are trained.
        folder: Gets `scores.parquet`, `per_class.parquet`, `predictions.npz` (of this split; `probability`
            (arms, seeds, N, K) float16, `labels`, `arms`, `seeds`), `confusion.parquet` (of this split) and
            `verdict.json`;
            `recipe/`, the training set that did best, for use without ganaug; and `fits/`, from
            which a killed run goes on.
        calibration: Synthetic images on which `thresholds on synthetic` are chosen; nothing is trained on
            them. None takes `synthetic`.
        checked: What was found of the synthetic images before, for the verdict to say; why there are
            none, where there are none.
        discriminator: Folder of the base GAN, for arms that start from its discriminator.
        device: `cpu` or `cuda`.
        others: What the same arms gave on other splits of the images; the verdict is about all.
        progress: Told of the images trained on, over all fits.

    Raises:
        SettingsError: Unknown arms, none without synthetic images, a user's own that fails, or one
            that starts from a discriminator which is not kept; a classifier that cannot be used, or
            arms that it cannot follow.
        ModelError: That discriminator is damaged, or of images of another shape.
        DatasetError: There are no training or no test images.
        TrainingError: A training process was killed or failed.
    """
    for part, name in ((train, "training"), (test, "test")):
        if not len(part):
            raise DatasetError(f"there are no {name} images to evaluate with; look at `split.test_share`")
    ground = Ground(
        train, synthetic, test, tuple(wanted), config, folder, discriminator, device, calibration=calibration
    )
    arms = _usable_arms(ground)
    ground, arms, notes = _with_classifier(ground, arms)
    tuned = Tuned(
        "strong" if config.augment == "auto" else config.augment,
        0.25 if config.synthetic_share == "auto" else config.synthetic_share,
    )
    asked, unit = asked_of(ground, arms, tuned), 64 * ground.steps
    first, second = in_parts(progress, [asked.fits * unit, len(arms) * config.chosen_seeds * unit])
    if asked.fits:
        tuned = tune(ground, asked, tuned, first)
    known = {arm.name: on_baseline(arm, tuned.baseline) for arm in arms}
    # Each split chooses its own baseline, so that splits share only the names that were asked for.
    named = [replace(arm, name=asked) if others else arm for asked, arm in known.items()]
    entries = [Entry(arm, tuned.share, tuned.strength) for arm in {arm.name: arm for arm in named}.values()]
    [by_arm] = measure([ground], entries, config.chosen_seeds, second)
    called = {asked: arm.name for asked, arm in zip(known, named, strict=True)}
    arena = _finish(by_arm, entries, called, ground, tuned, others, (checked or Checked()).with_notes(notes))
    winner = winner_of(arena.verdict)
    entry = next(one for one in entries if one.arm.name == winner)
    entry = replace(entry, arm=known.get(winner, entry.arm))
    _write_winner(entry, by_arm[winner], arena, ground)
    return arena


def _write_winner(entry: Entry, outcomes: Sequence[Outcome], arena: Arena, ground: Ground) -> None:
    recipe = entry.arm.recipe(
        ground.train,
        ground.synthetic,
        ground.wanted,
        synthetic_share=entry.share,
        strength=entry.strength,
        flips=ground.config.flips,
    )
    offsets = np.stack([one.offsets for one in outcomes]).mean(0)
    if offsets.any():
        recipe = replace(recipe, decision_offsets=offsets)
    write_winner(
        ground.folder / RECIPE_FOLDER,
        entry.arm,
        recipe,
        ground.train,
        ground.synthetic,
        steps=ground.steps,
        verdict=arena.verdict,
        classifier=ground.classifier.name,
    )


def _with_classifier(ground: Ground, arms: Sequence[Arm]) -> tuple[Ground, list[Arm], tuple[str, ...]]:
    """The ground with the chosen classifier, the arms that it can follow, and what the verdict is to note."""
    train = ground.train
    height, width, channels = train.images.shape[1:]
    choice = choose(ground.config, (height, width, channels), len(train.class_names))
    arms, notes = usable(
        choice,
        arms,
        lambda arm: arm.recipe(train, ground.synthetic, ground.wanted),
        is_auto=ground.config.arms == "auto",
    )
    return replace(ground, classifier=choice), arms, notes


def _usable_arms(ground: Ground) -> list[Arm]:
    """The arms asked for that these data allow.

    A user's own is built once here: what is wrong with it shows before anything is trained, and
    so does whether it takes synthetic images.
    """
    arms = find_arms(arm_names(ground.config, has_start=has_discriminator(ground.discriminator)))
    if all(arm.has_synthetic for arm in arms):
        raise SettingsError(
            ["evaluate.arms: none is without synthetic images; add 'oversampling+albumentations'"]
        )
    check(ground.config, arms)
    own = {
        arm.name: arm.recipe(ground.train, ground.synthetic, ground.wanted).has_synthetic(len(ground.train))
        for arm in arms
        if arm.function
    }
    arms = [replace(arm, synthetic="own") if own.get(arm.name) else arm for arm in arms]
    return [arm for arm in arms if len(ground.synthetic) or not arm.has_synthetic]


def _finish(
    by_arm: Mapping[str, list[Outcome]],
    entries: Sequence[Entry],
    called: Mapping[str, str],
    ground: Ground,
    tuned: Tuned,
    others: Sequence[SplitResult],
    checked: Checked,
) -> Arena:
    """Score the fits, judge them together with other splits, and write what the folder is to hold."""
    test, folder = ground.test, ground.folder
    stacked = {arm: np.stack([one.probability for one in outcomes]) for arm, outcomes in by_arm.items()}
    has_synthetic = len(ground.synthetic) > 0
    nothing = "no arm with synthetic images was asked for" if has_synthetic else checked.nothing
    own = SplitResult(test.index, stacked, pd.DataFrame(), pd.DataFrame(), called)
    known = {entry.arm.name: entry.arm for entry in entries}
    # Another split may have kept synthetic images where this one has none.
    known |= {name: make_arm(name) for one in others for name in one.probability if name not in known}
    without = {arm.name: without_synthetic(arm) for arm in known.values() if arm.has_synthetic}
    pooled = pool([own, *others], test.class_names, without)
    verdict = judge(
        pooled.probability,
        pooled.test,
        ground.wanted,
        ground.config,
        arms=[known[name] for name in pooled.probability],
        nothing=nothing,
        chosen="" if others else tuned.arm or "",
    )
    chosen = [tuned.note] if tuned.scores else []
    notes = (*verdict.notes, *pooled.notes, *chosen, *checked.notes)
    verdict = replace(verdict, notes=notes, label_rates=checked.label_rates)
    scores, tables_, confused = [], [], []
    labels, train_counts = test.class_ids, ground.train.counts()
    for arm, outcomes in by_arm.items():
        matched = matched_recall(labels, stacked[arm], stacked[verdict.before], ground.wanted)
        for seed, outcome in enumerate(outcomes):
            probability, seconds = outcome.probability, outcome.seconds
            values = score(labels, probability, ground.wanted, train_counts=train_counts)
            scores.append(
                {"arm": arm, "seed": seed, **values, "matched_rare_recall": matched[seed], "seconds": seconds}
            )
            table = score_classes(labels, probability, test.class_names)
            tables_.append(table.assign(arm=arm, seed=seed)[["arm", "seed", *table.columns]])
            pairs = confusion(labels, probability, test.class_names)
            confused.append(pairs.assign(arm=arm, seed=seed)[["arm", "seed", *pairs.columns]])
    own = replace(own, scores=pd.DataFrame(scores), per_class=pd.concat(tables_, ignore_index=True))
    own.save(folder)
    pd.concat(confused, ignore_index=True).to_parquet(folder / CONFUSION_FILE, index=False)
    arena = Arena(*tables([own, *others]), verdict)
    arena.scores.to_parquet(folder / SCORES_FILE, index=False)
    arena.per_class.to_parquet(folder / PER_CLASS_FILE, index=False)
    text = json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False)
    (folder / "verdict.json").write_text(text, encoding="utf-8")
    return arena
