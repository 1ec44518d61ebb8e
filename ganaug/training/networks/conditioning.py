"""What every architecture has in common: the spec it is built from, and how classes reach it.

An architecture is two `nn.Module`s with `forward(z, condition)` and `forward(images, condition)`.
The condition is a class index for class-conditional ones and a real image of the class for
exemplar-conditional ones; `ConditionalGenerator` puts the dataset's class ids in front.

A class-conditional generator lays its code out as latent first, class vector second, so that a
layer which may not see the class takes the first columns. The discriminators' side is heads.py.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn.functional import embedding

from ganaug.card import MAX_SIDE_PX

Kind = Literal["class-conditional", "exemplar-conditional"]
Conditioning = Literal["none", "embedding", "projection", "normalisation", "classes"]
"""How the class reaches the networks.

none: not at all (Goodfellow et al. 2014, arXiv:1406.2661);
embedding: a class vector beside the latent, and beside the image (Mirza & Osindero 2014, arXiv:1411.1784);
projection: beside the latent; the score adds an inner product of features and a class vector
    (Miyato & Koyama 2018, arXiv:1802.05637);
normalisation: scale and shift of normalised maps (Dumoulin et al. 2017, arXiv:1610.07629; de Vries
    et al. 2017, arXiv:1707.00683); the score as with projection;
classes: beside the latent; the discriminator tells K classes and "fake" apart (Odena 2016, arXiv:1606.01583).
"""


_MOST_VALUES = 2**28
"""A network's largest layer, or all its exemplars, may have so many numbers."""


