"""The arena: trains a classifier per arm and seed and scores it on the locked real test images.

What a fit leaves is a file under `fits/`, named by all that went into it: a run that was killed,
or that is asked for one arm more, trains only what is not there yet.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ganaug.arms import Arm, arm_names, check_starts, find_arms
from ganaug.config import EvaluateConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, ModelError, SettingsError
from ganaug.evaluate import Arena, judge
from ganaug.own_arm import code_digest
from ganaug.progress import Progress, silent
from ganaug.run import sha256_file
from ganaug.scores import recall_at_precision, score, score_classes
from ganaug.training.classifier import auto_steps
from ganaug.training.discriminator_start import load_discriminator
from ganaug.training.fits import Fit, Floats, read_fit, train_fits
from ganaug.training.players import DISCRIMINATOR_FILE
from ganaug.training.winner import winner_of, write_winner

FITS, DATA, RECIPE_FOLDER = "fits", "data", "recipe"
_CODE = 2
"""Part of every fit's name; raised when training changes, so that older files are not taken."""


@dataclass(frozen=True)
class Entry:
    """An arm as it is trained: with what the settings or the tuning chose for it."""

    arm: Arm
    share: float
    strength: str


@dataclass(frozen=True)
class Ground:
    """What all arms of one comparison share.

    Attributes:
        train: Real training images.
        synthetic: Synthetic images; may be empty.
        test: Real images that are scored.
        wanted: Class ids that the plan wants more of.
        config: How classifiers are trained.
        folder: Gets `fits/`.
        discriminator: Folder of the base GAN, for arms that start from its discriminator.
        device: `cpu` or `cuda`.
    """

    train: LabelledImages
    synthetic: LabelledImages
    test: LabelledImages
    wanted: tuple[int, ...]
    config: EvaluateConfig
    folder: Path
    discriminator: Path | None = None
    device: str = "cpu"

    @property
    def steps(self) -> int:
        """Training steps of each classifier."""
        return auto_steps(len(self.train)) if self.config.steps == "auto" else self.config.steps


