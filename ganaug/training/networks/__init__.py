"""The architectures: one whole file each, and the registry that names them.

A new one is a file with a `Generator` and a `Discriminator` and an entry in `NETWORKS`. What
they share is in conditioning.py, heads.py (discriminators) and ensemble.py (several of them).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ganaug.errors import ModelError
from ganaug.training.networks import cgan, dcgan, modern, pair_mlp, pair_unet, strided, vanilla
from ganaug.training.networks.conditioning import (
    ConditionalGenerator,
    ExemplarGenerator,
    Kind,
    NetworkSpec,
)
from ganaug.training.networks.ensemble import Ensemble, LowResolution, low_size

GENERATOR_FILE = "generator.safetensors"
NETWORK_FILE = "network.json"


@dataclass(frozen=True)
class Network:
    """One architecture.

    Attributes:
        kind: What its condition is.
        generator: Builds it from a spec.
        discriminator: Builds its opponent from the same spec.
        mixes_batch: Scores depend on the other images of the batch (batch normalisation), so
            that real images and fakes must be judged apart.
        is_convolutional: Sees maps of pixels, not a flat row of them.
    """

    kind: Kind
    generator: Callable[[NetworkSpec], nn.Module]
    discriminator: Callable[[NetworkSpec], nn.Module]
    mixes_batch: bool = False
    is_convolutional: bool = True


NETWORKS: dict[str, Network] = {
    "vanilla": Network("class-conditional", vanilla.Generator, vanilla.Discriminator, is_convolutional=False),
    "cgan": Network("class-conditional", cgan.Generator, cgan.Discriminator, is_convolutional=False),
    "dcgan": Network("class-conditional", dcgan.Generator, dcgan.Discriminator, mixes_batch=True),
    "strided": Network("class-conditional", strided.Generator, strided.Discriminator),
    "modern": Network("class-conditional", modern.Generator, modern.Discriminator),
    "pair_mlp": Network(
        "exemplar-conditional", pair_mlp.Generator, pair_mlp.Discriminator, is_convolutional=False
    ),
    "pair_unet": Network("exemplar-conditional", pair_unet.Generator, pair_unet.Discriminator),
}


def build_discriminator(spec: NetworkSpec, members: int = 1) -> nn.Module:
    """Build what judges a generator: one discriminator, or an `Ensemble` of several.

    Args:
        spec: Of the generator. Where its class enters late (`unconditional_px`), one more member
            judges small images without class.
        members: Discriminators that see the images as they are; they differ in initial weights.

    Returns:
        `forward(images, condition)` to (N,) scores, or (M, N) from an ensemble.
    """
    network = NETWORKS[spec.network]
    judges = [network.discriminator(spec) for _ in range(members)]
    px = spec.unconditional_px
    if px > 0 and network.is_convolutional and network.kind == "class-conditional":
        height, width, channels = spec.image_shape
        shape = (*low_size(height, width, px), channels)
        small = replace(spec, image_shape=shape, conditioning="none", unconditional_px=0)
        judges.append(LowResolution(network.discriminator(small), px))
    return judges[0] if len(judges) == 1 else Ensemble(judges)


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
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _refusal(folder, error) from error


def _refusal(folder: Path, error: Exception) -> ModelError:
    return ModelError(f"{folder} holds no generator that can be loaded ({error}); run `ganaug train` again")
