"""The stream from images to shards: made, looked at and encoded in threads, decided in order.

ONNX Runtime, the encoders and the hashes work outside Python's lock, so that a few threads keep
all cores at it; the thread that calls `run` only decides, in the order of the index. What waits
is bounded everywhere: memory is that of a few batches and shards, however many images are made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ganaug.formats import ENCODINGS, FORMATS, Shard
from ganaug.places import Place
from ganaug.produce import leftovers, manifest
from ganaug.produce.manifest import Piece
from ganaug.produce.order import ClassOrder, Unit, class_prefix, units
from ganaug.produce.source import Source
from ganaug.produce.tally import Tally
from ganaug.progress import Progress

if TYPE_CHECKING:
    from ganaug.dataset import Images

WRITES_AHEAD = 1
"""Shards that may wait for the disk while one is written and the next one is made."""
_KEPT = ""

Encoded = Any
"""The images of a batch as they are stored: an array, or bytes of each."""


class Looks(Protocol):
    """What a screen sees of a batch; arrays with one entry per image."""

    code: npt.NDArray[np.int8]

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """What the manifest keeps of it, by column: all but the code."""


class ClassScreen(Protocol):
    """Judges the images of one class; `ganaug.screen` has the real one."""

    def look(self, images: Images) -> Any:
        """See a batch; safe in several threads."""

    def decide(self, looks: Any) -> npt.NDArray[Any]:
        """(n,) the reason why each is rejected, empty for kept ones; called in order."""

    def restore(self, code: npt.NDArray[np.int8], cluster: npt.NDArray[np.int16]) -> None:
        """Take over what was kept before."""


@dataclass(frozen=True)
class Layout:
    """How images are written.

    Attributes:
        format: Name in `FORMATS`.
        encoding: Name in `ENCODINGS`; empty for arrays.
        quality: Of lossy encodings, 1 to 100.
        shard_images: Images that are tried for one shard.
    """

    format: str
    encoding: str
    quality: int
    shard_images: int

    @property
    def suffix(self) -> str:
        """Ending of an image's name."""
        return ENCODINGS[self.encoding].suffix if self.encoding else ""

    def encode(self, images: Images) -> Encoded:
        """Images as they are stored."""
        return ENCODINGS[self.encoding].encode(images, self.quality) if self.encoding else images


class _ClassWork:
    """A class on its way: what is wanted, what became of it so far."""

    def __init__(self, order: ClassOrder, address: str) -> None:
        self.order, self.address = order, address
        self.screen: ClassScreen | None = None
        self.tally = Tally(order.wanted, is_filled=not order.wanted)
        self.shards: dict[str, int] = {}
        """Files of each shard that is wanted, by its name."""


