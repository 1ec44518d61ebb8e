"""Training a GAN: steps, looks, examinations and checkpoints, until it is good enough or time is up.

`step.play_step` is what one step does; `train` repeats it. Now and then it looks at the losses,
more seldom the judge examines the samples (`judge.py`); what goes wrong is found and treated
(`health.py`), and the weights that scored best are kept. Which GANs are trained is in `gans.py`.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ganaug.config import TrainConfig
from ganaug.errors import TrainingError
from ganaug.progress import Progress, silent
from ganaug.training.distributed import as_the_first, average_numbers, rank_and_size, wait_for_all
from ganaug.training.games import Game, Hand
from ganaug.training.health import MOST_SHARE, Finding, adapt_share, diagnose, overfitting
from ganaug.training.judge import ClassExam
from ganaug.training.losses import LOSSES
from ganaug.training.players import Players, restore_players, save_players
from ganaug.training.step import judge as judge_images
from ganaug.training.step import opinions, play_step

LOOK_EVERY = 50
"""Steps between looks at the losses: each look waits for the device."""
AUGMENT_BY = 0.2
"""How much larger the augmented share becomes by the remedy."""
HELD_OUT_LOOK = 64
"""Held-out images that the discriminator is asked about at a look."""

Watcher = Callable[[Players], dict[int, ClassExam] | None]
"""Sees the players before the first step and after each one, as the judge does."""

log = logging.getLogger("ganaug.training")


def train(
    players: Players,
    game: Game,
    config: TrainConfig,
    steps: int,
    folder: Path,
    *,
    watch: Watcher | None = None,
    progress: Progress = silent,
) -> None:
    """Play so many steps, going on exactly from the newest checkpoint in the folder.

    Stops earlier when a budget of `config` is used up, when the score has not become better for
    `config.patience` examinations, or when the last remedy of a finding is to stop; why stands
    in `players.notes["stopped"]`.

    Args:
        players: Freshly made; changed in place.
        game: Deals the hands.
        config: Budgets, patience, how often checkpoints are written.
        steps: Steps in all, those before a kill included.
        folder: Where the checkpoints lie.
        watch: Called before the first step and after each one; the judge.
        progress: Told the images done and to do.

    Raises:
        TrainingError: Training diverged again and again, or not even one image fits the memory.
    """
    if config.max_images:
        steps = min(steps, max(1, config.max_images // players.preset.batch))
    if not restore_players(players, folder):
        if watch is not None:
            watch(players)
        _save(players, folder)
    means = _Means()
    started, seconds_before = time.monotonic(), players.notes["seconds"]
    while players.step < steps and "stopped" not in players.notes:
        if players.preset.is_transitional:
            players.condition_strength(min(max(4 * players.step / steps - 1, 0.0), 1.0))
        try:
            means.add(play_step(players, game, players.preset))
        except torch.OutOfMemoryError as error:
            _halve(players, folder, error)
            continue
        examined = watch(players) if watch is not None else None
        is_due = players.step % config.checkpoint_every == 0 or players.step == steps
        if is_due or examined is not None or players.step % LOOK_EVERY == 0:
            players.notes["seconds"] = as_the_first(seconds_before + time.monotonic() - started)
            progress(players.step * players.preset.batch, steps * players.preset.batch)
            _look(players, game, means.take())
            found = _diagnose(players, steps, is_exam=examined is not None)
            if found:
                _treat(players, found, folder, acts=config.remedies)
            elif is_due:
                _save(players, folder)
            _stop_where_enough(players, config)
    players.condition_strength(1.0)


def _diagnose(players: Players, steps: int, *, is_exam: bool) -> list[Finding]:
    done = players.step / steps
    found = diagnose(players.notes, players.step, done, at="look")
    return found + (diagnose(players.notes, players.step, done, at="exam") if is_exam else [])


def _look(players: Players, game: Game, means: dict[str, float]) -> None:
    """Note the means of the metrics, and ask the discriminator about held-out images."""
    dealt = game.deal_held_out(HELD_OUT_LOOK, players.rng, players.share)
    if dealt is not None:
        means |= _ask_about_held_out(players, *dealt)
        if players.preset.is_adaptive:
            players.share = adapt_share(players.share, means["overfitting"], players.least_share)
    means["augmented_share"] = players.share
    players.notes["curves"] += [[players.step, name, value] for name, value in means.items()]


@torch.no_grad()
def _ask_about_held_out(players: Players, hand: Hand, real: Tensor) -> dict[str, float]:
    """How the discriminator treats held-out images beside training images and fakes."""
    fake, condition = players.generator(hand.z, hand.condition), hand.seen_condition()
    real_scores, held_out_scores, fake_scores = (
        judge_images(players.discriminator, hand.augmentation.apply(images), condition)
        for images in (real, hand.real, fake)
    )
    called = opinions(held_out_scores, fake_scores, LOSSES[players.preset.loss])["called_real"]
    flat = (scores.flatten().cpu().numpy() for scores in (real_scores, held_out_scores, fake_scores))
    return {"held_out_called_real": float(called), "overfitting": overfitting(*flat)}


def _treat(players: Players, found: list[Finding], folder: Path, *, acts: bool) -> None:
    """Apply the remedies, note the findings, and save what training goes on from."""
    findings = players.notes["findings"]
    for finding in found:
        log.warning("%s", finding.sentence() if acts else f"{finding.sentence()} (not done: train.remedies)")
        findings.append({**finding.to_dict(), "remedy": finding.remedy if acts else "none"})
    remedies = {finding.remedy for finding in found} if acts else set()
    is_broken = any(finding.value == math.inf for finding in found) and not acts
    stops = [finding.detector for finding in found if acts and finding.remedy == "stop"]
    if is_broken or "divergence" in stops:
        if not players.kept:
            raise _diverged(players)
        stops.append("divergence")
    rate, slow, least = players.rate, players.discriminator_rate, players.least_share
    if "roll back" in remedies or "divergence" in stops:
        _go_back(players, folder)
        rate /= 2
    if "lower the learning rates" in remedies:
        rate /= 2
    if "slow the discriminator" in remedies:
        slow /= 4
    if "augment more" in remedies:
        least = min(least + AUGMENT_BY, MOST_SHARE)
    players.set_rates(rate, slow)
    players.least_share, players.share = least, max(players.share, least)
    if stops:
        players.notes["stopped"] = f"{', '.join(dict.fromkeys(stops))} did not end"
    _save(players, folder)


def _go_back(players: Players, folder: Path) -> None:
    """Restore the last checkpoint, but for what was found and what scored best since."""
    keeps = {"findings", "seconds", "best_score", "best_step"}
    kept, notes = players.kept, {key: players.notes[key] for key in keeps if key in players.notes}
    restore_players(players, folder)
    players.kept = kept
    players.notes |= notes


def _diverged(players: Players) -> TrainingError:
    times = sum(row["detector"] == "divergence" for row in players.notes["findings"])
    return TrainingError(
        f"training diverged: a loss exploded or became no number by step {players.step}, {times} times in all, "
        f"the last at a learning rate of {players.learning_rate:g}. Lower train.learning_rate (try "
        f"{players.learning_rate / 4:g}), raise the weights of r1 and r2 in train.regularizers, or leave "
        "train.remedies on."
    )


def _stop_where_enough(players: Players, config: TrainConfig) -> None:
    """Note why training stops, when it does."""
    notes = players.notes
    if config.max_seconds is not None and notes["seconds"] >= config.max_seconds:
        notes["stopped"] = f"train.max_seconds ({config.max_seconds:g}) are used up"
    later = [exam["step"] for exam in notes["exams"] if exam["step"] > notes.get("best_step", math.inf)]
    if config.patience and len(later) >= config.patience:
        notes["stopped"] = (
            f"no better score in {len(later)} examinations since step {notes['best_step']} (train.patience)"
        )


def _halve(players: Players, folder: Path, error: torch.OutOfMemoryError) -> None:
    """Go back to the last checkpoint and play each batch in twice as many parts."""
    accumulate = 2 * players.accumulate
    if accumulate > players.preset.batch or rank_and_size()[1] > 1:
        raise TrainingError(
            f"out of memory with {players.preset.batch // players.accumulate} images at a time; "
            "lower train.batch or train.width"
        ) from error
    # Half a step may be done: only the checkpoint is a whole state.
    restore_players(players, folder)
    players.accumulate = accumulate
    finding = {
        "detector": "out of memory",
        "meaning": f"a batch of {players.preset.batch} does not fit",
        "step": players.step,
        "value": accumulate,
        "threshold": 1,
        "remedy": f"batches are played in {accumulate} parts from here on",
    }
    log.warning("step %d: out of memory: %s, %s", players.step, finding["meaning"], finding["remedy"])
    players.notes["findings"].append(finding)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    _save(players, folder)


def _save(players: Players, folder: Path) -> None:
    """Write a checkpoint; of several processes the first alone does, when all have read the last."""
    wait_for_all()
    if rank_and_size()[0] == 0:
        save_players(players, folder)


class _Means:
    """Sums of metrics on the device, so that a step need not wait for their values."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, metrics: dict[str, Tensor]) -> None:
        for name, value in metrics.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] += 1

    def take(self) -> dict[str, float]:
        """Means since the last take, over all processes."""
        sums = average_numbers(self.sums)
        means = {name: float(value) / self.counts[name] for name, value in sums.items()}
        self.sums, self.counts = {}, defaultdict(int)
        return means