@dataclass(frozen=True)
class NetworkSpec:
    """All that is needed to build a generator and its discriminator again.

    Attributes:
        network: Name in `NETWORKS`.
        image_shape: (height, width, channels).
        class_ids: The dataset's ids of the classes that it can make.
        z_dim: Length of the latent vector.
        width: Units of an MLP layer, or channels of the widest-resolution convolution.
        exemplar_counts: Exemplars per class of `class_ids`; None when class-conditional.
        conditioning: How the class reaches class-conditional networks.
        unconditional_px: Class-conditional convolutions see the class only at maps whose longer
            side is greater; 0: everywhere (Khorram et al. 2024, arXiv:2402.17065).
    """

    network: str
    image_shape: tuple[int, int, int]
    class_ids: tuple[int, ...]
    z_dim: int
    width: int
    exemplar_counts: tuple[int, ...] | None = None
    conditioning: Conditioning = "projection"
    unconditional_px: int = 0

    def save(self, path: Path, **notes: object) -> None:
        """Write the spec as JSON, with notes (the resolved settings) beside it."""
        path.write_text(json.dumps({"spec": asdict(self), **notes}, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> NetworkSpec:
        """Read a spec that `save` wrote.

        Raises:
            ValueError: It is none, or one of networks that would take all memory.
        """
        tree = json.loads(path.read_text(encoding="utf-8"))["spec"]
        spec: NetworkSpec = TypeAdapter(cls).validate_python(tree)
        check_shape(spec.image_shape)
        exemplars = sum(spec.exemplar_counts or ()) * math.prod(spec.image_shape)
        units = spec.width * (math.prod(spec.image_shape) + spec.z_dim + spec.width + len(spec.class_ids))
        if min(spec.width, spec.z_dim) < 1 or max(exemplars, units) > _MOST_VALUES:
            raise ValueError("its networks would take all memory")
        return spec


def check_shape(shape: tuple[int, int, int]) -> None:
    """Refuse a shape that no image has.

    Raises:
        ValueError: It is not (height, width, channels) of an image that ganaug works on.
    """
    *sides, channels = shape
    if not (all(1 <= side <= MAX_SIDE_PX for side in sides) and 1 <= channels <= 4):
        raise ValueError(f"{shape} is not the shape of an image")


class ClassEmbedding(nn.Module):
    """A vector per class, faded in by `strength`.

    Attributes:
        table: (K, dim) standard normal at first.
        strength: Scalar in the state; at 0 all classes are one, at 1 they are told apart. The
            trainer moves it from 0 to 1 for transitional conditioning.

    Source:
        Shahbazi et al. 2022, arXiv:2201.06578 (strength).
    """

    strength: Tensor

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(count, dim))
        nn.init.normal_(self.table)
        self.register_buffer("strength", torch.ones(()))

    def forward(self, class_index: Tensor) -> Tensor:
        """(N,) class positions to (N, dim)."""
        vectors: Tensor = self.strength * embedding(class_index, self.table)
        return vectors

    def subset(self, positions: Sequence[int]) -> ClassEmbedding:
        """A copy that knows only the classes at these positions, in this order."""
        kept = copy.deepcopy(self)
        rows = self.table.detach()[list(positions)]
        kept.table = nn.Parameter(rows, requires_grad=self.table.requires_grad)
        return kept


class Shift(nn.Module):
    """Adds to each channel what the code says."""

    def __init__(self, columns: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(columns, channels)

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        """(N, C, ...) and (N, columns or more) to (N, C, ...)."""
        shift: Tensor = self.linear(code[:, : self.linear.in_features])
        return h + shift[(...,) + (None,) * (h.dim() - 2)]


class ScaleShift(nn.Module):
    """Conditional normalisation: normalises, then scales and shifts each channel by the code.

    Source:
        Dumoulin et al. 2017, arXiv:1610.07629, equation 5; the scales come from linear layers,
        as in de Vries et al. 2017, arXiv:1707.00683, so that they too are a matter of the class vector.
    """

    def __init__(self, columns: int, channels: int, norm: nn.Module | None = None) -> None:
        super().__init__()
        # One group: as layer normalisation, it needs no other image of the batch.
        self.norm = nn.GroupNorm(1, channels, affine=False) if norm is None else norm
        self.linear = nn.Linear(columns, 2 * channels)

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        """(N, C, ...) and (N, columns or more) to (N, C, ...)."""
        both: Tensor = self.linear(code[:, : self.linear.in_features])
        scale, shift = both[(...,) + (None,) * (h.dim() - 2)].chunk(2, dim=1)
        normalised: Tensor = self.norm(h)
        return normalised * (1.0 + scale) + shift


def embed_classes(spec: NetworkSpec) -> ClassEmbedding | None:
    """The generator's class vectors, as long as the latent; None when it sees no class."""
    return None if spec.conditioning == "none" else ClassEmbedding(len(spec.class_ids), spec.z_dim)


def join(z: Tensor, embed: ClassEmbedding | None, class_index: Tensor) -> Tensor:
    """The code: (N, z_dim) latents, and the class vectors after them where there are any."""
    return z if embed is None else torch.cat([z, embed(class_index)], dim=1)


def code_columns(spec: NetworkSpec, size: tuple[int, int] | None = None) -> int:
    """Columns of the code that a layer may see: the latent, and the class vector where it may enter.

    Args:
        spec: Says where that is.
        size: (height, width) of the layer's map; None for perceptrons, which see it everywhere.
    """
    is_early = size is not None and max(size) <= spec.unconditional_px
    return spec.z_dim if spec.conditioning == "none" or is_early else 2 * spec.z_dim


def first_columns(spec: NetworkSpec, size: tuple[int, int] | None = None) -> int:
    """Columns of the code that the first layer sees: no class where normalisation brings it in."""
    return spec.z_dim if spec.conditioning == "normalisation" else code_columns(spec, size)


def enters_late(spec: NetworkSpec, size: tuple[int, int]) -> bool:
    """Whether the class may enter at this map after it was kept out of smaller ones."""
    return spec.conditioning != "none" and 0 < spec.unconditional_px < max(size)


def modulation(
    spec: NetworkSpec, channels: int, size: tuple[int, int] | None = None, norm: nn.Module | None = None
) -> Shift | ScaleShift:
    """What brings the code to a map again: conditional normalisation if asked for, else a shift.

    Args:
        spec: Says which.
        channels: Of the map.
        size: (height, width) of the map; None for perceptrons.
        norm: Normalisation without weights of its own; None for one over the whole map.
    """
    columns = code_columns(spec, size)
    if spec.conditioning == "normalisation":
        return ScaleShift(columns, channels, norm)
    return Shift(columns, channels)


class ConditionalGenerator(nn.Module):
    """A generator as it is saved and exported: the dataset's class ids in, images out.

    Attributes:
        spec: What it was built from.
        core: The architecture, `core(z, condition)`.
    """

    positions: Tensor

    def __init__(self, spec: NetworkSpec, core: nn.Module) -> None:
        super().__init__()
        self.spec, self.core = spec, core
        # A table from class id to position, because class ids of a specialist have gaps.
        positions = torch.zeros(max(spec.class_ids) + 1, dtype=torch.int64)
        positions[list(spec.class_ids)] = torch.arange(len(spec.class_ids))
        self.register_buffer("positions", positions)

    @property
    def z_dim(self) -> int:
        """Length of the latent vector."""
        return self.spec.z_dim

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.spec.image_shape

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The dataset's ids of the classes that it can make."""
        return self.spec.class_ids

    @property
    def exemplar_counts(self) -> tuple[int, ...] | None:
        """Exemplars per class of `class_ids`; None when class-conditional."""
        return self.spec.exemplar_counts

    def forward(self, z: Tensor, class_id: Tensor) -> Tensor:
        """Make images of classes.

        Args:
            z: (N, z_dim) float32 standard normal.
            class_id: (N,) int64, each one of `class_ids`.

        Returns:
            (N, C, H, W) float32 in [-1, 1].
        """
        images: Tensor = self.core(z, self.positions[class_id])
        return images


class ExemplarGenerator(ConditionalGenerator):
    """An exemplar-conditional generator with its exemplars, which are real training images."""

    exemplars: Tensor
    starts: Tensor

    def __init__(self, spec: NetworkSpec, core: nn.Module) -> None:
        super().__init__(spec, core)
        assert spec.exemplar_counts is not None
        height, width, channels = spec.image_shape
        counts = torch.tensor(spec.exemplar_counts, dtype=torch.int64)
        shape = (int(counts.sum()), channels, height, width)
        self.register_buffer("exemplars", torch.zeros(shape, dtype=torch.uint8))
        self.register_buffer("starts", torch.cumsum(counts, 0) - counts)

    def forward(self, z: Tensor, class_id: Tensor, exemplar: Tensor) -> Tensor:  # type: ignore[override]
        """Make another image of the class of an exemplar.

        Args:
            z: (N, z_dim) float32 standard normal.
            class_id: (N,) int64, each one of `class_ids`.
            exemplar: (N,) int64 number of the exemplar within its class, below its count.

        Returns:
            (N, C, H, W) float32 in [-1, 1].
        """
        rows = self.starts[self.positions[class_id]] + exemplar
        images: Tensor = self.core(z, to_float(self.exemplars[rows]))
        return images


def hold_exemplars(spec: NetworkSpec, core: nn.Module, exemplars: Sequence[Tensor]) -> ExemplarGenerator:
    """Give a trained core the real images it starts from.

    Args:
        spec: Its `exemplar_counts` are set from `exemplars`.
        core: The trained architecture.
        exemplars: For each class of `spec.class_ids`, (n, C, H, W) uint8.
    """
    spec = replace(spec, exemplar_counts=tuple(len(images) for images in exemplars))
    generator = ExemplarGenerator(spec, core)
    generator.exemplars.copy_(torch.cat(list(exemplars)))
    return generator


def to_float(images: Tensor) -> Tensor:
    """uint8 images as float32 in [-1, 1].

    >>> to_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
    [-1.0, 1.0]
    """
    return images.float() / 127.5 - 1.0


def to_uint8(images: Tensor) -> Tensor:
    """Float images in [-1, 1] as uint8, rounded.

    >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0, 128, 255]
    """
    return ((images + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def ladder(height: int, width: int, smallest: int = 4) -> list[tuple[int, int]]:
    """Sizes from the image down to the smallest feature map, halving and rounding up.

    >>> ladder(32, 20)
    [(32, 20), (16, 10), (8, 5)]
    """
    sizes = [(height, width)]
    while min(sizes[-1]) >= 2 * smallest:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes
