"""Bytes of one image file to uint8 pixels of the wanted shape, with Pillow."""

from __future__ import annotations

import contextlib
import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from ganaug.dataset import Images
from ganaug.errors import UnreadableImageError
from ganaug.readers.source import Header, Payload

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "DIB")
"""All that is decoded: each further codec is code that hostile files can reach."""

PREVIEW_PX = 96
"""Side of the grey previews that near-duplicates are searched in."""

# JPEGs are shrunk while decoding, but never below twice the preview: what is decoded must not
# depend on whether previews are wanted, and scaling by 2 or more leaves no trace of it.
_DRAFT_PX = 2 * PREVIEW_PX

# Pillow promises OSError, but damaged files reach all of these inside its codecs.
_CODEC_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    MemoryError,
    AssertionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_KEYS = ("exif", "Raw profile type exif", "Raw profile type APP1", "xmp", "XML:com.adobe.xmp")

_MODES: dict[int, str] = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, slots=True)
class Target:
    """What every image is brought to.

    Attributes:
        height: Pixels.
        width: Pixels.
        channels: 1 grey, 3 RGB, 4 RGBA.
        fit: `stretch` changes proportions, `crop` cuts the longer side about the centre, `pad`
            repeats the pixels of the edge.
        white_16bit: Value of 16-bit images that becomes 255.
        max_pixels: Larger images are refused before they are decoded.
        has_preview: Whether grey previews are made as well.
    """

    height: int
    width: int
    channels: int
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    white_16bit: int = 65535
    max_pixels: int = 64_000_000
    has_preview: bool = False


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image: (H, W, C) uint8, its (96, 96) uint8 grey preview if wanted, its own header."""

    image: Images
    preview: Images | None
    header: Header


@contextlib.contextmanager
def pillow_set_up(max_pixels: int) -> Iterator[None]:
    """Pillow's process-wide switches as decoding needs them, while the block runs.

    Its own limit follows `max_pixels`, truncated files are errors whatever the host program
    chose, and its warnings are off: every file that matters is reported with a reason.
    """
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = max_pixels, False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def read_header(payload: Payload, max_pixels: int) -> Header:
    """Upright size and greyness of an image, without decoding its pixels.

    Raises:
        UnreadableImageError: Not an image of a known format, or too large.
    """
    if not isinstance(payload, bytes):
        return _array_header(payload)
    try:
        with _open(payload, max_pixels) as image:
            turned = _EXIF_KEYS[0] in image.info and image.getexif().get(_ORIENTATION, 1) in {5, 6, 7, 8}
            height, width = (image.width, image.height) if turned else (image.height, image.width)
            return Header(height, width, _is_grey(image))
    except _CODEC_ERRORS as error:
        raise _unreadable(error) from error


def decode(payload: Payload, target: Target) -> Decoded:
    """Bring one image to the target's shape.

    An image that has the size already keeps its pixels exactly.

    Raises:
        UnreadableImageError: Damaged, too large, or of a kind that has no 8-bit meaning.
    """
    try:
        if not isinstance(payload, bytes):
            header = _array_header(payload)
            shape = (target.height, target.width, target.channels)
            if payload.shape in (shape, shape[: 2 + (target.channels > 1)]) and not target.has_preview:
                return Decoded(payload.reshape(shape), None, header)
            return _finish(_from_array(payload), header, target)
        with _open(payload, target.max_pixels) as opened:
            is_grey, size = _is_grey(opened), opened.size
            # A no-op for all but JPEG, and for JPEGs that are not at least twice as large.
            opened.draft(None, (max(2 * target.width, _DRAFT_PX), max(2 * target.height, _DRAFT_PX)))
            opened.load()
            if opened.width * opened.height > target.max_pixels:
                raise UnreadableImageError("grows while it is decoded beyond data.max_pixels")
            image, is_turned = _turn_upright(opened)
            width, height = (size[1], size[0]) if is_turned else size
            return _finish(_to_8bit(image, target.white_16bit), Header(height, width, is_grey), target)
    except _CODEC_ERRORS as error:
        raise _unreadable(error) from error


def to_8bit(values: npt.NDArray[np.generic], white: float) -> Images:
    """Scale so that 0 is black and `white` becomes 255; what lies outside is clipped."""
    scaled = np.asarray(values, np.float32) * np.float32(255.0 / white)
    pixels: Images = np.clip(scaled + np.float32(0.5), 0, 255).astype(np.uint8)
    return pixels


def _open(payload: bytes, max_pixels: int) -> ImageFile.ImageFile:
    if not payload:
        raise UnreadableImageError("is empty (0 bytes)")
    image = Image.open(io.BytesIO(payload), formats=FORMATS)
    if image.width * image.height > max_pixels:
        raise UnreadableImageError(
            f"has {image.width:,} x {image.height:,} pixels, more than data.max_pixels ({max_pixels:,})"
        )
    return image


def _unreadable(error: BaseException) -> UnreadableImageError:
    if isinstance(error, UnreadableImageError):
        return error
    if isinstance(error, Image.DecompressionBombError):
        return UnreadableImageError("has far more pixels than data.max_pixels: a decompression bomb")
    if isinstance(error, UnidentifiedImageError):
        return UnreadableImageError(
            "is not an image of a format that is read (PNG, JPEG, BMP, GIF, TIFF, WebP, PPM)"
        )
    if isinstance(error, MemoryError):
        return UnreadableImageError("needs more memory to decode than there is")
    return UnreadableImageError(f"is damaged: {str(error) or type(error).__name__}")


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P" and image.palette is not None and "transparency" not in image.info:
        mode, colours = image.palette.getdata()
        step = len(mode.split(";")[0])
        table = np.frombuffer(colours, np.uint8)[: len(colours) // step * step].reshape(-1, step)[:, :3]
        return bool(len(table)) and bool((table == table[:, :1]).all())
    return image.mode in {"1", "L", "LA", "La", "I"} or image.mode.startswith("I;16")


def _turn_upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """Apply the camera's orientation; True when that swapped height and width."""
    if image.format == "TIFF":
        # Pillow turns TIFFs itself while loading, and then no longer reports the tag.
        return image, False
    if not any(key in image.info for key in _EXIF_KEYS):
        return image, False
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _CODEC_ERRORS:
        # Damaged EXIF says nothing about the pixels, which decoded well.
        return image, False
    turn = _UPRIGHT.get(orientation)
    return (image, False) if turn is None else (image.transpose(turn), orientation >= 5)


