"""Players: both networks, the moving average and all else that changes while training.

They are made from a seed, saved to checkpoints and brought back from them exactly; at the end
the average becomes the generator that the later steps read.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ganaug.training.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    load_tensors,
    pack,
    pack_optimizer,
    save_checkpoint,
    save_tensors,
    unpack,
    unpack_optimizer,
)
from ganaug.training.games import Reals
from ganaug.training.networks import GENERATOR_FILE, NETWORK_FILE, NETWORKS
from ganaug.training.networks.conditioning import ConditionalGenerator, NetworkSpec, hold_exemplars
from ganaug.training.networks.presets import Preset

BETAS = (0.0, 0.99)
CHECKPOINTS = "checkpoints"
CURVES_FILE = "curves.parquet"
PLAYERS_FILE = "players.safetensors"
SUMMARY_FILE = "summary.json"
EXEMPLARS_PER_CLASS = 512
"""Real images of a class that a generator carries; more would make the file large for little."""


@dataclass
class Players:
    """Everything that changes while training.

    Attributes:
        generator: Makes images; trained.
        discriminator: Scores images; trained.
        average: Moving average of the generator, which is what is used afterwards.
        rng: Source of all batches, latents and augmentations, on the device.
        learning_rate: Adam's step size; halved by a rollback.
        step: Steps done.
        notes: Curves, rollbacks, seconds and scores so far; kept in the checkpoints.
        kept: Weights that a watcher wants kept in the checkpoints, such as the best so far.
        is_new: Whether the average began with untrained weights, which it had better forget.
    """

    generator: nn.Module
    discriminator: nn.Module
    average: nn.Module
    rng: torch.Generator
    learning_rate: float
    step: int = 0
    notes: dict[str, Any] = field(default_factory=lambda: {"curves": [], "rollbacks": 0, "seconds": 0.0})
    kept: dict[str, Tensor] = field(default_factory=dict)
    is_new: bool = True

    def __post_init__(self) -> None:
        """Give each player an optimiser."""
        self.average.requires_grad_(False)
        self.generator_optimizer = _adam(self.generator, self.learning_rate)
        self.discriminator_optimizer = _adam(self.discriminator, self.learning_rate)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change Adam's step size for both players."""
        self.learning_rate = learning_rate
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average towards the generator; faster at first, when untrained weights weigh."""
        if self.is_new:
            decay = min(decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 1 - decay)


def make_players(spec: NetworkSpec, preset: Preset, seed: int, device: str) -> Players:
    """Build both networks and the average, with initial weights chosen by `seed`."""
    network = NETWORKS[spec.network]
    # torch draws initial weights from its global generator only: borrow it, put it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator = network.generator(spec), network.discriminator(spec)
    rng = torch.Generator(device=device).manual_seed(seed + 1)
    average = copy.deepcopy(generator).to(device)
    return Players(generator.to(device), discriminator.to(device), average, rng, preset.learning_rate)


def save_players(players: Players, folder: Path) -> None:
    """Write a checkpoint."""
    tensors = {
        **pack("generator", players.generator.state_dict()),
        **pack("discriminator", players.discriminator.state_dict()),
        **pack("average", players.average.state_dict()),
        **pack("generator_optimizer", pack_optimizer(players.generator_optimizer)),
        **pack("discriminator_optimizer", pack_optimizer(players.discriminator_optimizer)),
        **pack("kept", players.kept),
        "rng": players.rng.get_state(),
    }
    notes = {**players.notes, "learning_rate": players.learning_rate}
    save_checkpoint(folder / CHECKPOINTS, Checkpoint(players.step, tensors, notes))


def restore_players(players: Players, folder: Path) -> bool:
    """Bring the players to where the newest checkpoint left them; False when there is none."""
    checkpoint = latest_checkpoint(folder / CHECKPOINTS)
    if checkpoint is None:
        return False
    tensors = checkpoint.tensors
    players.generator.load_state_dict(unpack("generator", tensors))
    players.discriminator.load_state_dict(unpack("discriminator", tensors))
    players.average.load_state_dict(unpack("average", tensors))
    unpack_optimizer(players.generator_optimizer, unpack("generator_optimizer", tensors))
    unpack_optimizer(players.discriminator_optimizer, unpack("discriminator_optimizer", tensors))
    players.kept = unpack("kept", tensors)
    players.rng.set_state(tensors["rng"])
    players.notes, players.step = dict(checkpoint.notes), checkpoint.step
    players.set_learning_rate(players.notes.pop("learning_rate"))
    return True


def leave_players(players: Players, folder: Path) -> None:
    """Write the average and the discriminator, from which specialists go on."""
    tensors = pack("average", players.average.state_dict())
    tensors |= pack("discriminator", players.discriminator.state_dict())
    save_tensors(folder / PLAYERS_FILE, tensors)


def take_up_players(players: Players, folder: Path) -> None:
    """Start from what `leave_players` left in a folder.

    Raises:
        ModelError: It is missing or damaged.
    """
    tensors, _ = load_tensors(folder / PLAYERS_FILE)
    players.generator.load_state_dict(unpack("average", tensors))
    players.average.load_state_dict(unpack("average", tensors))
    players.discriminator.load_state_dict(unpack("discriminator", tensors))
    players.is_new = False


def finish_generator(
    spec: NetworkSpec, core: nn.Module, reals: Reals, class_ids: tuple[int, ...], seed: int
) -> ConditionalGenerator:
    """Put the dataset's class ids, and a pair GAN's exemplars, before a trained core.

    Args:
        spec: The core's.
        core: The trained generator's average; copied.
        reals: Where exemplars come from.
        class_ids: The classes that the finished generator makes.
        seed: Chooses exemplars where a class has more than `EXEMPLARS_PER_CLASS`.
    """
    core = copy.deepcopy(core).cpu()
    chosen = NetworkSpec(spec.network, spec.image_shape, class_ids, spec.z_dim, spec.width)
    positions = [reals.class_ids.index(class_id) for class_id in class_ids]
    if NETWORKS[spec.network].kind == "exemplar-conditional":
        rng = np.random.default_rng(seed)
        return hold_exemplars(chosen, core, [_exemplars(reals, position, rng) for position in positions])
    embedding = core.get_submodule("embed")
    assert isinstance(embedding, nn.Embedding)
    if len(positions) < embedding.num_embeddings:
        core.embed = nn.Embedding(
            len(positions), embedding.embedding_dim, _weight=embedding.weight.detach()[positions]
        )
    return ConditionalGenerator(chosen, core)


def leave(folder: Path, generator: ConditionalGenerator, players: Players, summary: dict[str, Any]) -> None:
    """Write what later steps read; the summary last, which says that the rest is there."""
    save_tensors(folder / GENERATOR_FILE, generator.state_dict())
    generator.spec.save(folder / NETWORK_FILE, recipe=summary["recipe"], settings=summary["settings"])
    curves = pd.DataFrame(players.notes["curves"], columns=["step", "name", "value"])
    curves.to_parquet(folder / CURVES_FILE, index=False)
    beside = folder / (SUMMARY_FILE + ".new")
    beside.write_text(json.dumps(summary, indent=2), encoding="utf-8")
    beside.replace(folder / SUMMARY_FILE)
    # Moments and random states were for going on after a kill; they are most of the bytes.
    for path in (folder / CHECKPOINTS).glob("*"):
        path.unlink()
    (folder / CHECKPOINTS).rmdir()


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The summary that a finished training left, or None when it is not finished."""
    path = folder / SUMMARY_FILE
    if not path.exists():
        return None
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return summary


def _exemplars(reals: Reals, position: int, rng: np.random.Generator) -> Tensor:
    images = reals.of_class(position).cpu()
    if len(images) > EXEMPLARS_PER_CLASS:
        images = images[np.sort(rng.choice(len(images), EXEMPLARS_PER_CLASS, replace=False))]
    return images


def _adam(module: nn.Module, learning_rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=learning_rate, betas=BETAS, fused=True)
