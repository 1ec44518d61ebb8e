"""One step of the game: the discriminator learns, then the generator, on one batch of fakes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ganaug.training.distributed import (
    average_buffers,
    average_gradients,
    average_numbers,
    rank_and_size,
)
from ganaug.training.games import UNLABELLED, Game, Hand
from ganaug.training.losses import AGGREGATES, LOSSES, Loss
from ganaug.training.networks import NETWORKS
from ganaug.training.networks.presets import Preset
from ganaug.training.players import Players
from ganaug.training.regularizers import ANCHOR_DECAY, LAZY, NEED_SLOPES, REGULARIZERS, Sight

GRADIENT_EVERY = 10
"""Steps between measurements of the generator's gradient."""

Metrics = dict[str, Tensor]


def play_step(players: Players, game: Game, preset: Preset) -> Metrics:
    """Play one step.

    A batch that does not fit the memory is played in `players.accumulate` parts, whose
    gradients add up to those of the whole.

    Returns:
        Scalars on the device: both losses, the penalties, the discriminator's opinions of real
        images and fakes, and now and then the length of the generator's gradient.
    """
    rank, size = rank_and_size()
    hand = game.deal(preset.batch, players.rng, players.share)
    if players.recorder.is_on and size == 1 and players.accumulate == 1 and preset.precision == "fp32":
        kind = _is_due(players, preset), _asks_gradient(players)
        metrics = players.recorder.play(
            kind, lambda tensors: learn(players, [hand.with_tensors(tensors)], preset), hand.tensors()
        )
    else:
        metrics = learn(players, hand.parts(size)[rank].parts(players.accumulate), preset)
    players.step += 1
    players.follow(preset.ema)
    return metrics


def learn(players: Players, parts: Sequence[Hand], preset: Preset) -> Metrics:
    """Let both players learn from a step that has been dealt, in parts.

    Returns:
        As `play_step`.
    """
    metrics: Metrics = {}
    fakes = [_make_fakes(players, hand, preset, keep=len(parts) == 1) for hand in parts]

    players.discriminator.requires_grad_(True)
    players.discriminator_optimizer.zero_grad(set_to_none=True)
    for hand, fake in zip(parts, fakes, strict=True):
        share = len(hand) / sum(map(len, parts))
        loss, found = discriminator_loss(players, hand, fake, preset)
        (share * loss).backward()  # type: ignore[no-untyped-call]
        _add(metrics, found, share)
    average_gradients(players.discriminator)
    players.discriminator_optimizer.step()

    # The same fakes, before the discriminator as it is now.
    players.discriminator.requires_grad_(False)
    players.generator_optimizer.zero_grad(set_to_none=True)
    for hand, fake in zip(parts, fakes, strict=True):
        share = len(hand) / sum(map(len, parts))
        again = fake if len(parts) == 1 else _make_fakes(players, hand, preset, keep=True)
        loss = generator_loss(players, hand, again, preset)
        (share * loss).backward()  # type: ignore[no-untyped-call]
        _add(metrics, {"generator_loss": loss.detach()}, share)
    average_gradients(players.generator)
    if _asks_gradient(players):
        gradients = [weight.grad for weight in players.generator.parameters() if weight.grad is not None]
        metrics["generator_gradient"] = nn.utils.get_total_norm(gradients)
    players.generator_optimizer.step()

    if NETWORKS[preset.network].mixes_batch:
        average_buffers(players.generator)
        average_buffers(players.discriminator)
    return metrics


def discriminator_loss(players: Players, hand: Hand, fake: Tensor, preset: Preset) -> tuple[Tensor, Metrics]:
    """What the discriminator minimises: real above fake, and its regularisers.

    Args:
        players: Its owner.
        hand: Real images, conditions and augmentation.
        fake: (N, C, H, W) fakes for the same conditions.
        preset: Loss, regularisers and their weights.

    Returns:
        The loss, and the scalars to watch.
    """
    loss = LOSSES[preset.loss]
    # A penalty that comes seldom is as many times stronger.
    is_due = _is_due(players, preset)
    weights = {
        name: weight * (preset.penalty_every if name in LAZY else 1)
        for name, weight in preset.regularizers.items()
        if name in REGULARIZERS and weight and (is_due or name not in LAZY)
    }
    real, condition = hand.augmentation.apply(hand.real), hand.seen_condition()
    seen = torch.cat([real, hand.augmentation.apply(fake.detach())])
    seen.requires_grad_(bool(NEED_SLOPES & set(weights)))
    both = torch.cat([condition, condition])
    # Penalties are gradients of gradients: in half precision they would be noise.
    with _precision(preset, seen, fine=bool(LAZY & set(weights))):
        logits = judge(players.discriminator, seen, both, apart=NETWORKS[preset.network].mixes_batch)
        real_logits, fake_logits = logits.chunk(2, dim=1)
        pairs = zip(real_logits, fake_logits, strict=True)
        total = torch.stack([loss.discriminator(*pair) for pair in pairs]).sum()
        metrics = {"discriminator_loss": total.detach(), **opinions(real_logits, fake_logits, loss)}
        with torch.no_grad():
            means = torch.stack([real_logits.mean(), fake_logits.mean()])
            means = average_numbers({"means": means})["means"]
            players.anchors.lerp_(means, 1 - ANCHOR_DECAY)
        sight = Sight(
            players.discriminator,
            seen,
            both,
            logits,
            hand.mix,
            hand.noise,
            players.anchors,
        )
        for name, weight in weights.items():
            penalty = REGULARIZERS[name](sight)
            metrics[name] = penalty.detach()
            total = total + weight * penalty
        if preset.conditioning == "classes":
            wrong = cross_entropy(_classify(players, real), hand.labels, ignore_index=UNLABELLED)
            # A batch without a single label has no such loss.
            wrong = torch.nan_to_num(wrong)
            metrics["class_loss"] = wrong.detach()
            total = total + wrong
    return total, metrics


