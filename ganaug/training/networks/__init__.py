"""The architectures: one whole file each, and the registry that names them.

A new one is a file with a `Generator` and a `Discriminator` and an entry in `NETWORKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ganaug.errors import ModelError
from ganaug.training.networks import cgan, dcgan, pair_mlp, pair_unet
from ganaug.training.networks.conditioning import (
    ConditionalGenerator,
    ExemplarGenerator,
    Kind,
    NetworkSpec,
)

GENERATOR_FILE = "generator.safetensors"
NETWORK_FILE = "network.json"


@dataclass(frozen=True)
class Network:
    """One architecture."""

    kind: Kind
    generator: Callable[[NetworkSpec], nn.Module]
    discriminator: Callable[[NetworkSpec], nn.Module]


NETWORKS: dict[str, Network] = {
    "cgan": Network("class-conditional", cgan.Generator, cgan.Discriminator),
    "dcgan": Network("class-conditional", dcgan.Generator, dcgan.Discriminator),
    "pair_mlp": Network("exemplar-conditional", pair_mlp.Generator, pair_mlp.Discriminator),
    "pair_unet": Network("exemplar-conditional", pair_unet.Generator, pair_unet.Discriminator),
}


def load_generator(folder: Path) -> ConditionalGenerator:
    """Load the generator that a training step left: its moving average, in evaluation mode.

    Args:
        folder: With `generator.safetensors` and `network.json`.

    Raises:
        ModelError: Files are missing, damaged, or do not belong together.
    """
    spec = load_spec(folder)
    try:
        network = NETWORKS[spec.network]
        wrapper = ExemplarGenerator if network.kind == "exemplar-conditional" else ConditionalGenerator
        generator = wrapper(spec, network.generator(spec))
        generator.load_state_dict(load_file(folder / GENERATOR_FILE))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise _refusal(folder, error) from error
    return generator.eval()


def load_spec(folder: Path) -> NetworkSpec:
    """Read what the networks of a training folder were built from.

    Raises:
        ModelError: `network.json` is missing or damaged.
    """
    try:
        return NetworkSpec.load(folder / NETWORK_FILE)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _refusal(folder, error) from error


def _refusal(folder: Path, error: Exception) -> ModelError:
    return ModelError(f"{folder} holds no generator that can be loaded ({error}); run `ganaug train` again")
