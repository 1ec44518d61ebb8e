"""The GAN game: what one step does, and how steps become a trained generator.

`play_step` is the whole algorithm and `train` repeats it, with checkpoints and a look at the
losses now and then. `train_base` trains one GAN on all classes; `train_class` goes on from it
for one class and keeps the checkpoint that serves that class best.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganaug.config import TrainConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import TrainingError
from ganaug.progress import Progress, silent
from ganaug.training.device import resolve_device
from ganaug.training.games import Game, Reals, make_game
from ganaug.training.judge import load_judge
from ganaug.training.losses import LOSSES
from ganaug.training.networks import NETWORKS, load_spec
from ganaug.training.networks.conditioning import NetworkSpec
from ganaug.training.networks.presets import Preset, resolve
from ganaug.training.players import (
    Players,
    finish_generator,
    leave,
    leave_players,
    make_players,
    read_summary,
    restore_players,
    save_players,
    take_up_players,
)
from ganaug.training.regularizers import gradient_penalty

METRICS_EVERY = 50
"""Steps between looks at the losses: each look waits for the device."""

Metrics = dict[str, Tensor]
Watcher = Callable[[Players], None]
"""Looks at the players before the first step and after each one, as a class's judge does."""


def play_step(players: Players, game: Game, preset: Preset) -> Metrics:
    """Play one step: the discriminator learns, then the generator, on one batch of fakes.

    Returns:
        Scalars on the device: both losses, the penalties, and how often the discriminator
        prefers the real image.
    """
    loss, rng = LOSSES["relativistic"], players.rng
    batch = game.deal(preset.batch, rng)
    z = torch.randn(preset.batch, preset.z_dim, generator=rng, device=rng.device)
    fake = players.generator(z, batch.condition)
    real, fake, condition = game.augment(batch, fake, rng)

    # The discriminator: real above fake, with flat surroundings (R1 at reals, R2 at fakes).
    # Both go through it as one batch, which is faster than twice half of it.
    players.discriminator.requires_grad_(True)
    has_penalty = players.step % preset.penalty_every == 0
    seen = torch.cat([real, fake.detach()]).requires_grad_(has_penalty)
    logits = players.discriminator(seen, torch.cat([condition, condition]))
    real_logits, fake_logits = logits.chunk(2)
    discriminator_loss = loss.discriminator(real_logits, fake_logits)
    metrics = {
        "discriminator_loss": discriminator_loss.detach(),
        "prefers_real": (real_logits > fake_logits).float().mean(),
    }
    if has_penalty:
        r1, r2 = (part.mean() for part in gradient_penalty(logits, seen).chunk(2))
        # A penalty that comes seldom is as many times stronger.
        discriminator_loss = discriminator_loss + preset.gamma / 2 * preset.penalty_every * (r1 + r2)
        metrics |= {"r1": r1.detach(), "r2": r2.detach()}
    players.discriminator_optimizer.zero_grad(set_to_none=True)
    discriminator_loss.backward()  # type: ignore[no-untyped-call]
    players.discriminator_optimizer.step()

    # The generator: the same fakes, before the discriminator as it is now.
    players.discriminator.requires_grad_(False)
    with torch.no_grad():
        real_logits = players.discriminator(real, condition)
    generator_loss = loss.generator(real_logits, players.discriminator(fake, condition))
    players.generator_optimizer.zero_grad(set_to_none=True)
    generator_loss.backward()  # type: ignore[no-untyped-call]
    players.generator_optimizer.step()

    players.step += 1
    players.follow(preset.ema)
    return metrics | {"generator_loss": generator_loss.detach()}


def train(
    players: Players,
    game: Game,
    preset: Preset,
    steps: int,
    folder: Path,
    *,
    checkpoint_every: int,
    watch: Watcher | None = None,
    progress: Progress = silent,
) -> None:
    """Play so many steps, going on exactly from the newest checkpoint in the folder.

    Args:
        players: Freshly made; changed in place.
        game: Deals the batches.
        preset: The numbers.
        steps: Steps in all, those before a kill included.
        folder: Where the checkpoints lie.
        checkpoint_every: Steps between checkpoints.
        watch: Called before the first step and after each one.
        progress: Told the images done and to do.

    Raises:
        TrainingError: A loss was not a number twice, the second time at half the learning rate.
    """
    means = _Means()
    if not restore_players(players, folder):
        if watch is not None:
            watch(players)
        save_players(players, folder)
    started, seconds_before = time.monotonic(), players.notes["seconds"]
    while players.step < steps:
        means.add(play_step(players, game, preset))
        is_due = players.step % checkpoint_every == 0 or players.step == steps
        if is_due or players.step % METRICS_EVERY == 0:
            progress(players.step * preset.batch, steps * preset.batch)
            latest = means.take()
            if not all(map(math.isfinite, latest.values())):
                _roll_back(players, folder, latest)
                continue
            players.notes["curves"] += [[players.step, name, value] for name, value in latest.items()]
        if watch is not None:
            watch(players)
        if is_due:
            players.notes["seconds"] = seconds_before + time.monotonic() - started
            save_players(players, folder)


