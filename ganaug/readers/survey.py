"""Size and channels for `auto`, from the headers of the images."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ganaug.config import DataConfig, height_width
from ganaug.errors import UnreadableImageError
from ganaug.readers import decode
from ganaug.readers.source import Header, Load, Source

SAMPLE_RUNS, RUN_LENGTH = 32, 32
"""How many images are looked at first: runs of neighbours, spread evenly over the source."""

KEPT_PX = (8, 64)
"""When all images share a size with sides in this range, it is kept."""

LARGEST_AUTO_PX = 32
"""What larger images are brought to: GANs train in minutes at this size, in hours above it."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What the images are to be brought to.

    Attributes:
        target: For decoding.
        expected_size: (height, width) px that every image must have for `target` to be right.
        expects_grey: Whether every image must be grey for `target` to be right.
        notes: How `auto` was settled.
    """

    target: decode.Target
    expected_size: tuple[int, int] | None
    expects_grey: bool
    notes: tuple[str, ...]

    def is_contradicted_by(self, header: Header) -> bool:
        """Whether an image, met later, shows that the sample misled."""
        size = self.expected_size
        is_other = size is not None and (header.height, header.width) != size
        return is_other or (self.expects_grey and not header.is_grey)


def survey(source: Source, config: DataConfig, *, previews: bool, whole: bool) -> Survey:
    """Look at headers, of a sample or of all images, and settle what `auto` means.

    Args:
        source: The listed images.
        config: `size`, `channels` and how to decode.
        previews: Whether previews are wanted, when the images are large enough to need them.
        whole: Look at every image, not at a sample.
    """
    rows = range(len(source.items)) if whole else sample_rows(len(source.items))
    headers = [source.uniform] if source.uniform is not None else _headers(source, config, rows)
    if not headers and not whole:
        return survey(source, config, previews=previews, whole=True)
    # Nothing can be read: any target will do to collect the reasons.
    headers = headers or [Header(LARGEST_AUTO_PX, LARGEST_AUTO_PX, False)]
    sizes = {(header.height, header.width) for header in headers}
    notes = []
    expected_size = None
    if config.size != "auto":
        height, width = height_width(config.size)
    elif len(sizes) == 1 and all(KEPT_PX[0] <= side <= KEPT_PX[1] for side in next(iter(sizes))):
        height, width = expected_size = next(iter(sizes))
    else:
        height = width = _square_px(headers)
        notes.append(_size_note(headers, height))
        expected_size = next(iter(sizes)) if len(sizes) == 1 else None
    are_grey = all(header.is_grey for header in headers)
    channels = (1 if are_grey else 3) if config.channels == "auto" else int(config.channels)
    median_px = statistics.median(min(header.height, header.width) for header in headers)
    target = decode.Target(
        height,
        width,
        channels,
        config.fit,
        config.white_16bit,
        config.max_pixels,
        # Below half the preview's side the images themselves show as much.
        has_preview=previews and median_px > decode.PREVIEW_PX / 2,
    )
    return Survey(target, expected_size, config.channels == "auto" and are_grey, tuple(notes))


def sample_rows(count: int) -> Sequence[int]:
    """Rows of the sample, ascending: neighbours, so that a sequential source can skip the rest."""
    if count <= SAMPLE_RUNS * RUN_LENGTH:
        return range(count)
    starts = [k * (count - RUN_LENGTH) // (SAMPLE_RUNS - 1) for k in range(SAMPLE_RUNS)]
    return sorted({start + step for start in starts for step in range(RUN_LENGTH)})


def _headers(source: Source, config: DataConfig, rows: Sequence[int]) -> list[Header]:
    def look(load: Load) -> Header | None:
        try:
            return decode.read_header(load(), config.max_pixels)
        except UnreadableImageError:
            # Met again, and listed with its reason, when it is decoded.
            return None

    found = (look(load) for _, load in source.payloads(rows))
    return [header for header in found if header is not None]


def _square_px(headers: Sequence[Header]) -> int:
    median_px = statistics.median(min(header.height, header.width) for header in headers)
    # The largest power of two that is not above the median.
    below = 1 << (max(int(median_px), 1).bit_length() - 1)
    return min(max(below, KEPT_PX[0]), LARGEST_AUTO_PX)


def _size_note(headers: Sequence[Header], side_px: int) -> str:
    shorts = sorted(min(header.height, header.width) for header in headers)
    return (
        f"images are brought to {side_px}x{side_px} px: their shorter sides are {shorts[0]} to {shorts[-1]} px, "
        f"{statistics.median(shorts):g} in the middle (--data.size chooses another size)"
    )
