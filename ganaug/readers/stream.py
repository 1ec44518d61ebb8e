"""The one loop that decodes a source into an array on disk, in bounded memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from ganaug.cores import cores
from ganaug.dataset import Images
from ganaug.errors import UnreadableImageError
from ganaug.progress import Progress
from ganaug.readers import decode
from ganaug.readers.source import Held, Load, Source
from ganaug.readers.survey import Survey

# Images that a thread decodes at a time: enough to make handing over cheap, few enough that
# the encoded files that wait stay small beside the decoded ones.
_BATCH_IMAGES = 32
_BATCH_BYTES = 4 * 2**20

# Rows moved at a time when unreadable ones are closed up.
_MOVE_BYTES = 8 * 2**20


class MisledError(Exception):
    """An image contradicts what the sample of headers promised; never leaves this package."""


@dataclass
class Rows:
    """What decoding found out, one entry per item of the source.

    Attributes:
        sha256: Of the encoded file, or of the pixels; empty for an unreadable one.
        height: Original pixels, upright.
        width: Original pixels, upright.
        reasons: Row to reason, for the unreadable ones.
    """

    sha256: list[str]
    height: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]
    reasons: dict[int, str]

    @property
    def is_read(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the row has an image."""
        return np.array([bool(sha256) for sha256 in self.sha256], bool)