class _OpenUnit:
    """A shard whose images are being made."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.tried = self.kept = 0
        self.encoded: list[Encoded | Future[Encoded]] = []
        self.columns: dict[str, list[Any]] = {}

    def add(self, columns: Mapping[str, Any], encoded: Encoded | Future[Encoded], kept: int) -> None:
        """Append a batch, of which so many are kept, encoded or about to be."""
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values)
        if kept:
            self.encoded.append(encoded)
        self.tried += len(columns["index"])
        self.kept += kept


@dataclass(frozen=True)
class _Job:
    work: _ClassWork
    open_unit: _OpenUnit
    start: int
    count: int


class Stream:
    """Makes the units of some classes into shards at a place.

    Args:
        place: Where they go.
        source: Makes the images.
        layout: How they are written.
        screen: Gives the screen of a class by its id; None keeps every image.
        until_kept: Whether the counts are of images kept.
        part: Which part of the units, from 0.
        parts: Of how many.
        identity: Everything else that determines the files; a change makes them stale.
        batch: Images that are made at a time.
        workers: Threads that make, look and encode.
        progress: Told the images tried (or kept, with `until_kept`) and wanted.
    """

    def __init__(
        self,
        place: Place,
        source: Source,
        layout: Layout,
        *,
        screen: Callable[[int], ClassScreen] | None,
        until_kept: bool,
        part: int,
        parts: int,
        identity: Mapping[str, Any],
        batch: int,
        workers: int,
        progress: Progress,
    ) -> None:
        self._place, self._source, self._layout = place, source, layout
        self._screen, self._until_kept = screen, until_kept
        self._part, self._parts = part, parts
        self._identity, self._batch, self._workers = identity, batch, workers
        self._progress = progress
        self._format = FORMATS[layout.format]
        self._pending: deque[tuple[_Job, Future[tuple[Images, Any, Encoded]]]] = deque()
        self._writes: deque[Future[None]] = deque()
        self._works: list[_ClassWork] = []

    def run(self, orders: Iterable[ClassOrder]) -> dict[str, Tally]:
        """Do what is not done yet; returns what became of each class.

        Raises:
            ModelError: A graph is missing, damaged or not one of ganaug's.
            OutputError: The place cannot be written; what is finished stays.
        """
        self._works = [self._work(order) for order in orders]
        self._done, self._wanted = 0, sum(work.tally.wanted for work in self._works)
        self._there = set(self._place.names(manifest.FOLDER))
        # Threads of their own: a writer waits for encoders, which must not wait for it.
        with (
            ThreadPoolExecutor(self._workers, thread_name_prefix="make") as self._makers,
            ThreadPoolExecutor(1, thread_name_prefix="write") as self._writers,
        ):
            try:
                for work in self._works:
                    if self._screen is not None and work.order.wanted:
                        work.screen = self._screen(work.order.class_id)
                    for job in self._jobs(work):
                        self._pending.append((job, self._makers.submit(self._make, job)))
                        # One batch more than threads, so that none waits for this one.
                        if len(self._pending) > self._workers + 1:
                            self._settle_next()
                    self._drain(work if self._until_kept else None)
                    # What it remembers of the images kept: no other class asks for it.
                    work.screen = None
                while self._writes:
                    self._writes.popleft().result()
            finally:
                for _, made in self._pending:
                    made.cancel()
                for written in self._writes:
                    written.cancel()
        for work in self._works:
            self._sweep(work)
        return {work.order.class_name: work.tally for work in self._works}

    def _sweep(self, work: _ClassWork) -> None:
        """Remove what a larger or another production left of a class."""
        order = work.order
        mine = leftovers.Mine(
            class_prefix(order.class_id, order.class_name), self._part, self._parts, work.shards
        )
        leftovers.drop_shards(self._place, self._there, mine)
        probe = self._shard(work, mine.prefix, np.zeros(1, np.int64))
        file = self._format.where(probe, self._layout.suffix)[0][0]
        leftovers.drop_unnamed(self._place, file.rpartition("/")[0], self._layout.shard_images, mine)

    def _work(self, order: ClassOrder) -> _ClassWork:
        tree = {
            **self._identity,
            "model_sha256": order.model_sha256,
            "class": [order.class_id, order.class_name],
            "layout": asdict(self._layout),
            "seed": self._source.seed,
            "truncation": self._source.truncation,
            # What is a copy of a kept image depends on which images one part sees.
            "parts": self._parts if self._screen is not None else 1,
        }
        address = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
        return _ClassWork(order, address)

    def _jobs(self, work: _ClassWork) -> Iterator[_Job]:
        """The batches of a class that are still to be made."""
        for unit in units(work.order, self._layout.shard_images, self._part, self._parts):
            if work.tally.is_filled:
                return
            if f"{unit.name}.parquet" in self._there:
                # What was kept before it decides whether it is still right.
                self._drain()
                if work.tally.is_filled or self._reuse(work, unit):
                    continue
                # Its files may be more than those that are written now.
                leftovers.remove_shard(self._place, unit.name)
            open_unit = _OpenUnit(unit)
            for start in range(unit.start, unit.start + unit.count, self._batch):
                if work.tally.is_filled:
                    return
                yield _Job(work, open_unit, start, min(self._batch, unit.start + unit.count - start))

    def _make(self, job: _Job) -> tuple[Images, Any, Encoded]:
        images = self._source.make(job.work.order.class_name, job.start, job.count)
        if job.work.screen is None:
            return images, None, self._layout.encode(images)
        return images, job.work.screen.look(images), None

    def _drain(self, work: _ClassWork | None = None) -> None:
        """Settle what waits; with a class that is filled, its surplus is let go."""
        while self._pending:
            if work is not None and work.tally.is_filled and self._pending[0][0].work is work:
                self._pending.popleft()[1].cancel()
            else:
                self._settle_next()

    def _settle_next(self) -> None:
        """Decide on the oldest batch, and close its unit if it is the last."""
        job, future = self._pending.popleft()
        images, looks, encoded = future.result()
        work, tally = job.work, job.work.tally
        if tally.is_filled:
            return
        tried = job.count
        reasons = np.full(tried, _KEPT, object) if work.screen is None else work.screen.decide(looks)
        kept = np.flatnonzero(reasons == _KEPT)
        lacking = tally.wanted - tally.kept
        if self._until_kept and len(kept) >= lacking:
            kept = kept[:lacking]
            tried = int(kept[-1]) + 1
            reasons = reasons[:tried]
        if work.screen is not None and len(kept):
            encoded = self._makers.submit(self._layout.encode, images[kept])
        job.open_unit.add(self._columns(job, looks, reasons, kept, tried), encoded, len(kept))
        tally.made += tried
        self._count(work, tried, len(kept), Counter(reasons[reasons != _KEPT].tolist()))
        if tally.is_filled or job.start + job.count == job.open_unit.unit.start + job.open_unit.unit.count:
            self._close(work, job.open_unit)

    def _count(self, work: _ClassWork, tried: int, kept: int, rejected: Mapping[str, int]) -> None:
        tally = work.tally
        tally.tried += tried
        tally.kept += kept
        tally.rejected.update(rejected)
        tally.is_filled = (tally.kept if self._until_kept else tally.tried) >= tally.wanted
        self._done += kept if self._until_kept else tried
        self._progress(self._done, self._wanted)

    def _columns(
        self, job: _Job, looks: Any, reasons: npt.NDArray[Any], kept: npt.NDArray[np.int64], tried: int
    ) -> dict[str, Any]:
        """A batch's rows of the manifest, as far as they differ from each other."""
        columns: dict[str, Any] = {
            "index": np.arange(job.start, job.start + tried),
            "kept": reasons == _KEPT,
            "reason": reasons,
        }
        origin = self._source.origin(job.work.order.class_name, job.start, tried)
        if origin is not None:
            columns["origin"] = np.array(origin, object)
        if looks is not None:
            columns |= {name: values[:tried] for name, values in looks.columns().items()}
            # Only kept images are compared with later ones.
            columns["code"] = np.full(tried, None, object)
            columns["code"][kept] = [row.tobytes() for row in looks.code[kept]]
        return columns

    def _close(self, work: _ClassWork, open_unit: _OpenUnit) -> None:
        """Hand a unit to the writers, and wait while too many are there."""
        self._writes.append(self._writers.submit(self._write, work, open_unit))
        while len(self._writes) > WRITES_AHEAD:
            self._writes.popleft().result()

    def _write(self, work: _ClassWork, open_unit: _OpenUnit) -> None:
        """Write a shard, then the piece of the manifest that makes it count."""
        unit, order = open_unit.unit, work.order
        columns: dict[str, Any] = {name: np.concatenate(parts) for name, parts in open_unit.columns.items()}
        is_kept = columns["kept"]
        shard = self._shard(work, unit.name, columns["index"][is_kept])
        digest, size, count = hashlib.sha256(), 0, 0
        work.shards[unit.name] = 0
        if open_unit.kept:
            for name, chunks in self._format.pack(shard, self._stored(open_unit), self._layout.suffix):
                self._place.write(name, chunks)
                for chunk in chunks:
                    digest.update(chunk)
                    size += memoryview(chunk).nbytes
                count += 1
            work.shards[unit.name] = count
        files, rows = np.full(len(is_kept), None, object), np.full(len(is_kept), None, object)
        files[is_kept], rows[is_kept] = self._format.where(shard, self._layout.suffix)
        same = {
            "class_id": order.class_id,
            "class_name": order.class_name,
            "seed": self._source.seed,
            "truncation": self._source.truncation,
            "model_sha256": order.model_sha256,
        }
        columns |= {name: [value] * len(is_kept) for name, value in same.items()}
        rejected = Counter(columns["reason"][~is_kept].tolist())
        piece = Piece(
            work.address,
            unit.start,
            unit.count,
            open_unit.tried,
            open_unit.kept,
            count,
            size,
            digest.hexdigest(),
            dict(sorted(rejected.items())),
        )
        manifest.write_piece(self._place, unit, piece, columns | {"file": files, "row": rows})

    def _shard(self, work: _ClassWork, name: str, index: npt.NDArray[np.int64]) -> Shard:
        return Shard(
            name=name,
            class_id=work.order.class_id,
            class_name=work.order.class_name,
            class_names=self._source.class_names,
            index=index,
            image_shape=self._source.image_shape,
        )

    def _stored(self, open_unit: _OpenUnit) -> Encoded:
        parts = [part.result() if isinstance(part, Future) else part for part in open_unit.encoded]
        return [content for part in parts for content in part] if self._layout.encoding else parts

    def _reuse(self, work: _ClassWork, unit: Unit) -> bool:
        """Take over a unit that was finished by an earlier call, if it is still what is wanted."""
        found = None
        with contextlib.suppress(OSError):
            content = self._place.read(manifest.piece_name(unit))
            found = manifest.read_piece(content, ["file", "kept", "code", "cluster"])
        if found is None:
            return False
        piece, columns = found
        if (piece.address, piece.start, piece.count) != (work.address, unit.start, unit.count):
            return False
        table = columns.to_pydict()
        if self._until_kept:
            # It ends at the last image wanted, or has not reached it: as if it were made now.
            room = work.tally.wanted - work.tally.kept
            is_right = piece.kept == room if table["kept"][-1] and piece.kept >= room else piece.kept < room
            is_right &= piece.kept == room or not piece.is_cut
        else:
            is_right = not piece.is_cut
        if not is_right:
            return False
        names = list(dict.fromkeys(name for name in table["file"] if name is not None))
        if not manifest.is_intact(self._place, piece, names):
            return False
        if work.screen is not None and piece.kept:
            code = b"".join(one for one in table["code"] if one is not None)
            cluster = np.array(table["cluster"], np.int16)[np.array(table["kept"])]
            work.screen.restore(np.frombuffer(code, np.int8).reshape(piece.kept, -1), cluster)
        work.shards[unit.name] = piece.files
        self._count(work, piece.tried, piece.kept, piece.rejected)
        return True