def run_arena(
    train: LabelledImages,
    synthetic: LabelledImages,
    test: LabelledImages,
    wanted: Sequence[int],
    config: EvaluateConfig,
    folder: Path,
    *,
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
    share = 0.25 if config.synthetic_share == "auto" else config.synthetic_share
    strength = "strong" if config.augment == "auto" else config.augment
    entries = [Entry(arm, share, strength) for arm in _usable_arms(ground)]
    by_arm = measure(ground, entries, config.chosen_seeds, progress)
    arena = _finish(by_arm, [entry.arm for entry in entries], ground)
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


def measure(
    ground: Ground, entries: Sequence[Entry], n_seeds: int, progress: Progress = silent
) -> dict[str, list[tuple[Floats, float]]]:
    """Train every arm with every seed.

    Args:
        ground: What they share.
        entries: The arms; their names differ.
        n_seeds: Seeds 0, 1, ...
        progress: Told of the images trained on, over all fits.

    Returns:
        Per arm, and per seed: (N, K) probabilities of the test images, and seconds.
    """
    start = _start_digest(
        [entry.arm for entry in entries], ground.discriminator, ground.train.images.shape[1:]
    )
    # Where a run was killed its data lies here still; it is written anew, whatever it was.
    data = ground.folder / FITS / DATA
    _write_data(data, ground)
    key = _key(ground)
    fits = {
        entry.arm.name: [
            Fit(
                entry.arm,
                seed,
                data,
                _target(
                    ground.folder, entry, seed, [key[entry.arm.has_synthetic], *_own_key(entry.arm, start)]
                ),
                ground.wanted,
                entry.share,
                entry.strength,
                ground.config.flips,
                ground.steps,
                ground.device,
                ground.discriminator,
            )
            for seed in range(n_seeds)
        ]
        for entry in entries
    }
    # Seeds outside, arms inside: a run that is stopped early has something of every arm.
    by_seed = [one for of_seed in zip(*fits.values(), strict=True) for one in of_seed]
    train_fits(by_seed, ground.config.workers, progress)
    shutil.rmtree(data)
    return {name: [read_fit(one.target) for one in own] for name, own in fits.items()}


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


def _key(ground: Ground) -> dict[bool, str]:
    """What determines a fit beside arm and seed, hashed; with and without synthetic images."""
    plain = hashlib.sha256(f"{_CODE} {ground.steps} {ground.device} {ground.config.flips}".encode())
    for part in (ground.train, ground.test):
        _hash_images(plain, part)
    with_synthetic = plain.copy()
    with_synthetic.update(f"{sorted(ground.wanted)}".encode())
    _hash_images(with_synthetic, ground.synthetic)
    return {False: plain.hexdigest()[:16], True: with_synthetic.hexdigest()[:16]}


def _own_key(arm: Arm, start: str) -> list[str]:
    return [start if arm.start != "nothing" else "", code_digest(arm.function) if arm.function else ""]


def _hash_images(into: Any, part: LabelledImages) -> None:
    into.update(f"{part.images.shape} {part.class_names}".encode())
    into.update(part.class_ids.tobytes())
    for start in range(0, len(part), 4096):
        into.update(np.ascontiguousarray(part.images[start : start + 4096]).data)


def _start_digest(arms: Sequence[Arm], folder: Path | None, image_shape: tuple[int, ...]) -> str:
    """Hash of the discriminator that arms start from, which is read once to be sure of it."""
    path = folder / DISCRIMINATOR_FILE if folder is not None else None
    check_starts(arms, is_kept=path is not None and path.is_file())
    if path is None or all(arm.start == "nothing" for arm in arms):
        return ""
    shape = load_discriminator(path.parent).image_shape
    if shape != image_shape:
        raise ModelError(
            f"{path} was trained on images of {shape}, these are {tuple(image_shape)}; train again"
        )
    return sha256_file(path)


def _target(folder: Path, entry: Entry, seed: int, key: Sequence[str]) -> Path:
    arm = entry.arm
    used = (entry.strength if arm.is_augmented else "", entry.share if arm.synthetic == "share" else "")
    # How an arm is described is no part of what it trains.
    own = hashlib.sha256(json.dumps([asdict(replace(arm, meaning="")), *used, *key]).encode()).hexdigest()[
        :16
    ]
    slug = "".join(letter if letter.isalnum() else "-" for letter in arm.name)
    return folder / FITS / f"{slug}-seed{seed}-{own}.npz"


def _write_data(data: Path, ground: Ground) -> None:
    """Images go to the processes as files that they map, not through pipes."""
    shutil.rmtree(data, ignore_errors=True)
    names = ground.train.class_names
    for name, part in (("train", ground.train), ("synthetic", ground.synthetic), ("test", ground.test)):
        # A user's own arm is given all that the index says, of training images.
        index = part.index if name == "train" else pd.DataFrame({"class_id": part.class_ids})
        LabelledImages(part.images, index, names).save(data / name)


def _finish(by_arm: Mapping[str, list[tuple[Floats, float]]], arms: Sequence[Arm], ground: Ground) -> Arena:
    """Score the fits, judge, and write what the folder is to hold."""
    test, folder = ground.test, ground.folder
    stacked = {arm: np.stack([one for one, _ in fits]) for arm, fits in by_arm.items()}
    has_synthetic = len(ground.synthetic) > 0
    nothing = (
        "no arm with synthetic images was asked for" if has_synthetic else "no synthetic images were kept"
    )
    verdict = judge(stacked, test, ground.wanted, ground.config, arms=arms, nothing=nothing)
    precision = np.nan if verdict.rare_precision is None else verdict.rare_precision
    labels, scores, tables = test.class_ids, [], []
    train_counts = ground.train.counts()
    for arm, fits in by_arm.items():
        for seed, (probability, seconds) in enumerate(fits):
            values = score(labels, probability, ground.wanted, train_counts=train_counts)
            matched = recall_at_precision(labels, probability, ground.wanted, precision)
            scores.append(
                {"arm": arm, "seed": seed, **values, "matched_rare_recall": matched, "seconds": seconds}
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
