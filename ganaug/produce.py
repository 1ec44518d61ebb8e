"""Mass production: a class's images to shards, in an order and with bytes that never vary.

A shard is written beside and renamed, then noted with its hash in `shards.json`; what is noted
and intact is not made again. Killed anywhere, the next call leaves the same files, byte for byte.
"""

from __future__ import annotations

import collections.abc
import contextlib
import hashlib
import io
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ganaug.config import ProduceConfig
from ganaug.dataset import Images
from ganaug.errors import GanaugError, OutputError
from ganaug.generate import Generator
from ganaug.progress import Progress, silent
from ganaug.runtime import has_cuda

MANIFEST_FILE = "manifest.parquet"
SHARDS_FILE = "shards.json"
MANIFEST = pa.schema(
    [
        ("class_id", pa.int64()),
        ("class_name", pa.string()),
        ("seed", pa.uint64()),
        ("index", pa.int64()),
        ("truncation", pa.float64()),
        ("model_sha256", pa.string()),
        ("shard", pa.string()),
        ("row", pa.int64()),
    ]
)
"""One row per image, in order: what it takes to make it again, and where it lies."""

_MAX_WORKERS = 16
_PART = ".part"


@dataclass(frozen=True)
class Shard:
    """One file of images: `count` of them from index `start` on."""

    number: int
    start: int
    count: int

    @property
    def file(self) -> str:
        """Its name."""
        return f"shard-{self.number:05d}.npy"


