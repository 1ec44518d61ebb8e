"""Training arms: every arm with every seed, on one set of training and of scored images.

What a fit leaves is a file under `fits/`, named by all that went into it: a run that was killed,
or that is asked for one arm more, trains only what is not there yet.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ganaug.arms import Arm, check_starts
from ganaug.config import EvaluateConfig
from ganaug.dataset import ClassIds, LabelledImages
from ganaug.errors import ModelError
from ganaug.own_arm import code_digest
from ganaug.own_classifier import identity
from ganaug.progress import Progress, silent
from ganaug.run import sha256_file
from ganaug.training.classifier import auto_steps
from ganaug.training.classifiers.choice import SMALL_CNN, Choice
from ganaug.training.discriminator_start import has_discriminator, load_discriminator
from ganaug.training.fits import Fit, Floats, read_fit, train_fits
from ganaug.training.players import DISCRIMINATOR_FILE

FITS = "fits"
LEAST_STEPS = 900
"""Fewest training steps of a classifier where the settings name none, the same for every arm. With 420 on
the digits, oversampling with albumentations was not learnt to the end, and lost to what learns sooner."""
_CODE = 2
"""Part of every fit's name; raised when training changes, so that older files are not taken."""


@dataclass(frozen=True)
class Entry:
    """An arm as it is trained: with what the settings or the tuning chose for it."""

    arm: Arm
    share: float
    strength: str

    @property
    def trained(self) -> Entry:
        """What is trained of it, with all that makes a difference there and no name: of equals, one is trained.

        >>> from ganaug.arms import make_arm
        >>> named = Entry(make_arm("oversampling+strong albumentations+thresholds on folds"), 0.1, "light")
        >>> named.trained == Entry(make_arm("oversampling+albumentations"), 0.25, "strong").trained
        True
        """
        arm = self.arm
        strength = (arm.strength or self.strength) if arm.is_augmented else ""
        share = self.share if arm.synthetic == "share" else 0.0
        return Entry(replace(arm, name="", meaning="", thresholds="none", strength=strength), share, strength)


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
        classifier: What is trained.
        calibration: Synthetic images on which `thresholds on synthetic` are chosen; None takes `synthetic`.
        used_on: (K,) images per class where the classifiers will be used; None: as in `test`.
    """

    train: LabelledImages
    synthetic: LabelledImages
    test: LabelledImages
    wanted: tuple[int, ...]
    config: EvaluateConfig
    folder: Path
    discriminator: Path | None = None
    device: str = "cpu"
    classifier: Choice = SMALL_CNN
    calibration: LabelledImages | None = None
    used_on: ClassIds | None = None

    @property
    def prevalence(self) -> ClassIds:
        """(K,) how common each class is where the classifiers will be used, in any unit."""
        return self.test.counts() if self.used_on is None else self.used_on

    @property
    def steps(self) -> int:
        """Training steps of each classifier."""
        if self.config.steps != "auto":
            return self.config.steps
        return max(auto_steps(len(self.train)), LEAST_STEPS)


@dataclass(frozen=True)
class Job:
    """Arms to train on one ground.

    Attributes:
        ground: What they share.
        entries: The arms; their names differ.
        n_seeds: Each with seeds 0, 1, ...
    """

    ground: Ground
    entries: Sequence[Entry]
    n_seeds: int


Fits = dict[str, list[tuple[Floats, float]]]
"""Per arm and seed: (N, K) probabilities of the scored images, and seconds."""


def train_all(jobs: Sequence[Job], progress: Progress = silent) -> list[Fits]:
    """Do jobs side by side.

    Args:
        jobs: With the same settings.
        progress: Told of the images trained on, over all fits.

    Returns:
        What each job gave.
    """
    asked = [_fits(job) if job.entries else {} for job in jobs]
    # Seeds outside, arms inside: a run that is stopped early has something of every arm.
    by_seed = [one for fits in asked for of_seed in zip(*fits.values(), strict=True) for one in of_seed]
    train_fits(by_seed, jobs[0].ground.config.workers, progress)
    for data in {one.data for one in by_seed}:
        shutil.rmtree(data)
    return [{name: [read_fit(one.target) for one in own] for name, own in fits.items()} for fits in asked]


def _fits(job: Job) -> dict[str, list[Fit]]:
    """Per arm, the fit of each seed; their data is written."""
    ground = job.ground
    start = _start_digest(
        [entry.arm for entry in job.entries], ground.discriminator, ground.train.images.shape[1:]
    )
    key = _key(ground)
    # Where a run was killed its data lies here still; it is written anew, whatever it was.
    data = ground.folder / FITS / f"data-{key[True]}"
    _write_data(data, ground)
    return {
        entry.arm.name: [
            Fit(
                entry.arm,
                seed,
                data,
                _target(
                    ground.folder,
                    entry,
                    seed,
                    [key[entry.arm.has_synthetic], *_own_key(entry.arm, start, ground)],
                ),
                ground.wanted,
                entry.share,
                entry.strength,
                ground.config.flips,
                ground.steps,
                ground.device,
                ground.discriminator,
                ground.classifier,
            )
            for seed in range(job.n_seeds)
        ]
        for entry in job.entries
    }


def _key(ground: Ground) -> dict[bool, str]:
    """What determines a fit beside arm and seed, hashed; with and without synthetic images."""
    plain = hashlib.sha256(f"{_CODE} {ground.steps} {ground.device} {ground.config.flips}".encode())
    plain.update(json.dumps(identity(ground.classifier.name)).encode())
    for part in (ground.train, ground.test):
        _hash_images(plain, part)
    with_synthetic = plain.copy()
    with_synthetic.update(f"{sorted(ground.wanted)}".encode())
    _hash_images(with_synthetic, ground.synthetic)
    return {False: plain.hexdigest()[:16], True: with_synthetic.hexdigest()[:16]}


def _own_key(arm: Arm, start: str, ground: Ground) -> list[str]:
    """What determines this arm's fits alone: the weights it starts from, or code and index of a user's own."""
    own = [start if arm.start != "nothing" else ""]
    if arm.function:
        parts = (ground.train.index, ground.synthetic.index)
        own += [code_digest(arm.function), *(part.to_json(orient="split") for part in parts)]
    return own


def _hash_images(into: Any, part: LabelledImages) -> None:
    into.update(f"{part.images.shape} {part.class_names}".encode())
    into.update(part.class_ids.tobytes())
    for start in range(0, len(part), 4096):
        into.update(np.ascontiguousarray(part.images[start : start + 4096]).data)


def _start_digest(arms: Sequence[Arm], folder: Path | None, image_shape: tuple[int, ...]) -> str:
    """Hash of the discriminator that arms start from, which is read once to be sure of it."""
    check_starts(arms, is_kept=has_discriminator(folder))
    if folder is None or all(arm.start == "nothing" for arm in arms):
        return ""
    path, shape = folder / DISCRIMINATOR_FILE, load_discriminator(folder).image_shape
    if shape != image_shape:
        raise ModelError(
            f"{path} was trained on images of {shape}, these are {tuple(image_shape)}; train again"
        )
    return sha256_file(path)


def _target(folder: Path, entry: Entry, seed: int, key: Sequence[str]) -> Path:
    trained = entry.trained
    own = hashlib.sha256(json.dumps([asdict(trained), *key]).encode()).hexdigest()[:16]
    return folder / FITS / f"{_slug(trained.arm)}-seed{seed}-{own}.npz"


def _slug(arm: Arm) -> str:
    """What is trained, in words for a file's name.

    >>> from ganaug.arms import make_arm
    >>> _slug(make_arm("oversampling+strong albumentations+mixup")), _slug(make_arm("real"))
    ('oversample-strong-mixup', 'real')
    """
    parts = (arm.balance, arm.strength, arm.mixing, arm.synthetic, arm.start, arm.function)
    words = [part for part in parts if part not in {"", "none", "nothing"}]
    return "".join(letter if letter.isalnum() else "-" for letter in "-".join(words) or "real")


def _write_data(data: Path, ground: Ground) -> None:
    """Images go to the processes as files that they map, not through pipes."""
    shutil.rmtree(data, ignore_errors=True)
    names = ground.train.class_names
    for name, part in (("train", ground.train), ("synthetic", ground.synthetic), ("test", ground.test)):
        # A user's own arm is given all that the index says, but not of test images.
        index = pd.DataFrame({"class_id": part.class_ids}) if name == "test" else part.index
        LabelledImages(part.images, index, names).save(data / name)
