"""How a sampler's X holds images, and the way to uint8 (N, H, W, C) and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ganaug.errors import DatasetError

if TYPE_CHECKING:
    # Not at run time: it brings pandas, which a sampler with a model does without.
    from ganaug.dataset import Images

MAX_PX = 256


@dataclass(frozen=True)
class Pixels:
    """The shape of the images in X, and their white.

    Attributes:
        shape: (height, width, channels).
        white: The value that is white; black is 0.
    """

    shape: tuple[int, int, int]
    white: float

    @classmethod
    def of(cls, values: npt.NDArray[Any], image_shape: Sequence[int] | None, white: float | None) -> Self:
        """Read how these (N, H, W, C), (N, H, W) or (N, H * W * C) values hold images.

        Args:
            values: X, dense.
            image_shape: (height, width[, channels]); may be None where `values` has such a shape.
            white: None is 255 in integers and 1 in floats and truth values.

        Raises:
            DatasetError: They do not fit that shape, or hold something else than 0 to white.
        """
        found = None if values.ndim == 2 else _whole_shape(values.shape[1:])
        shape = found if found is not None and image_shape is None else _whole_shape(image_shape)
        if found not in {None, shape}:
            raise DatasetError(f"X holds images of {found}, and image_shape says {shape}; leave it out")
        if values[0].size != math.prod(shape):
            raise DatasetError(
                f"X has {values[0].size} columns, and images of image_shape {shape} are {math.prod(shape)} values each"
            )
        is_integer = np.issubdtype(values.dtype, np.integer)
        chosen = float(white) if white is not None else 255.0 if is_integer else 1.0
        _check_range(values, chosen, "integers" if is_integer else "floats")
        return cls(shape, chosen)

    def images(self, values: npt.NDArray[Any]) -> Images:
        """(N, H, W, C) uint8 of the values in X."""
        if values.dtype != np.uint8 or self.white != 255.0:
            values = np.rint(values.astype(np.float32) * (255.0 / self.white)).astype(np.uint8)
        return values.reshape(-1, *self.shape)

    def given(self, images: npt.NDArray[Any], like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(N, H, W, C) uint8 images as rows of X, in its shape, kind and range."""
        values = images.reshape(-1, *like.shape[1:]) * (self.white / 255.0)
        return values if np.issubdtype(like.dtype, np.floating) else np.rint(values)


def _whole_shape(shape: Sequence[int] | None) -> tuple[int, int, int]:
    """(height, width, channels) of what was given with or without channels."""
    whole = tuple(shape) if shape is not None else ()
    whole = (*whole, 1) if len(whole) == 2 else whole
    if (
        len(whole) != 3
        or not all(isinstance(side, (int, np.integer)) for side in whole)
        or not (1 <= min(whole[:2]) <= max(whole[:2]) <= MAX_PX)
        or whole[2] not in {1, 3, 4}
    ):
        raise DatasetError(
            f"images of {shape} cannot be used: X is (N, H, W), (N, H, W, C), or (N, H * W * C) with an image_shape of "
            f"(H, W) or (H, W, C); sides go up to {MAX_PX} px, channels are 1, 3 or 4 and stand last"
        )
    return int(whole[0]), int(whole[1]), int(whole[2])


def _check_range(values: npt.NDArray[Any], white: float, kind: str) -> None:
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > white:
        raise DatasetError(
            f"X holds {kind} from {low:g} to {high:g}, and images are 0 (black) to {white:g} (white). Integers are taken as "
            "0 to 255 and floats as 0 to 1: say otherwise with white=, as white=255 for floats up to 255, and move or "
            "clip what is negative."
        )
