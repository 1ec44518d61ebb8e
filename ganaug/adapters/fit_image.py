"""Bringing a synthetic image to the size, channels and dtype of another image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from ganaug.errors import TransformError

if TYPE_CHECKING:
    # Not at run time: it brings pandas, which making images does without.
    from ganaug.dataset import Images

Image = npt.NDArray[Any]
"""(H, W) or (H, W, C), uint8 or float32 in 0..1: what albumentations works on."""
_UINT8, _FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)
_SLACK = 0.01
"""By how much interpolation may have left 0..1."""


def fit(made: Images, like: Image) -> Image:
    """Bring a synthetic image to the size, channels and dtype of another.

    Sides that shrink are averaged over areas, those that grow are interpolated. A grey image goes on all
    of three channels; an RGB image becomes grey by its luminance.

    Args:
        made: (h, w, c) uint8.
        like: An image that `check` lets pass.

    Returns:
        An array of the shape and dtype of `like`; float32 lies in 0..1.
    """
    if made.shape == like.shape and like.dtype == _UINT8:
        return made
    height, width = like.shape[:2]
    channels = _channels(like)
    fitted: Image = made
    if channels == 1 and made.shape[2] == 3:
        fitted = cv2.cvtColor(fitted, cv2.COLOR_RGB2GRAY)
    if made.shape[:2] != (height, width):
        smaller = (min(width, made.shape[1]), min(height, made.shape[0]))
        fitted = cv2.resize(fitted, smaller, interpolation=cv2.INTER_AREA)
        fitted = cv2.resize(fitted, (width, height), interpolation=cv2.INTER_LINEAR)
    if channels == 3 and made.shape[2] == 1:
        fitted = cv2.cvtColor(fitted, cv2.COLOR_GRAY2RGB)
    if like.dtype == _FLOAT32:
        fitted = fitted / np.float32(255)
    return fitted.reshape(like.shape)


def check(image: Any, made_channels: int) -> None:
    """See that a synthetic image of so many channels can be brought to an image.

    Raises:
        TransformError: It is no array of a fitting dtype, range and number of channels.
    """
    if not isinstance(image, np.ndarray) or image.dtype not in (_UINT8, _FLOAT32):
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise TransformError(
            f"GanSample takes numpy arrays of uint8, or of float32 in 0..1, got {kind}; "
            "place it before Normalize and ToTensorV2"
        )
    channels = _channels(image)
    if image.ndim not in (2, 3) or not (channels == made_channels or {channels, made_channels} == {1, 3}):
        raise TransformError(
            f"GanSample was given an image of shape {image.shape}, and its model makes {made_channels} channel(s); "
            "(H, W), (H, W, 1) and (H, W, 3) go with grey and RGB models, others with their own number alone"
        )
    if image.dtype == _FLOAT32 and image.size:
        low, high = image.min(), image.max()
        # Said so that no number (NaN) is refused too.
        if not (low >= -_SLACK and high <= 1 + _SLACK):
            raise TransformError(
                f"GanSample takes float32 images in 0..1, got {low:.3g} to {high:.3g}; "
                "place it before Normalize, or divide by 255"
            )


def _channels(image: Image) -> int:
    return 1 if image.ndim == 2 else int(image.shape[-1])
