"""The GANs of a run: the base on all classes, and one for each class that wants its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ganaug.config import TrainConfig
from ganaug.dataset import Images, LabelledImages
from ganaug.errors import TrainingError
from ganaug.progress import Progress, silent
from ganaug.training.device import resolve_device
from ganaug.training.distributed import rank_and_size
from ganaug.training.games import Reals, hold_out, make_game
from ganaug.training.judge import Judge, load_recognisers
from ganaug.training.launch import train_together
from ganaug.training.loop import train
from ganaug.training.networks import NETWORKS, load_spec
from ganaug.training.networks.conditioning import NetworkSpec
from ganaug.training.networks.presets import Preset, resolve
from ganaug.training.players import (
    HELD_OUT_FILE,
    Players,
    finish_generator,
    leave,
    leave_discriminator,
    leave_players,
    make_players,
    read_summary,
    take_up_players,
)

BASE_EXAMS, CLASS_EXAMS = 10, 4
"""Examinations after the one before the first step."""


def train_base(
    train_data: LabelledImages,
    config: TrainConfig,
    folder: Path,
    *,
    classifiers: Path | None = None,
    unlabelled: Images | None = None,
    start: Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train one conditional GAN on all classes.

    A call that was killed and is made again goes on from the last checkpoint in `folder`.

    Args:
        train_data: Real training images.
        config: The training settings.
        folder: Gets `generator.safetensors`, `network.json`, `curves.parquet`, `held_out.npy`,
            `players.safetensors` (for specialists to go on from) and `summary.json`; and
            `discriminator.safetensors` where `keep_discriminator` is set.
        classifiers: Folder of the screening classifiers, which the samples are examined with;
            without, only pixels are.
        unlabelled: (M, H, W, C) uint8 real images of unknown class; used by `sgan`.
        start: Folder of an earlier base of the same classes, whose weights it goes on from, for as many
            steps as a class's own GAN is given; None trains from nothing.
        device: `auto`, `cpu` or `cuda`.
        progress: Told the images done and to do.

    Returns:
        The summary: recipe and why, resolved settings, steps, seconds, images per second,
        findings, the best step and its scores.

    Raises:
        DeviceError: `cuda` was asked for and is not there.
        SettingsError: Settings that do not go together.
        TrainingError: There is nothing to learn from, or training diverged again and again.
    """
    done = read_summary(folder)
    if done is not None:
        return done
    if config.processes > rank_and_size()[1]:
        return train_together(
            train_data,
            config,
            folder,
            classifiers=classifiers,
            unlabelled=unlabelled,
            start=start,
            device=device,
            progress=progress,
        )
    table = _lay(train_data, config, device, classifiers)
    if start is not None:
        table = _knowing(table)
    spec = _spec(table, table.reals.class_ids)
    steps = table.preset.steps if start is None else table.preset.class_steps
    players = make_players(spec, table.preset, config.seed, table.device)
    if start is not None:
        take_up_players(players, start)
    game = make_game(
        NETWORKS[spec.network].kind,
        table.reals,
        table.preset,
        held_out=table.held_out_reals,
        unlabelled=unlabelled if table.preset.conditioning == "classes" else None,
    )
    judge = table.judge(spec, spec.class_ids, steps, BASE_EXAMS)
    folder.mkdir(parents=True, exist_ok=True)
    train(players, game, config, steps, folder, watch=judge, progress=progress)
    players.take_kept()
    if rank_and_size()[0] == 0:
        np.save(folder / HELD_OUT_FILE, table.held_out_rows)
    return _finish(table, players, spec, spec.class_ids, folder)


