"""The arena: what each arm scores on the locked real test images, the verdict, and the winner's recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ganaug.arms import Arm, arm_names, find_arms
from ganaug.config import EvaluateConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, SettingsError
from ganaug.evaluate import Arena, judge
from ganaug.progress import Progress, in_parts, silent
from ganaug.refusal import Checked
from ganaug.scores import matched_recall, score, score_classes
from ganaug.training.contest import Entry, Ground, measure
from ganaug.training.fits import Floats
from ganaug.training.tuning import Tuned, asked_of, tune
from ganaug.training.winner import winner_of, write_winner

RECIPE_FOLDER = "recipe"


def run_arena(
    train: LabelledImages,
    synthetic: LabelledImages,
    test: LabelledImages,
    wanted: Sequence[int],
    config: EvaluateConfig,
    folder: Path,
    *,
    checked: Checked | None = None,
    discriminator: Path | None = None,
    device: str = "cpu",
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
        folder: Gets `scores.parquet`, `per_class.parquet`, `predictions.npz` (`probability`
            (arms, seeds, N, K) float16, `labels`, `arms`, `seeds`) and `verdict.json`;
            `recipe/`, the training set that did best, for use without ganaug; and `fits/`, from
            which a killed run goes on.
        checked: What was found of the synthetic images before, for the verdict to say; why there are
            none, where there are none.
        discriminator: Folder of the base GAN, for arms that start from its discriminator.
        device: `cpu` or `cuda`; on a GPU one classifier is trained at a time, in this process.
        progress: Told of the images trained on, over all fits.

    Raises:
        SettingsError: Unknown arms, none without synthetic images, a user's own that fails, or one
            that starts from a discriminator which is not kept.
        ModelError: That discriminator is damaged, or of images of another shape.
        DatasetError: There are no training or no test images.
        TrainingError: A training process was killed or failed.
    """
    for part, name in ((train, "training"), (test, "test")):
        if not len(part):
            raise DatasetError(f"there are no {name} images to evaluate with; look at `split.test_share`")
    ground = Ground(train, synthetic, test, tuple(wanted), config, folder, discriminator, device)
    arms = _usable_arms(ground)
    tuned = Tuned(
        "strong" if config.augment == "auto" else config.augment,
        0.25 if config.synthetic_share == "auto" else config.synthetic_share,
    )
    asked, unit = asked_of(ground, arms, tuned), 64 * ground.steps
    first, second = in_parts(progress, [asked.fits * unit, len(arms) * config.chosen_seeds * unit])
    if asked.fits:
        tuned = tune(ground, asked, tuned, first)
    entries = [Entry(arm, tuned.share, tuned.strength) for arm in arms]
    by_arm = measure(ground, entries, config.chosen_seeds, second)
    arena = _finish(by_arm, arms, ground, tuned, checked or Checked())
    _write_winner(
        next(entry for entry in entries if entry.arm.name == winner_of(arena.verdict)), arena, ground
    )
    return arena


def _write_winner(entry: Entry, arena: Arena, ground: Ground) -> None:
    recipe = entry.arm.recipe(
        ground.train,
        ground.synthetic,
        ground.wanted,
        synthetic_share=entry.share,
        strength=entry.strength,
        flips=ground.config.flips,
    )
    write_winner(
        ground.folder / RECIPE_FOLDER,
        entry.arm,
        recipe,
        ground.train,
        ground.synthetic,
        steps=ground.steps,
        verdict=arena.verdict,
    )


def _usable_arms(ground: Ground) -> list[Arm]:
    """The arms asked for that these data allow.

    A user's own is built once here: what is wrong with it shows before anything is trained, and
    so does whether it takes synthetic images.
    """
    arms = find_arms(arm_names(ground.config))
    if all(arm.has_synthetic for arm in arms):
        raise SettingsError(
            ["evaluate.arms: none is without synthetic images; add 'oversampling+albumentations'"]
        )
    own = {
        arm.name: arm.recipe(ground.train, ground.synthetic, ground.wanted).has_synthetic(len(ground.train))
        for arm in arms
        if arm.function
    }
    arms = [replace(arm, synthetic="own") if own.get(arm.name) else arm for arm in arms]
    return [arm for arm in arms if len(ground.synthetic) or not arm.has_synthetic]


def _finish(
    by_arm: Mapping[str, list[tuple[Floats, float]]],
    arms: Sequence[Arm],
    ground: Ground,
    tuned: Tuned,
    checked: Checked,
) -> Arena:
    """Score the fits, judge, and write what the folder is to hold."""
    test, folder = ground.test, ground.folder
    stacked = {arm: np.stack([one for one, _ in fits]) for arm, fits in by_arm.items()}
    has_synthetic = len(ground.synthetic) > 0
    nothing = "no arm with synthetic images was asked for" if has_synthetic else checked.nothing
    verdict = judge(
        stacked, test, ground.wanted, ground.config, arms=arms, nothing=nothing, chosen=tuned.arm or ""
    )
    notes = (*verdict.notes, *([tuned.note] if tuned.scores else []), *checked.notes)
    verdict = replace(verdict, notes=notes, label_rates=checked.label_rates)
    labels, scores, tables = test.class_ids, [], []
    train_counts = ground.train.counts()
    for arm, fits in by_arm.items():
        matched = matched_recall(labels, stacked[arm], stacked[verdict.before], ground.wanted)
        for seed, (probability, seconds) in enumerate(fits):
            values = score(labels, probability, ground.wanted, train_counts=train_counts)
            scores.append(
                {"arm": arm, "seed": seed, **values, "matched_rare_recall": matched[seed], "seconds": seconds}
            )
            table = score_classes(labels, probability, test.class_names)
            tables.append(table.assign(arm=arm, seed=seed)[["arm", "seed", *table.columns]])
    arena = Arena(pd.DataFrame(scores), pd.concat(tables, ignore_index=True), verdict)
    arena.scores.to_parquet(folder / "scores.parquet", index=False)
    arena.per_class.to_parquet(folder / "per_class.parquet", index=False)
    np.savez_compressed(
        folder / "predictions.npz",
        probability=np.stack(list(stacked.values())).astype(np.float16),
        labels=labels,
        arms=np.array(list(stacked)),
        seeds=np.arange(ground.config.chosen_seeds),
    )
    text = json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False)
    (folder / "verdict.json").write_text(text, encoding="utf-8")
    return arena
