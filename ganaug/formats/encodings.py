"""Encodings: a batch of images to bytes, many at a time, and one image back."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ganaug.card import MAX_SIDE_PX
from ganaug.errors import MissingExtraError, UnreadableImageError

if TYPE_CHECKING:
    from ganaug.dataset import Images


@dataclass(frozen=True)
class Encoding:
    """One way to turn images into bytes; the same images give the same bytes.

    Attributes:
        suffix: What file names end with, dot included.
        channels: Numbers of channels that it can hold.
        lossless_from: Lowest quality that keeps every pixel; None where none does.
        encode: (n, H, W, C) uint8 and a quality of 1 (small) to 100 (good) to n files; lossless
            encodings make nothing of the quality.
    """

    suffix: str
    channels: tuple[int, ...]
    lossless_from: int | None
    encode: Callable[[Images, int], list[bytes]]

    def is_lossless(self, quality: int) -> bool:
        """Whether `decode` gives back the very pixels."""
        return self.lossless_from is not None and quality >= self.lossless_from


def decode(content: bytes) -> Images:
    """(H, W, C) uint8 image out of a file of any of the encodings; grey has C = 1.

    Raises:
        UnreadableImageError: It is damaged, larger than any generator makes, or no image.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_READ) as image:
            # A few bytes can claim gigabytes.
            if max(image.size) > MAX_SIDE_PX:
                raise ValueError(f"{image.width:,} x {image.height:,} px")
            pixels = np.array(image)
    except Exception as error:
        # Damaged files reach anything inside Pillow's codecs.
        raise UnreadableImageError(f"{len(content):,} bytes are no readable image: {error}") from error
    if pixels.dtype != np.uint8:
        raise UnreadableImageError(f"{len(content):,} bytes are an image of {pixels.dtype}, not of 8 bit")
    return pixels if pixels.ndim == 3 else pixels[..., None]


_READ = ("PNG", "JPEG", "WEBP", "TIFF")
"""What is written below; each further codec is code that hostile files can reach."""


_PNG_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
_PNG_UP = 2
_FLAT = 0.5
_PNG_IDAT_CRC = zlib.crc32(b"IDAT")


def _png(images: Images, _quality: int) -> list[bytes]:
    """PNG with the Up filter on every row: one subtraction for the whole batch.

    What is left per image is one call that compresses, without the GIL.

    Source:
        PNG specification, third edition (W3C 2025), sections 5 and 9.2.
    """
    n, height, width, channels = images.shape
    rows = images.reshape(n, height, width * channels)
    filtered = np.empty((n, height, 1 + width * channels), np.uint8)
    filtered[:, :, 0] = _PNG_UP
    filtered[:, 0, 1:] = rows[:, 0]
    np.subtract(rows[:, 1:], rows[:, :-1], out=filtered[:, 1:, 1:])

    size = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOUR_TYPES[channels], 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", size)
    end = _png_chunk(b"IEND", b"")
    crc32, uint32 = zlib.crc32, struct.Struct(">I").pack
    # Where most filtered bytes are 0, runs of them are worth looking for.
    is_flat = (filtered == 0).mean(axis=(1, 2)) > _FLAT
    strategies = np.where(is_flat, zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY).tolist()
    streams = map(_png_stream, filtered, strategies)
    return [
        b"".join((head, uint32(len(data)), b"IDAT", data, uint32(crc32(data, _PNG_IDAT_CRC)), end))
        for data in streams
    ]


def _png_stream(filtered: Images, strategy: int) -> bytes:
    # A Huffman code alone: on filtered pixels smaller than with a search for repetitions (1,210
    # bytes an image where level 1 takes 1,424), in half the time. isal is faster still, but with
    # it the same image is not always the same bytes.
    stream = zlib.compressobj(1, zlib.DEFLATED, strategy=strategy)
    return stream.compress(filtered.data) + stream.flush()


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _jpeg(images: Images, quality: int) -> list[bytes]:
    """JPEG with colours at full resolution: at 32 px, halving them smears whole objects."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("JPEG encoding", "data") from error
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    bgr = np.ascontiguousarray(images[..., ::-1])
    return [cv2.imencode(".jpg", image, settings)[1].tobytes() for image in bgr]


def _webp(images: Images, quality: int) -> list[bytes]:
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "WEBP", quality=quality, lossless=quality == 100, method=0)
        files.append(file.getvalue())
    return files


def _raw(images: Images, _quality: int) -> list[bytes]:
    """Uncompressed TIFF: the pixels behind a header that all images of one shape share."""
    header = _tiff_header(*images.shape[1:])
    return [b"".join((header, image)) for image in np.ascontiguousarray(images)]


def _tiff_header(height: int, width: int, channels: int) -> bytes:
    """Everything in front of the pixels.

    Source:
        TIFF 6.0 (Adobe 1992), sections 2 and 6.
    """
    short, long = 3, 4
    entries = 11 if channels == 4 else 10
    bits_at = 8 + 2 + 12 * entries + 4
    pixels_at = bits_at + 2 * channels
    tags = [
        (256, long, 1, width),
        (257, long, 1, height),
        # Bits per sample: a value that fits into four bytes stands here itself.
        (258, short, channels, 8 if channels == 1 else bits_at),
        (259, short, 1, 1),  # not compressed
        (262, short, 1, 1 if channels == 1 else 2),  # 0 is black, or RGB
        (273, long, 1, pixels_at),
        (277, short, 1, channels),
        (278, long, 1, height),  # one strip holds all rows
        (279, long, 1, height * width * channels),
        (284, short, 1, 1),  # channels interleaved
        (338, short, 1, 2),  # the fourth channel is alpha, not multiplied in
    ][:entries]
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    bits = struct.pack(f"<{channels}H", *[8] * channels)
    return b"II*\0" + struct.pack("<IH", 8, entries) + directory + bytes(4) + bits


ENCODINGS: dict[str, Encoding] = {
    "png": Encoding(".png", (1, 3, 4), 1, _png),
    "jpeg": Encoding(".jpg", (1, 3), None, _jpeg),
    # RGB alone: WebP has no grey, and drops an alpha channel that is opaque all over.
    "webp": Encoding(".webp", (3,), 100, _webp),
    "raw": Encoding(".tif", (1, 3, 4), 1, _raw),
}
"""Every encoding by its name in the settings."""
