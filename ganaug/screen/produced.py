"""Screening what a run produced for one class: tables and images on disk, flat memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ganaug.dataset import Images
from ganaug.errors import DatasetError
from ganaug.progress import Progress, silent
from ganaug.screen.looks import REASONS, Bools, Looks, Reasons
from ganaug.screen.screener import ClassScreen

if TYPE_CHECKING:
    import pyarrow as pa

SCREENER = "screener"
"""The part of a run's step `screen` in which the screener lies."""
EXAMPLES_PER_REASON = 16
SCREENED_FILE = "screened.parquet"
KEPT_FILE = "kept.npy"
REJECTED_FILE, REJECTED_INDEX_FILE = "rejected.npy", "rejected.parquet"
BATCH = 512
"""Images that are looked at together."""
GROUP_ROWS = 65_536
"""Rows of the table that are written together."""


def screen_class(
    images: Iterable[Images],
    manifest: pd.DataFrame,
    screen: ClassScreen,
    folder: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Screen the synthetic images of one class.

    Args:
        images: Shards, each (n, H, W, C) uint8, in the order of `manifest`.
        manifest: One row per synthetic image; its columns are carried over.
        screen: The screen of the class, with nothing kept yet.
        folder: Gets `screened.parquet`, `kept.npy`, `rejected.npy` and `rejected.parquet`.
        progress: Told the images done and to do.

    Returns:
        The summary: `made`, `kept`, `rejected` (count by reason), `right_label_rate` (share of
        images that all classifiers call by the label, with whatever confidence).

    Raises:
        DatasetError: Images and manifest do not fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    right = done = 0
    with (
        _ImageFile(folder / KEPT_FILE, screen.image_shape) as kept,
        _Table(folder / SCREENED_FILE, manifest) as table,
    ):
        examples = _Examples(screen.image_shape)
        for batch in _batches(images, len(manifest)):
            looks = screen.look(batch)
            reasons = screen.decide(looks)
            rows = _verdicts(manifest, done, looks, reasons)
            kept.write(batch[reasons == ""])
            table.write(rows)
            examples.take(batch, rows, reasons)
            counts.update(reasons.tolist())
            right += int(looks.right_label.sum())
            done += len(batch)
            progress(done, len(manifest))
        if done != len(manifest):
            raise DatasetError(
                f"the shards hold {done} images and the manifest {len(manifest)}; produce them again"
            )
    examples.write(folder, table.empty())
    return {
        "made": done,
        "kept": counts[""],
        "rejected": {reason: counts[reason] for reason in REASONS},
        "right_label_rate": round(right / done, 4) if done else 0.0,
    }


class _ImageFile:
    """Writes (N, H, W, C) uint8 images to a .npy file bit by bit; how many is known at the end."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self._path, self._shape, self._count = path, shape, 0

    def __enter__(self) -> _ImageFile:
        self._file: IO[bytes] = self._path.open("wb")
        self._write_header()
        return self

    def write(self, images: Images) -> None:
        self._file.write(np.ascontiguousarray(images).tobytes())
        self._count += len(images)

    def __exit__(self, *_: object) -> None:
        # numpy leaves room in the header for a first axis that grows.
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        shape = (self._count, *map(int, self._shape))
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)


class _Table:
    """Writes the manifest with the verdicts, a group of rows at a time."""

    def __init__(self, path: Path, manifest: pd.DataFrame) -> None:
        import pyarrow.parquet as pq

        self._schema = _schema(manifest)
        self._waiting: list[pa.Table] = []
        self._writer = pq.ParquetWriter(path, self._schema)

    def __enter__(self) -> _Table:
        return self

    def write(self, rows: pd.DataFrame) -> None:
        import pyarrow as pa

        self._waiting.append(pa.Table.from_pandas(rows, schema=self._schema, preserve_index=False))
        if sum(map(len, self._waiting)) >= GROUP_ROWS:
            self._flush()

    def empty(self) -> pd.DataFrame:
        frame: pd.DataFrame = self._schema.empty_table().to_pandas()
        return frame

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting.clear()


class _Examples:
    """The first few rejected images of each reason."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._images: dict[str, list[Images]] = {reason: [] for reason in REASONS}
        self._rows: dict[str, list[pd.DataFrame]] = {reason: [] for reason in REASONS}
        self._nothing = np.zeros((0, *shape), np.uint8)

    def take(self, batch: Images, rows: pd.DataFrame, reasons: Reasons) -> None:
        for reason in REASONS:
            missing = EXAMPLES_PER_REASON - sum(map(len, self._rows[reason]))
            chosen = np.flatnonzero(reasons == reason)[:missing]
            if len(chosen):
                self._images[reason].append(batch[chosen])
                self._rows[reason].append(rows.iloc[chosen])

    def write(self, folder: Path, empty: pd.DataFrame) -> None:
        images = [part for reason in REASONS for part in self._images[reason]]
        rows = [part for reason in REASONS for part in self._rows[reason]]
        np.save(folder / REJECTED_FILE, np.concatenate([*images, self._nothing]))
        index = pd.concat(rows, ignore_index=True) if rows else empty
        index.to_parquet(folder / REJECTED_INDEX_FILE, index=False)


def _verdicts(manifest: pd.DataFrame, start: int, looks: Looks, reasons: Reasons) -> pd.DataFrame:
    """The manifest's rows from `start` on, with kept, reason and what was seen."""
    rows = manifest.iloc[start : start + len(reasons)].reset_index(drop=True)
    kept: Bools = reasons == ""
    return rows.assign(kept=kept, reason=reasons, **looks.columns())


def _schema(manifest: pd.DataFrame) -> pa.Schema:
    import pyarrow as pa

    own = {
        "kept": pa.bool_(),
        "reason": pa.string(),
        "confidence": pa.float32(),
        "right_label": pa.bool_(),
        "realism": pa.float32(),
        "real_distance": pa.float32(),
        "nearest_real": pa.int64(),
        "cluster": pa.int16(),
    }
    carried = [
        field for field in pa.Schema.from_pandas(manifest, preserve_index=False) if field.name not in own
    ]
    return pa.schema([*carried, *own.items()])


def _batches(shards: Iterable[Images], expected: int) -> Iterator[Images]:
    seen = 0
    for shard in shards:
        for start in range(0, len(shard), BATCH):
            batch = np.ascontiguousarray(shard[start : start + BATCH])
            seen += len(batch)
            if seen > expected:
                raise DatasetError(
                    f"the shards hold more images than the {expected} of the manifest; produce them again"
                )
            yield batch