def generator_loss(players: Players, hand: Hand, fake: Tensor, preset: Preset) -> Tensor:
    """What the generator minimises: its fakes scored as real, and as their class.

    Args:
        players: Its owner; the discriminator's weights get no gradient.
        hand: Real images, conditions and augmentation.
        fake: (N, C, H, W) fakes, with the generator's graph.
        preset: Loss, and how several discriminators' opinions become one.
    """
    loss = LOSSES[preset.loss]
    real, condition = hand.augmentation.apply(hand.real), hand.seen_condition()
    fake = hand.augmentation.apply(fake)
    with _precision(preset, fake):
        with torch.no_grad():
            real_logits = judge(players.discriminator, real, condition)
        fake_logits = judge(players.discriminator, fake, condition)
        losses = [loss.generator(*pair) for pair in zip(real_logits, fake_logits, strict=True)]
        total = AGGREGATES[preset.aggregate](torch.stack(losses))
        if preset.conditioning == "classes":
            total = total + cross_entropy(_classify(players, fake), hand.condition)
    return total


def judge(discriminator: nn.Module, images: Tensor, condition: Tensor, *, apart: bool = False) -> Tensor:
    """(M, N) scores of M discriminators, in float32.

    Args:
        discriminator: One, or several in one.
        images: (N, C, H, W).
        condition: (N, ...).
        apart: Judge the two halves apart, where the images of a batch touch each other's scores.
    """
    if apart:
        halves = zip(images.chunk(2), condition.chunk(2), strict=True)
        return torch.cat([judge(discriminator, *half) for half in halves], dim=1)
    # One batch for real and fake is faster than two of half the size.
    scores: Tensor = discriminator(images, condition)
    return scores.view(-1, len(images)).float()


@torch.no_grad()
def opinions(real_logits: Tensor, fake_logits: Tensor, loss: Loss) -> Metrics:
    """What the discriminator thinks of real images and fakes.

    Returns:
        `prefers_real`, the share of pairs whose real image scores higher; `called_real`, the
        share of real images above the threshold; `fooled`, that of fakes; and mean scores.
    """
    middle = loss.threshold
    at = (real_logits.mean() + fake_logits.mean()) / 2 if middle is None else middle
    return {
        "prefers_real": (real_logits > fake_logits).float().mean(),
        "called_real": (real_logits > at).float().mean(),
        "fooled": (fake_logits > at).float().mean(),
        "real_logit": real_logits.mean(),
        "fake_logit": fake_logits.mean(),
    }


def _is_due(players: Players, preset: Preset) -> bool:
    """Whether this step has the penalties that may come seldom."""
    return players.step % preset.penalty_every == 0


def _asks_gradient(players: Players) -> bool:
    """Whether the generator's gradient is measured in this step."""
    return players.step % GRADIENT_EVERY == 0


def _make_fakes(players: Players, hand: Hand, preset: Preset, *, keep: bool) -> Tensor:
    """Fakes for a hand; with their graph when they are kept for the generator's turn."""
    with torch.set_grad_enabled(keep), _precision(preset, hand.z):
        fakes: Tensor = players.generator(hand.z, hand.condition)
    return fakes.float()


def _classify(players: Players, images: Tensor) -> Tensor:
    """(N, K + 1) logits of the classes and of being fake."""
    logits: Tensor = players.discriminator.classify(images)  # type: ignore[operator]
    return logits.float()


def _precision(preset: Preset, near: Tensor, *, fine: bool = False) -> AbstractContextManager[object]:
    if preset.precision != "bf16" or fine:
        return contextlib.nullcontext()
    return torch.autocast(near.device.type, dtype=torch.bfloat16)


def _add(metrics: Metrics, found: Metrics, share: float) -> None:
    for name, value in found.items():
        metrics[name] = metrics[name] + share * value if name in metrics else share * value
