"""A whole production: who may write, what is the same as before, and what is left at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ganaug.config import ProduceConfig
from ganaug.errors import OutputError, SettingsError
from ganaug.generate import Generator
from ganaug.places import LocalPlace, Place, open_place
from ganaug.produce.calibrate import Way
from ganaug.produce.finish import finish
from ganaug.produce.manifest import PRODUCTION_FILE
from ganaug.produce.opening import calm, check_fits, encoding_of, open_model, open_source, orders_of
from ganaug.produce.order import ClassOrder, Production, shard_images, share
from ganaug.produce.record import (
    all_parts,
    begin,
    describe,
    end_part,
    identity_of,
    part_name,
    read_json,
    write_json,
)
from ganaug.produce.source import GeneratedImages, Source
from ganaug.produce.stream import Layout, Stream
from ganaug.produce.tally import Tally, add
from ganaug.progress import Progress, silent

if TYPE_CHECKING:
    from ganaug.dataset import Images
    from ganaug.screen import Screener


@dataclass(frozen=True)
class Result:
    """What a production came to.

    Attributes:
        address: Where it went.
        classes: What became of each class, over all parts that are done.
        is_finished: Whether all parts are done.
        made: Images tried by this call.
        seconds: How long it took.
        way: How ONNX Runtime was called; None for images found.
    """

    address: str
    classes: dict[str, Tally]
    is_finished: bool
    made: int
    seconds: float
    way: Way | None

    @property
    def images_per_s(self) -> float:
        """Images tried per second by this call."""
        return self.made / self.seconds if self.seconds else 0.0

    @property
    def unfilled(self) -> tuple[str, ...]:
        """Classes that lack images at the end of their tries."""
        return tuple(name for name, tally in self.classes.items() if not tally.is_filled)


def produce(config: Production, progress: Progress = silent) -> Result:
    """Make the images that the settings ask for, or go on where an earlier call was killed.

    Memory is that of a few batches and shards, however many images are asked for.

    Args:
        config: The settings.
        progress: Told the images done and wanted.

    Returns:
        What became of it. At `config.out` lie `data/` with the shards, `manifest/` (a row per
        image, kept or not), `README.md` (the dataset card), sheets of samples, and
        `production.json`.

    Raises:
        SettingsError: Settings that do not fit together, or to what lies at `out` already.
        UnknownClassError: A class that the model cannot make.
        ModelError: The model or the screener is missing or damaged.
        DeviceError: `cuda` was asked for and is not there.
        OutputError: `out` cannot be written, or another process is at work there.
    """
    if not config.out:
        raise SettingsError(["out: where should the images go? Give --out FOLDER or --out s3://bucket/path"])
    started = time.monotonic()
    screener = _open_screener(config)
    with open_source(config, screener) as (source, way):
        return _produce(config, source, way, screener, open_place(config.out), progress, started)


def _produce(
    config: Production,
    source: Source,
    way: Way,
    screener: Screener | None,
    place: Place,
    progress: Progress,
    started: float,
) -> Result:
    if screener is not None:
        check_fits(screener, source, config)
    orders = orders_of(config, source)
    layout = Layout(
        config.format,
        encoding_of(config, source.image_shape),
        config.quality,
        shard_images(config, source.image_shape),
    )
    identity = identity_of(config, source, screener, way)
    parts = range(config.parts) if not config.part else [config.part - 1]
    shares = {
        part: [
            share(order, layout.shard_images, part, config.parts, until_kept=config.until_kept)
            for order in orders
        ]
        for part in parts
    }
    wanted = sum(order.wanted for part in parts for order in shares[part])
    tallies: dict[str, Tally] = {}
    with calm(screener), place.claimed(*(part_name(part, config.parts) for part in parts)):
        about = describe(config, source, layout, identity, orders)
        begin(place, about)
        before = 0
        for part in parts:
            stream = Stream(
                place,
                source,
                layout,
                screen=None if screener is None else screener.for_class,
                until_kept=config.until_kept,
                part=part,
                parts=config.parts,
                identity=identity,
                batch=way.batch,
                workers=way.workers,
                progress=_after(progress, before, wanted),
            )
            done = stream.run(shares[part])
            add(tallies, done)
            end_part(place, part, config.parts, about, done)
            before += sum(order.wanted for order in shares[part])
        everything = all_parts(place, config.parts, about)
        if everything is not None:
            finish(place, about, everything, source)
            plain = {name: tally.plain() for name, tally in everything.items()}
            write_json(place, PRODUCTION_FILE, {**about, "state": "finished", "classes": plain})
    made = sum(tally.made for tally in tallies.values())
    seconds = time.monotonic() - started
    return Result(
        place.address,
        everything or tallies,
        everything is not None,
        made,
        seconds,
        way if isinstance(source, GeneratedImages) else None,
    )


def account(config: Production) -> Result:
    """What a production that was made elsewhere, part by part, came to.

    Raises:
        OutputError: It is not finished.
    """
    place = open_place(config.out)
    about = read_json(place, PRODUCTION_FILE) or {}
    if about.get("state") != "finished":
        raise OutputError(f"{config.out} is not finished: parts are missing; give the same command again")
    classes = {name: Tally.of(plain) for name, plain in about["classes"].items()}
    return Result(place.address, classes, is_finished=True, made=0, seconds=0.0, way=None)


def _after(progress: Progress, before: int, whole: int) -> Progress:
    """Progress of a part that comes after `before` images of others."""

    def tell(done: int, total: int) -> None:  # noqa: ARG001 - a part knows its own total
        progress(before + done, whole)

    return tell


def produce_class(
    generator: Generator,
    class_name: str,
    count: int,
    folder: Path,
    config: ProduceConfig,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make `count` images of a class, indices 0 to `count` - 1: the step of a run.

    Args:
        generator: The model.
        class_name: The class.
        count: How many images.
        folder: Gets `data/` with .npz shards and `manifest/`.
        config: Batch, images per shard, truncation and seed.
        progress: Told the images done and to do.

    Returns:
        `images`, `shards`, `reused` (images that were there), `seconds`, `images_per_s` (of
        those made now), `model_sha256`.

    Raises:
        UnknownClassError: The model cannot make the class.
        ModelError: Its graph is missing, damaged or not one of ganaug's.
        OutputError: The disk is full or the folder cannot be written; finished shards stay.
    """
    started = time.monotonic()
    wanted = Production(
        model=str(generator.folder),
        counts={class_name: count},
        format="npz",
        shard_images=config.shard_images,
        seed=config.seed,
        truncation=config.truncation,
        device=generator.device,
        batch=config.batch,
        threads=generator.threads or "auto",
    )
    order = ClassOrder(
        generator.card.class_id(class_name), class_name, count, count, generator.model_sha256(class_name)
    )
    place = LocalPlace(folder)
    source, way = open_model(wanted, generator.folder, count)
    layout = Layout("npz", "", wanted.quality, shard_images(wanted, source.image_shape))
    identity = identity_of(wanted, source, None, way)
    stream = Stream(
        place,
        source,
        layout,
        screen=None,
        until_kept=False,
        part=0,
        parts=1,
        identity=identity,
        batch=way.batch,
        workers=way.workers,
        progress=progress,
    )
    progress(0, count)
    made = stream.run([order])[class_name].made
    write_json(place, PRODUCTION_FILE, describe(wanted, source, layout, identity, [order]))
    seconds = time.monotonic() - started
    return {
        "images": count,
        "shards": math.ceil(count / layout.shard_images),
        "reused": count - made,
        "seconds": round(seconds, 3),
        "images_per_s": round(made / seconds, 1),
        "model_sha256": order.model_sha256,
    }


def open_shards(folder: Path) -> Iterator[Images]:
    """The .npz shards of a run's step in order, each (n, H, W, C) uint8."""
    for path in sorted((folder / "data").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays["images"]


def _open_screener(config: Production) -> Screener | None:
    if config.screener is None:
        return None
    from ganaug.screen import Screener

    return Screener.open(config.screener, device=config.device)