def produce_class(
    generator: Generator,
    class_name: str,
    count: int,
    folder: Path,
    config: ProduceConfig,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make `count` images of a class, indices 0 to `count` - 1.

    A call that was killed and is made again in the same folder goes on with the first shard
    that is missing. Memory is that of a few batches, however many images are asked for.

    Args:
        generator: The model.
        class_name: The class.
        count: How many images.
        folder: Gets `shard-00000.npy` ((n, H, W, C) uint8) and so on, `manifest.parquet`
            (columns of `MANIFEST`) and `shards.json` (hashes of the shards).
        config: Batch, images per shard, truncation and seed.
        progress: Told the images done and to do.

    Returns:
        `images`, `shards`, `reused` (shards that were there), `seconds`, `images_per_s` (of
        those made now), `model_sha256`.

    Raises:
        UnknownClassError: The model cannot make the class.
        ModelError: Its graph is missing, damaged or not one of ganaug's.
        OutputError: The disk is full or the folder cannot be written; finished shards stay.
    """
    started = time.monotonic()
    size = generator.batch_size(config.batch)
    address = {
        "model_sha256": generator.model_sha256(class_name),
        "class_id": generator.card.class_id(class_name),
        "seed": config.seed,
        "truncation": config.truncation,
        "image_shape": list(generator.image_shape),
        "batch": size,
    }
    shards = plan_shards(count, config.shard_images)
    with _writing(folder):
        ledger = _Ledger.open(folder, address)
        missing = [shard for shard in shards if not ledger.has(shard)]
        made = sum(shard.count for shard in missing)
        done = count - made
        progress(done, count)
        batches = _batches(generator, class_name, missing, config, size)
        with contextlib.closing(batches):
            for shard in missing:

                def tell(images: int, before: int = done) -> None:
                    progress(before + images, count)

                ledger.add(shard, _write_shard(folder, shard, generator.image_shape, batches, tell))
                done += shard.count
        ledger.drop_others(shards)
        _write_manifest(folder, shards, class_name, address)
    seconds = time.monotonic() - started
    return {
        "images": count,
        "shards": len(shards),
        "reused": len(shards) - len(missing),
        "seconds": round(seconds, 3),
        "images_per_s": round(made / seconds, 1),
        "model_sha256": address["model_sha256"],
    }


def plan_shards(count: int, shard_images: int) -> list[Shard]:
    """Cut indices 0 to `count` - 1 into shards.

    >>> [(shard.file, shard.count) for shard in plan_shards(10, 4)]
    [('shard-00000.npy', 4), ('shard-00001.npy', 4), ('shard-00002.npy', 2)]
    """
    starts = range(0, count, shard_images)
    return [Shard(number, start, min(shard_images, count - start)) for number, start in enumerate(starts)]


def open_shards(folder: Path) -> Iterator[Images]:
    """The shards of a class in order, each (n, H, W, C) uint8 mapped from disk."""
    for path in sorted(folder.glob("shard-*.npy")):
        yield np.load(path, mmap_mode="r", allow_pickle=False)


class _Ledger:
    """`shards.json`: which shards are finished, with their hashes, and of what they are."""

    def __init__(self, folder: Path, address: dict[str, Any], shards: dict[str, dict[str, Any]]) -> None:
        self.folder, self.address, self.shards = folder, address, shards

    @classmethod
    def open(cls, folder: Path, address: dict[str, Any]) -> _Ledger:
        """Read it; shards of another model, seed or class count for nothing."""
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*{_PART}"):
            left.unlink()
        shards: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            tree = json.loads((folder / SHARDS_FILE).read_text(encoding="utf-8"))
            if tree["address"] == address:
                shards = dict(tree["shards"])
        return cls(folder, address, shards)

    def has(self, shard: Shard) -> bool:
        """Whether the shard is there as it was written."""
        noted, path = self.shards.get(shard.file), self.folder / shard.file
        if noted is None or noted["images"] != shard.count or not path.is_file():
            return False
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest == str(noted["sha256"])

    def add(self, shard: Shard, sha256: str) -> None:
        """Note a finished shard."""
        self.shards[shard.file] = {"images": shard.count, "sha256": sha256}
        self._save()

    def drop_others(self, shards: Iterable[Shard]) -> None:
        """Remove shards that do not belong: of a larger count, or of another address."""
        wanted = {shard.file for shard in shards}
        for path in self.folder.glob("shard-*.npy"):
            if path.name not in wanted and re.fullmatch(r"shard-\d{5,}\.npy", path.name):
                path.unlink()
        self.shards = {name: noted for name, noted in sorted(self.shards.items()) if name in wanted}
        self._save()

    def _save(self) -> None:
        tree = {"address": self.address, "shards": self.shards}
        beside = self.folder / (SHARDS_FILE + _PART)
        beside.write_text(json.dumps(tree, indent=1, sort_keys=True), encoding="utf-8")
        beside.replace(self.folder / SHARDS_FILE)


def _batches(
    generator: Generator, class_name: str, shards: Iterable[Shard], config: ProduceConfig, size: int
) -> collections.abc.Generator[Images, None, None]:
    """Batches of all shards in order, made in threads a little ahead of who writes them.

    ONNX Runtime computes without Python's lock: one thread per core, each with a call of its
    own, does as well as one call with many threads, and better where the network is small.
    """
    jobs = (
        (start, min(size, shard.start + shard.count - start))
        for shard in shards
        for start in range(shard.start, shard.start + shard.count, size)
    )

    def make(job: tuple[int, int]) -> Images:
        start, wanted = job
        # Always a full batch, so that an image does not depend on where a shard ends.
        images = generator.make_batch(
            class_name, start, seed=config.seed, truncation=config.truncation, size=size
        )
        return images[:wanted]

    workers = _workers(generator)
    pending: deque[Future[Images]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="produce") as pool:
        try:
            for job in jobs:
                pending.append(pool.submit(make, job))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _workers(generator: Generator) -> int:
    if generator.device == "cuda" or (generator.device == "auto" and has_cuda()):
        return 2  # One fills the GPU; the next one's latents are drawn meanwhile.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // max(generator.threads, 1), _MAX_WORKERS)) if generator.threads else 1


def _write_shard(
    folder: Path,
    shard: Shard,
    image_shape: tuple[int, int, int],
    batches: Iterator[Images],
    tell: Callable[[int], None],
) -> str:
    """Write one shard from the next batches; returns its SHA-256."""
    header = io.BytesIO()
    shape = (shard.count, *image_shape)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    digest = hashlib.sha256(header.getvalue())
    beside = folder / (shard.file + _PART)
    written = 0
    # Not mapped: on a full disk a write into a map kills the process, and leaves no message.
    with beside.open("wb") as file:
        file.write(header.getvalue())
        while written < shard.count:
            images = np.ascontiguousarray(next(batches))
            file.write(images.data)
            digest.update(images.data)
            written += len(images)
            tell(written)
    beside.replace(folder / shard.file)
    return digest.hexdigest()


def _write_manifest(folder: Path, shards: Iterable[Shard], class_name: str, address: dict[str, Any]) -> None:
    beside = folder / (MANIFEST_FILE + _PART)
    with pq.ParquetWriter(beside, MANIFEST) as writer:
        for shard in shards:
            rows = np.arange(shard.count, dtype=np.int64)
            same = {
                "class_id": address["class_id"],
                "class_name": class_name,
                "seed": address["seed"],
                "truncation": address["truncation"],
                "model_sha256": address["model_sha256"],
                "shard": shard.file,
            }
            columns = {
                name: pa.repeat(pa.scalar(value, MANIFEST.field(name).type), shard.count)
                for name, value in same.items()
            }
            columns |= {"index": pa.array(shard.start + rows), "row": pa.array(rows)}
            writer.write_table(pa.table([columns[name] for name in MANIFEST.names], schema=MANIFEST))
    beside.replace(folder / MANIFEST_FILE)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn the system's refusals to write into one clear error; half files are removed."""
    try:
        yield
    except GanaugError:
        raise
    except OSError as error:
        with contextlib.suppress(OSError):
            for left in folder.glob(f"*{_PART}"):
                left.unlink()
        raise OutputError(
            f"cannot write images to {folder}: {error.strerror or error}. Finished shards are kept: free the "
            "space or mend the permissions, and give the same command again."
        ) from error