def _to_8bit(image: Image.Image, white_16bit: int) -> Image.Image:
    """One of the modes L, RGB, RGBA."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(to_8bit(np.asarray(image), white_16bit))
    if image.mode == "F":
        raise UnreadableImageError(
            "has floating-point pixels, whose black and white are not known; save it as 8 or 16 bit"
        )
    if image.mode == "LAB":
        raise UnreadableImageError("is in CIE Lab colours; save it as RGB")
    if "transparency" in image.info or image.mode in {"LA", "La", "PA", "RGBa"}:
        if image.mode == "La":
            image = image.convert("LA")
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P":
        return image.convert("L" if _is_grey(image) else "RGB")
    return image if image.mode in {"L", "RGB", "RGBA"} else image.convert("RGB")


def _array_header(pixels: Images) -> Header:
    return Header(pixels.shape[0], pixels.shape[1], pixels.ndim == 2 or pixels.shape[2] <= 2)


def _from_array(pixels: Images) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image.convert("RGBA") if image.mode == "LA" else image


def _finish(image: Image.Image, header: Header, target: Target) -> Decoded:
    mode = _MODES[target.channels]
    if image.mode != mode:
        image = image.convert("RGBA") if mode == "RGBA" else _on_white(image).convert(mode)
    preview = None
    if target.has_preview:
        grey = _on_white(image).convert("L")
        preview = np.asarray(_resize(grey, PREVIEW_PX, PREVIEW_PX, None))
    pixels = np.asarray(_fit(image, target))
    return Decoded(pixels.reshape(target.height, target.width, target.channels), preview, header)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image)
    return white.convert("RGB")


def _fit(image: Image.Image, target: Target) -> Image.Image:
    """Bring an image to the target's size in the target's way."""
    width, height = target.width, target.height
    if image.size == (width, height):
        return image
    if target.fit == "crop":
        scale = min(image.width / width, image.height / height)
        left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        box = max(left, 0.0), max(top, 0.0), image.width - max(left, 0.0), image.height - max(top, 0.0)
        return _resize(image, width, height, box)
    if target.fit == "pad":
        scale = min(width / image.width, height / image.height)
        inner_width = min(width, max(1, round(image.width * scale)))
        inner_height = min(height, max(1, round(image.height * scale)))
        pixels = np.asarray(_resize(image, inner_width, inner_height, None))
        below, right = height - inner_height, width - inner_width
        border = [(below // 2, below - below // 2), (right // 2, right - right // 2)]
        return Image.fromarray(np.pad(pixels, border + [(0, 0)] * (pixels.ndim - 2), mode="edge"))
    return _resize(image, width, height, None)


def _resize(
    image: Image.Image, width: int, height: int, box: tuple[float, float, float, float] | None
) -> Image.Image:
    if image.size == (width, height) and box is None:
        return image
    # Whole multiples are repeated pixels, which add no blur and no new grey levels.
    is_multiple = box is None and width % image.width == 0 and height % image.height == 0
    how = Image.Resampling.BOX if is_multiple else Image.Resampling.LANCZOS
    # Shrinking by much goes by whole factors first: as good, and many times as fast.
    shrink = min(image.width / width, image.height / height)
    return image.resize((width, height), how, box, reducing_gap=3.0 if math.ceil(shrink) > 3 else None)
