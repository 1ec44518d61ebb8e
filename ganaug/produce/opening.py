"""What a production is made with: the model in as many lanes as are fastest, or images that were found."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganaug.cores import cores
from ganaug.errors import SettingsError
from ganaug.formats import ENCODINGS, FORMATS
from ganaug.generate import Generator
from ganaug.places import without_secrets
from ganaug.produce.calibrate import Way, calibrate
from ganaug.produce.order import ClassOrder, Production, counts_of
from ganaug.produce.source import FoundImages, GeneratedImages, Source
from ganaug.runtime import gpu_count

if TYPE_CHECKING:
    from ganaug.screen import Screener

_NO_MODEL = "model: which model makes the images? Give --model NAME or --run-dir FOLDER"
_FOUND_BATCH = 256
"""Images found that are looked at together."""


def planned(config: Production) -> dict[str, int]:
    """Images of each class that the settings ask for, without making any.

    Raises:
        SettingsError, UnknownClassError, ModelError: As `produce`.
    """
    if not config.model:
        raise SettingsError([_NO_MODEL])
    generator = Generator.open(config.model)
    counts = counts_of(config, generator.class_names, generator.card.trained_on)
    return {name: count for name, count in counts.items() if count}


@contextlib.contextmanager
def open_source(config: Production, screener: Screener | None) -> Iterator[tuple[Source, Way]]:
    """Open what makes the images, or read the images that there are into a temporary folder.

    Raises:
        SettingsError: Neither is given.
        ModelError: The model is missing or damaged.
        DatasetError: The images cannot be read.
    """
    if config.images is None:
        if not config.model:
            raise SettingsError([_NO_MODEL])
        yield open_model(config, config.model, sum(planned(config).values()))
        return
    if screener is None:
        raise AssertionError("the settings refuse images without a screener")
    with tempfile.TemporaryDirectory(prefix="ganaug-") as folder:
        found = FoundImages.read(config.images, Path(folder), screener.image_shape, screener.class_names)
        workers, batch = _set(config.workers) or cores(), _set(config.batch) or _FOUND_BATCH
        yield found, Way(workers, 1, batch)


def open_model(config: Production, model: Path | str, images: int) -> tuple[GeneratedImages, Way]:
    """Open a model with as many lanes as are fastest.

    Raises:
        ModelError: There is no such model, or it is damaged.
        DeviceError: `cuda` was asked for and is not there.
    """

    def open_on(gpu: int, threads: int) -> Generator:
        return Generator.open(
            model,
            device=config.device,
            threads=threads,
            gpu=gpu,
            precision=config.precision,
            tensorrt=config.tensorrt,
            cuda_graph=config.cuda_graph,
        )

    def lanes(way: Way) -> GeneratedImages:
        first = open_on(0, way.threads)
        # On a CPU calls share a session; on a GPU each has buffers of its own, GPUs in turn.
        others = range(1, way.workers)
        rest = [open_on(i % gpu_count(), way.threads) if first.is_on_gpu() else first for i in others]
        return GeneratedImages(
            [first, *rest], seed=config.seed, truncation=config.truncation, batch=way.batch
        )

    def prepare(way: Way) -> Any:
        # Held by nobody else: the memory of a way that was tried goes with it.
        source = lanes(way)
        name = source.able[0]
        return lambda number: source.make(name, number * source.batch, source.batch)

    way = calibrate(
        prepare,
        images,
        device=config.device,
        workers=_set(config.workers),
        threads=_set(config.threads),
        batch=_set(config.batch),
    )
    source = lanes(way)
    return source, Way(way.workers, way.threads, source.batch, way.images_per_s)


def _set(value: int | str) -> int | None:
    return value if isinstance(value, int) else None


def check_fits(screener: Screener, source: Source, config: Production) -> None:
    """Refuse a screener of another dataset, whose class ids would mean other classes."""
    mine, its = (source.class_names, source.image_shape), (screener.class_names, screener.image_shape)
    if mine != its:
        model = without_secrets(config.model)
        raise SettingsError(
            [
                f"screener: {config.screener} judges classes {list(its[0])} of shape {its[1]}, and {model} "
                f"makes {list(mine[0])} of shape {mine[1]}; take the screener of the run that trained the model"
            ]
        )


def orders_of(config: Production, source: Source) -> list[ClassOrder]:
    """What is wanted of each class.

    Raises:
        SettingsError: No count is given, or a table that cannot be read.
        UnknownClassError: A class that cannot be made.
    """
    if config.images is not None and config.counts is None and config.count is None:
        # Images that are there are all looked at, unless fewer are asked for.
        counts = {name: source.available(name) or 0 for name in source.able}
    else:
        counts = counts_of(config, source.able, source.trained_on)
    orders = []
    for name, wanted in counts.items():
        most = math.ceil(wanted * config.max_tries) if config.until_kept else wanted
        available = source.available(name)
        if available is not None:
            most = min(most, available)
            wanted = wanted if config.until_kept else most
        orders.append(ClassOrder(source.class_names.index(name), name, wanted, most, source.sha256(name)))
    return orders


def encoding_of(config: Production, image_shape: tuple[int, int, int]) -> str:
    """The encoding that `auto` stands for; empty for arrays.

    Raises:
        SettingsError: The format or the images cannot have it.
    """
    if config.format == "npz":
        return ""
    name = FORMATS[config.format].encodings[0] if config.encoding == "auto" else config.encoding
    if image_shape[2] not in ENCODINGS[name].channels:
        fitting = [other for other, one in ENCODINGS.items() if image_shape[2] in one.channels]
        raise SettingsError(
            [f"encoding: {name} cannot hold images of {image_shape[2]} channels; {', '.join(fitting)} can"]
        )
    return name


def calm(screener: Screener | None) -> contextlib.AbstractContextManager[object]:
    """Keep the threads of numpy's matrix products from spinning beside those that make and look."""
    if screener is None:
        return contextlib.nullcontext()
    from ganaug.screen import one_blas_thread

    return one_blas_thread()