def train_class(
    train_data: LabelledImages,
    class_id: int,
    base: Path | None,
    classifiers: Path | None,
    config: TrainConfig,
    folder: Path,
    *,
    start: Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a GAN for one class: from the base, with half of the draws, or from nothing.

    At a few steps, before the first too, the class is scored on the training side (see
    `judge.py`); the best of these becomes the class's generator, so that by that score it is
    never worse than the base it went on from.

    Args:
        train_data: Real training images, of all classes.
        class_id: The class that gets its own generator.
        base: Folder that `train_base` left; None trains on the class's own images alone.
        classifiers: Folder of the screening classifiers.
        config: The training settings.
        folder: Gets the same files as the base's, without the list of held-out images.
        start: Folder of an earlier GAN of this class, with the same base or none, whose weights it goes
            on from; None goes on from the base, or from nothing.
        device: `auto`, `cpu` or `cuda`.
        progress: Told the images done and to do.

    Returns:
        The summary of `train_base` with `class_id`.

    Raises:
        DeviceError: `cuda` was asked for and is not there.
        ModelError: The base is missing or damaged.
        SettingsError: Settings that do not go together.
        TrainingError: Training diverged again and again.
    """
    done = read_summary(folder)
    if done is not None:
        return done
    if config.processes > rank_and_size()[1]:
        return train_together(
            train_data,
            config,
            folder,
            class_id=class_id,
            base=base,
            classifiers=classifiers,
            start=start,
            device=device,
            progress=progress,
        )
    table = _lay(train_data, config, device, classifiers, only=None if base else class_id)
    # The class id is part of the seed: two classes with the same draws would be no two trials.
    seed = config.seed + 1000 * (class_id + 1)
    goes_on_from = start or base
    if goes_on_from is not None:
        table = _knowing(table)
    if base is None:
        spec, focus = _spec(table, (class_id,)), None
    else:
        spec, focus = load_spec(base), table.reals.class_ids.index(class_id)
    players = make_players(spec, table.preset, seed, table.device)
    if goes_on_from is None:
        steps, exams = table.preset.steps, BASE_EXAMS
    else:
        steps, exams = table.preset.class_steps, CLASS_EXAMS
        take_up_players(players, goes_on_from)
    kind = NETWORKS[spec.network].kind
    game = make_game(kind, table.reals, table.preset, held_out=table.held_out_reals, focus=focus)
    judge = table.judge(spec, (class_id,), steps, exams)
    folder.mkdir(parents=True, exist_ok=True)
    train(players, game, config, steps, folder, watch=judge, progress=progress)
    players.take_kept()
    return _finish(table, players, spec, (class_id,), folder, class_id=class_id)


@dataclass(frozen=True)
class _Table:
    """What a GAN is trained with: the images, parted and on the device, and the numbers."""

    recipe: str
    why: str
    preset: Preset
    device: str
    train: LabelledImages
    held_out: LabelledImages
    held_out_rows: Any
    reals: Reals
    held_out_reals: Reals
    classifiers: Path | None
    seed: int
    keeps_discriminator: bool

    def judge(self, spec: NetworkSpec, class_ids: Sequence[int], steps: int, exams: int) -> Judge:
        """The judge of these classes."""
        return Judge(
            load_recognisers(self.classifiers, self.device),
            self.train,
            self.held_out,
            self.reals,
            class_ids,
            spec,
            steps=steps,
            exams=exams,
            seed=self.seed,
        )


def _lay(
    train_data: LabelledImages,
    config: TrainConfig,
    device: str,
    classifiers: Path | None,
    only: int | None = None,
) -> _Table:
    device = resolve_device(device)
    if only is not None:
        train_data = train_data.take(np.flatnonzero(train_data.class_ids == only))
    if not len(train_data):
        raise TrainingError("there are no training images to learn from; look at the split's counts")
    _, height, width, channels = train_data.images.shape
    recipe, why, preset = resolve(config, (height, width, channels), len(train_data), device)
    seen, held_out, rows = hold_out(train_data, config.held_out, config.seed)
    return _Table(
        recipe,
        why,
        preset,
        device,
        seen,
        held_out,
        rows,
        Reals(seen, device),
        Reals(held_out, device),
        classifiers,
        config.seed,
        config.keep_discriminator,
    )


def _knowing(table: _Table) -> _Table:
    """The same, for networks that know the classes already."""
    return replace(table, preset=replace(table.preset, is_transitional=False))


def _spec(table: _Table, class_ids: tuple[int, ...]) -> NetworkSpec:
    preset = table.preset
    _, height, width, channels = table.train.images.shape
    return NetworkSpec(
        preset.network,
        (int(height), int(width), int(channels)),
        class_ids,
        preset.z_dim,
        preset.width,
        conditioning=preset.conditioning,  # type: ignore[arg-type]
        unconditional_px=preset.unconditional_px,
    )


def _finish(
    table: _Table,
    players: Players,
    spec: NetworkSpec,
    class_ids: tuple[int, ...],
    folder: Path,
    **more: Any,
) -> dict[str, Any]:
    """Leave what later steps read."""
    notes = players.notes
    seconds = max(notes["seconds"], 1e-9)
    summary = {
        "recipe": table.recipe,
        "why": table.why,
        "device": table.device,
        "steps": players.step,
        "seconds": round(seconds, 2),
        "images_per_s": round(players.step * players.preset.batch / seconds, 1),
        "stopped": notes.get("stopped", ""),
        "best_step": notes.get("best_step", players.step),
        "findings": notes["findings"],
        "exams": notes["exams"],
        "settings": asdict(players.preset),
        **more,
    }
    if rank_and_size()[0] == 0:
        leave_players(players, folder)
        generator = finish_generator(spec, players.average, table.reals, class_ids, table.seed)
        if table.keeps_discriminator:
            leave_discriminator(players, spec, folder)
        leave(folder, generator, players, summary)
    return summary