class RowsFile:
    """A .npy file of uint8 rows that is written in any order and shortened at the end.

    Plain writes, not a map: mapped pages that are still to be written count as used memory.
    """

    def __init__(self, path: Path, rows: int, shape: tuple[int, ...]) -> None:
        self.path, self.rows, self.shape = path, rows, shape
        self.row_bytes = int(np.prod(shape))
        self._file = path.open("w+b")
        self._start = self._write_header()

    def __enter__(self) -> Self:
        """The file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; a file that was not finished is removed."""
        self._file.close()
        if error is not None:
            self.path.unlink(missing_ok=True)

    def put(self, rows: Sequence[int], block: Images) -> None:
        """Write a block of images at these ascending rows, neighbours in one piece."""
        start = 0
        for k in range(1, len(rows) + 1):
            if k == len(rows) or rows[k] != rows[k - 1] + 1:
                self._file.seek(self._start + rows[start] * self.row_bytes)
                self._file.write(np.ascontiguousarray(block[start:k]).data)
                start = k

    def keep(self, is_kept: npt.NDArray[np.bool_]) -> None:
        """Close up to these rows, in order, and finish the file."""
        kept = np.flatnonzero(is_kept)
        if len(kept) < self.rows:
            step = max(1, _MOVE_BYTES // self.row_bytes)
            for start in range(0, len(kept), step):
                self._move(kept[start : start + step], start)
            self.rows = len(kept)
            self._write_header()
        self._file.flush()
        self._file.truncate(self._start + self.rows * self.row_bytes)

    def _move(self, rows: npt.NDArray[np.int64], to: int) -> None:
        if rows[0] == to and rows[-1] == to + len(rows) - 1:
            return
        # Rows only move towards the front, so that reading stays ahead of writing.
        self._file.seek(self._start + int(rows[0]) * self.row_bytes)
        span = self._file.read((int(rows[-1]) - int(rows[0]) + 1) * self.row_bytes)
        block = np.frombuffer(span, np.uint8).reshape(-1, self.row_bytes)[rows - rows[0]]
        self._file.seek(self._start + to * self.row_bytes)
        self._file.write(block.data)

    def _write_header(self) -> int:
        """Write the header; numpy pads it so that its length does not depend on the rows."""
        self._file.seek(0)
        shape = (self.rows, *self.shape)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()


def decode_all(
    source: Source,
    survey: Survey,
    images: RowsFile,
    previews: RowsFile | None,
    workers: int,
    progress: Progress,
) -> Rows:
    """Decode every item into its row.

    Args:
        source: Gives the payloads.
        survey: What they are brought to.
        images: Gets (H, W, C) rows; those of unreadable items are left as they are.
        previews: Gets (96, 96) rows, if wanted.
        workers: Threads; 0 means one per core. Pillow's codecs and hashing run in parallel.
        progress: Hears of the images done.

    Raises:
        MisledError: An image contradicts the survey.
    """
    total = len(source.items)
    sizes = np.zeros((2, total), np.int64)
    rows = Rows([""] * total, sizes[0], sizes[1], {})
    workers = workers or cores()
    done = 0
    for batch in _in_parallel(source, survey, workers):
        images.put(batch.rows, batch.images)
        if previews is not None and batch.previews is not None:
            previews.put(batch.rows, batch.previews)
        for row, (sha256, height, width) in zip(batch.rows, batch.facts, strict=True):
            rows.sha256[row], rows.height[row], rows.width[row] = sha256, height, width
        rows.reasons.update(batch.reasons)
        done += len(batch.rows) + len(batch.reasons)
        progress(done, total)
    for row in range(total):
        if not rows.sha256[row]:
            rows.reasons.setdefault(row, "was not found again when it was to be read")
    return rows


def copy_rows(images: Images, rows: npt.NDArray[np.int64], path: Path) -> None:
    """Write these rows of (N, H, W, C) mapped images into a .npy file of their own, in bounded memory."""
    with RowsFile(path, len(rows), images.shape[1:]) as file:
        step = max(1, _MOVE_BYTES // file.row_bytes)
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            file.put(range(start, start + len(block)), images[block])
        file.keep(np.ones(len(rows), bool))


@dataclass
class _Batch:
    rows: list[int]
    images: Images
    previews: Images | None
    facts: list[tuple[str, int, int]]
    reasons: dict[int, str]


def _in_parallel(source: Source, survey: Survey, workers: int) -> Iterator[_Batch]:
    """Decoded batches in order, with no more than two per thread waiting."""
    waiting: deque[Future[_Batch]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for batch in _batches(source):
                waiting.append(pool.submit(_decode_batch, batch, survey))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # After Ctrl-C or an error nobody wants the rest.
            pool.shutdown(wait=True, cancel_futures=True)


def _batches(source: Source) -> Iterator[list[tuple[int, Load]]]:
    batch: list[tuple[int, Load]] = []
    held_bytes = 0
    for one in source.payloads(range(len(source.items))):
        batch.append(one)
        held_bytes += len(one[1].data) if isinstance(one[1], Held) else 0
        if len(batch) == _BATCH_IMAGES or held_bytes >= _BATCH_BYTES:
            yield batch
            batch, held_bytes = [], 0
    if batch:
        yield batch


def _decode_batch(batch: list[tuple[int, Load]], survey: Survey) -> _Batch:
    target = survey.target
    rows: list[int] = []
    facts: list[tuple[str, int, int]] = []
    reasons: dict[int, str] = {}
    images = np.empty((len(batch), target.height, target.width, target.channels), np.uint8)
    side = decode.PREVIEW_PX
    previews = np.empty((len(batch), side, side), np.uint8) if target.has_preview else None
    # By row: a source that is read from front to back gives them in its own order.
    for row, load in sorted(batch, key=lambda one: one[0]):
        try:
            payload = load()
            decoded = decode.decode(payload, target)
        except UnreadableImageError as error:
            reasons[row] = str(error)
            continue
        if survey.is_contradicted_by(decoded.header):
            raise MisledError
        images[len(rows)] = decoded.image
        if previews is not None and decoded.preview is not None:
            previews[len(rows)] = decoded.preview
        data = payload if isinstance(payload, bytes) else np.ascontiguousarray(payload).data
        facts.append((hashlib.sha256(data).hexdigest(), decoded.header.height, decoded.header.width))
        rows.append(row)
    count = len(rows)
    return _Batch(rows, images[:count], None if previews is None else previews[:count], facts, reasons)