def train_base(
    train_data: LabelledImages,
    config: TrainConfig,
    folder: Path,
    *,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train one conditional GAN on all classes, with every class drawn equally often.

    A call that was killed and is made again goes on from the last checkpoint in `folder`.

    Args:
        train_data: Real training images.
        config: The training settings.
        folder: Gets `generator.safetensors`, `network.json`, `curves.parquet`,
            `players.safetensors` (for specialists to go on from) and `summary.json`.
        device: `auto`, `cpu` or `cuda`.
        progress: Told the images done and to do.

    Returns:
        The summary: recipe and why, resolved settings, steps, seconds, images per second.

    Raises:
        DeviceError: `cuda` was asked for and is not there.
        TrainingError: There is nothing to learn from, or training diverged twice.
    """
    done = read_summary(folder)
    if done is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    device = resolve_device(device)
    recipe, why, preset = resolve(config, _image_shape(train_data), len(train_data), device)
    reals = Reals(train_data, device)
    spec = NetworkSpec(preset.network, _image_shape(train_data), reals.class_ids, preset.z_dim, preset.width)
    players, game = (
        make_players(spec, preset, config.seed, device),
        make_game(NETWORKS[spec.network].kind, reals, preset),
    )
    train(
        players,
        game,
        preset,
        preset.steps,
        folder,
        checkpoint_every=config.checkpoint_every,
        progress=progress,
    )
    summary = {"recipe": recipe, "why": why, "device": device, **_account(players, preset)}
    leave_players(players, folder)
    generator = finish_generator(spec, players.average, reals, spec.class_ids, config.seed)
    leave(folder, generator, players, summary)
    return summary


def train_class(
    train_data: LabelledImages,
    class_id: int,
    base: Path,
    classifiers: Path,
    config: TrainConfig,
    folder: Path,
    *,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Go on from the base for one class, which gets half of the draws, and keep the best.

    At a few steps, the base as it is first, the class is scored on the training side (see
    `judge.py`); the best of these becomes the class's generator, so that by that score it is
    never worse than the base.

    Args:
        train_data: Real training images, of all classes.
        class_id: The class that gets its own generator.
        base: Folder that `train_base` left.
        classifiers: Folder of the screening classifiers.
        config: The training settings.
        folder: Gets the same files as the base's, without the players.
        device: `auto`, `cpu` or `cuda`.
        progress: Told the images done and to do.

    Returns:
        The summary of `train_base` with `scores` (per step) and `best_step`.

    Raises:
        DeviceError: `cuda` was asked for and is not there.
        ModelError: The base is missing or damaged.
        TrainingError: Training diverged twice.
    """
    done = read_summary(folder)
    if done is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    device = resolve_device(device)
    recipe, why, preset = resolve(config, _image_shape(train_data), len(train_data), device)
    reals, spec = Reals(train_data, device), load_spec(base)
    # The class id is part of the seed: two classes with the same draws would be no two trials.
    players = make_players(spec, preset, config.seed + 1000 * (class_id + 1), device)
    take_up_players(players, base)
    game = make_game(NETWORKS[spec.network].kind, reals, preset, focus=reals.class_ids.index(class_id))
    judge = load_judge(classifiers, train_data, reals, class_id, spec, preset.class_steps, config.seed)
    train(
        players,
        game,
        preset,
        preset.class_steps,
        folder,
        checkpoint_every=config.checkpoint_every,
        watch=judge,
        progress=progress,
    )
    players.average.load_state_dict(players.kept)
    summary = {"recipe": recipe, "why": why, "device": device, **_account(players, preset)}
    summary |= {
        "class_id": class_id,
        "scores": players.notes["scores"],
        "best_step": players.notes["best_step"],
    }
    generator = finish_generator(spec, players.average, reals, (class_id,), config.seed)
    leave(folder, generator, players, summary)
    return summary


class _Means:
    """Sums of metrics on the device, so that a step need not wait for their values."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, metrics: Metrics) -> None:
        for name, value in metrics.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] += 1

    def take(self) -> dict[str, float]:
        """Means since the last take."""
        means = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        self.sums, self.counts = {}, defaultdict(int)
        return means


def _roll_back(players: Players, folder: Path, means: dict[str, float]) -> None:
    """Go back to the last checkpoint at half the learning rate; a second time is one too many."""
    broken, at = sorted(name for name, value in means.items() if not math.isfinite(value)), players.step
    if players.notes["rollbacks"]:
        raise TrainingError(
            f"{' and '.join(broken)} became infinite or not a number by step {at}, again after going back "
            f"to the last checkpoint with half the learning rate ({players.learning_rate:g}). "
            f"Lower train.learning_rate (try {players.learning_rate / 4:g}) or raise train.gamma."
        )
    restore_players(players, folder)
    players.set_learning_rate(players.learning_rate / 2)
    players.notes["rollbacks"] += 1
    save_players(players, folder)


def _account(players: Players, preset: Preset) -> dict[str, Any]:
    seconds = max(players.notes["seconds"], 1e-9)
    return {
        "steps": players.step,
        "seconds": round(seconds, 2),
        "images_per_s": round(players.step * preset.batch / seconds, 1),
        "rollbacks": players.notes["rollbacks"],
        "settings": asdict(preset),
    }


def _image_shape(data: LabelledImages) -> tuple[int, int, int]:
    _, height, width, channels = data.images.shape
    return int(height), int(width), int(channels)
