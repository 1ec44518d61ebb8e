"""Players: both networks, the moving average and all else that changes while training.

They are made from a seed, saved to checkpoints and brought back from them exactly; at the end
the average becomes the generator that the later steps read.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ganaug.training.checkpoint import (
    Checkpoint,
    copy_weights,
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
from ganaug.training.networks import GENERATOR_FILE, NETWORK_FILE, NETWORKS, build_discriminator
from ganaug.training.networks.conditioning import (
    ClassEmbedding,
    ConditionalGenerator,
    NetworkSpec,
    hold_exemplars,
)
from ganaug.training.networks.presets import Preset
from ganaug.training.recorder import Recorder
from ganaug.training.regularizers import SPECTRAL_NORM, apply_spectral_norm

CHECKPOINTS = "checkpoints"
CURVES_FILE = "curves.parquet"
DISCRIMINATOR_FILE = "discriminator.safetensors"
HELD_OUT_FILE = "held_out.npy"
PLAYERS_FILE = "players.safetensors"
SUMMARY_FILE = "summary.json"
EXEMPLARS_PER_CLASS = 512
"""Real images of a class that a generator carries; more would make the file large for little."""


def new_notes() -> dict[str, Any]:
    """The notes of a training that has not begun."""
    return {"curves": [], "findings": [], "exams": [], "looks": [], "seconds": 0.0}


@dataclass
class Players:
    """Everything that changes while training.

    Attributes:
        generator: Makes images; trained.
        discriminator: Scores images; trained; may be several in one.
        average: Moving average of the generator, which is what is used afterwards.
        rng: Source of all batches, latents and augmentations, on the device.
        preset: The numbers they play by.
        step: Steps done.
        rate: Factor on both learning rates; a remedy lowers it.
        discriminator_rate: One more factor on the discriminator's.
        share: Share of images that are augmented; adapted while training.
        least_share: What it does not fall below; a remedy raises it.
        accumulate: Parts that a batch is played in, where it does not fit the memory whole.
        anchors: (2,) running means of the scores of real images and fakes.
        notes: Curves, findings, seconds and scores so far; kept in the checkpoints.
        kept: The weights that scored best so far, of average and discriminator; kept in the
            checkpoints.
        is_new: Whether the average began with untrained weights, which it had better forget.
    """

    generator: nn.Module
    discriminator: nn.Module
    average: nn.Module
    rng: torch.Generator
    preset: Preset
    step: int = 0
    rate: float = 1.0
    discriminator_rate: float = 1.0
    share: float = 0.0
    least_share: float = 0.0
    accumulate: int = 1
    notes: dict[str, Any] = field(default_factory=new_notes)
    kept: dict[str, Tensor] = field(default_factory=dict)
    is_new: bool = True

    def __post_init__(self) -> None:
        """Give each player an optimiser."""
        self.average.requires_grad_(False)
        self.anchors = torch.zeros(2, device=self.rng.device)
        self.recorder = Recorder(self.rng.device)
        self.share = self.least_share = self.preset.augment.share
        self.generator_optimizer = _optimizer(self.generator, self.preset)
        self.discriminator_optimizer = _optimizer(self.discriminator, self.preset)

    @property
    def learning_rate(self) -> float:
        """The generator's step size."""
        return self.preset.learning_rate * self.rate

    def set_rates(self, rate: float, discriminator_rate: float) -> None:
        """Change the factors on the learning rates."""
        self.rate, self.discriminator_rate = rate, discriminator_rate
        self.recorder.forget()
        for optimizer, value in (
            (self.generator_optimizer, self.learning_rate),
            (self.discriminator_optimizer, self.learning_rate * discriminator_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = value

    def condition_strength(self, strength: float) -> None:
        """Let the class count for so much, 0 to 1, in all networks."""
        for network in (self.generator, self.discriminator, self.average):
            for module in network.modules():
                if isinstance(module, ClassEmbedding):
                    module.strength.fill_(strength)

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average towards the generator; faster at first, when untrained weights weigh."""
        if self.is_new:
            decay = min(decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 1 - decay)
        # Batch statistics are averages already; counters are whole numbers.
        for mine, theirs in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            mine.copy_(theirs)

    def keep(self) -> None:
        """Remember average and discriminator as they are now."""
        self.kept = pack("average", copy_weights(self.average))
        self.kept |= pack("discriminator", copy_weights(self.discriminator))

    def take_kept(self) -> None:
        """Go back to what was remembered; nothing where nothing was."""
        if self.kept:
            self.average.load_state_dict(unpack("average", self.kept))
            self.discriminator.load_state_dict(unpack("discriminator", self.kept))


def make_players(spec: NetworkSpec, preset: Preset, seed: int, device: str) -> Players:
    """Build all networks and the average, with initial weights chosen by `seed`."""
    # torch draws initial weights from its global generator only: borrow it, put it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = NETWORKS[spec.network].generator(spec)
        discriminator = build_discriminator(spec, preset.discriminators)
        if SPECTRAL_NORM in preset.regularizers:
            apply_spectral_norm(discriminator)
    rng = torch.Generator(device=device).manual_seed(seed + 1)
    # Batch norm in the average uses its running statistics, not those of a batch of samples.
    average = copy.deepcopy(generator).to(device).eval()
    return Players(generator.to(device), discriminator.to(device), average, rng, preset)


_NUMBERS = ("rate", "discriminator_rate", "share", "least_share", "accumulate", "is_new")
"""Attributes of the players that are plain numbers in a checkpoint."""


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
        "anchors": players.anchors,
    }
    notes = {**players.notes, "numbers": {name: getattr(players, name) for name in _NUMBERS}}
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
    players.anchors.copy_(tensors["anchors"])
    players.notes, players.step = dict(checkpoint.notes), checkpoint.step
    for name, value in players.notes.pop("numbers").items():
        setattr(players, name, value)
    players.set_rates(players.rate, players.discriminator_rate)
    return True


def leave_players(players: Players, folder: Path) -> None:
    """Write the average and the discriminator, from which specialists go on."""
    tensors = pack("average", players.average.state_dict())
    tensors |= pack("discriminator", players.discriminator.state_dict())
    save_tensors(folder / PLAYERS_FILE, tensors)


def leave_discriminator(players: Players, spec: NetworkSpec, folder: Path) -> None:
    """Write the discriminator for a classifier to start from its features."""
    save_tensors(
        folder / DISCRIMINATOR_FILE,
        players.discriminator.state_dict(),
        {"spec": asdict(spec), "discriminators": players.preset.discriminators},
    )


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
    chosen = replace(spec, class_ids=class_ids)
    positions = [reals.class_ids.index(class_id) for class_id in class_ids]
    if NETWORKS[spec.network].kind == "exemplar-conditional":
        rng = np.random.default_rng(seed)
        return hold_exemplars(chosen, core, [_exemplars(reals, position, rng) for position in positions])
    if isinstance(embedding := getattr(core, "embed", None), ClassEmbedding):
        core.embed = embedding.subset(positions)
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


def _optimizer(module: nn.Module, preset: Preset) -> torch.optim.Optimizer:
    if preset.optimizer == "sgd":
        return torch.optim.SGD(module.parameters(), lr=preset.learning_rate, fused=True)
    # What is recorded as a CUDA graph must be capturable; on a CPU nothing is.
    is_gpu = next(module.parameters()).is_cuda
    return torch.optim.Adam(
        module.parameters(), lr=preset.learning_rate, betas=preset.betas, fused=True, capturable=is_gpu
    )
