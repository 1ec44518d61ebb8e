"""What every architecture has in common: the spec it is built from, and how classes reach it.

An architecture is two `nn.Module`s with `forward(z, condition)` and `forward(images, condition)`.
The condition is a class index for class-conditional ones and a real image of the class for
exemplar-conditional ones; `ConditionalGenerator` puts the dataset's class ids in front.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["class-conditional", "exemplar-conditional"]


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
    """

    network: str
    image_shape: tuple[int, int, int]
    class_ids: tuple[int, ...]
    z_dim: int
    width: int
    exemplar_counts: tuple[int, ...] | None = None

    def save(self, path: Path, **notes: object) -> None:
        """Write the spec as JSON, with notes (the resolved settings) beside it."""
        path.write_text(json.dumps({"spec": asdict(self), **notes}, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> NetworkSpec:
        """Read a spec that `save` wrote."""
        tree = json.loads(path.read_text(encoding="utf-8"))["spec"]
        counts = tree["exemplar_counts"]
        return cls(
            network=tree["network"],
            image_shape=tuple(tree["image_shape"]),
            class_ids=tuple(tree["class_ids"]),
            z_dim=tree["z_dim"],
            width=tree["width"],
            exemplar_counts=None if counts is None else tuple(counts),
        )


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
