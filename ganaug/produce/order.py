"""What is to be made: settings of a mass production, and the units of work that they come to.

A unit is a class and a stretch of its indices, all of the same length; it becomes one shard. Its
number follows from the indices alone, so that any process that makes it leaves the same file.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from ganaug.config import Device, Section
from ganaug.errors import PathNotFoundError, SettingsError, UnknownClassError
from ganaug.places import without_secrets
from ganaug.plan import part_name

AUTO_SHARD_IMAGES = 4096
AUTO_SHARD_BYTES = 32 * 2**20
"""`auto`: so many images per shard, and no more pixels than this, since a shard is held in memory."""

Mix = dict[str, Annotated[float, Field(ge=0.0)]]


class Production(Section):
    """A mass production: which images, made how, written where."""

    model: str = ""
    """A model folder, or a name that `ganaug models` lists (`digits`, `digits@3`)."""
    images: Path | None = None
    """Images to screen that something else made: any source that `ganaug run` reads."""
    out: str = ""
    """A folder, or an address that fsspec knows: `s3://bucket/path`."""
    count: PositiveInt | None = None
    """Images of each class; with `mix`, of all classes together."""
    classes: tuple[str, ...] = ()
    """Only these classes; none means every class of the model."""
    mix: Mix | Literal["trained"] | None = None
    """Ratio of the classes, `{cat: 3, dog: 1}`, or `trained`: as in the model's training images."""
    counts: dict[str, NonNegativeInt] | Path | None = None
    """Images of each class, `{cat: 100}`, or a table of them: .csv (class,count), .json, .yaml, or a
    run's `plan.json`, whose deficits count."""
    screener: Path | None = None
    """Folder of a screener, `runs/<name>/screen/screener`; images that it rejects are not written."""
    until_kept: bool = False
    """The counts are images that the screener keeps: more are made until they are reached."""
    max_tries: Annotated[float, Field(ge=1.0)] = 20.0
    """With `until_kept`: images tried for each one wanted, before a class is given up."""
    format: Literal["parquet", "webdataset", "npz", "folder"] = "parquet"
    """Hugging Face image Parquet, WebDataset .tar, numpy .npz, or a folder of images per class."""
    encoding: Literal["auto", "png", "jpeg", "webp", "raw"] = "auto"
    """How an image is stored; raw: an uncompressed TIFF; auto: png, and arrays in .npz."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Of JPEG and WebP; WebP at 100 is lossless."""
    shard_images: PositiveInt | Literal["auto"] = "auto"
    """Images of a class that are tried for one shard; auto: 4096, fewer when they are large."""
    parts: PositiveInt = 1
    """Parts that the work is cut into, for several processes or machines."""
    part: NonNegativeInt = 0
    """Only this part, from 1; 0 means all of them."""
    seed: NonNegativeInt = 0
    """With model, class and index it determines every image."""
    truncation: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Scale of the latents: below 1 gives more typical, less varied images."""
    device: Device = "auto"
    """auto: a GPU if there is one that works; cpu; cuda, which fails where there is none."""
    batch: PositiveInt | Literal["auto"] = "auto"
    """Images per call of ONNX Runtime; auto: measured."""
    workers: PositiveInt | Literal["auto"] = "auto"
    """Calls of ONNX Runtime at a time; auto: measured."""
    threads: PositiveInt | Literal["auto"] = "auto"
    """Threads of each call; auto: measured."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """fp16 halves the arithmetic on a GPU; refused where its images differ by more than a level."""
    tensorrt: bool = False
    """Run through TensorRT, where ONNX Runtime and the machine have it."""
    cuda_graph: bool = False
    """On a GPU, record the first call of ONNX Runtime and replay it; not for every network."""
    license: str = "unknown"
    """Licence for the dataset card, in Hugging Face's words: `cc-by-4.0`, `mit`, `other`."""

    @field_validator("mix", "counts", mode="before")
    @classmethod
    def _text_keys(cls, table: object) -> object:
        # YAML reads the class name 3 as a number; class names are text.
        return {str(key): value for key, value in table.items()} if isinstance(table, Mapping) else table

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = []
        if self.part > self.parts:
            problems.append(f"there is no part {self.part} of {self.parts}")
        if self.until_kept and self.screener is None:
            problems.append("until_kept needs a screener: without one every image is kept")
        if self.images is not None and self.screener is None:
            problems.append("images to screen need a screener")
        if self.counts is not None and (self.count is not None or self.mix is not None or self.classes):
            problems.append("counts says all; it goes with neither count, mix nor classes")
        if self.mix is not None and self.count is None:
            problems.append("mix needs count: images of all classes together")
        if self.format == "npz" and self.encoding != "auto":
            problems.append("npz holds arrays: it takes no encoding")
        if problems:
            raise ValueError("; ".join(problems))
        return self


@dataclass(frozen=True)
class ClassOrder:
    """What is wanted of one class.

    Attributes:
        class_id: Its number.
        class_name: Its name.
        wanted: Images to make; with `until_kept`, images that are to be kept.
        most: Images that are made at most.
        model_sha256: Hash of the graph that makes it; of the dataset for images found.
    """

    class_id: int
    class_name: str
    wanted: int
    most: int
    model_sha256: str


@dataclass(frozen=True)
class Unit:
    """One shard's worth of work: `count` indices of a class from `start` on."""

    class_id: int
    class_name: str
    number: int
    start: int
    count: int

    @property
    def name(self) -> str:
        """Name of its shard, without suffix; unique within a production."""
        return f"{class_prefix(self.class_id, self.class_name)}{self.number:05d}"


def class_prefix(class_id: int, class_name: str) -> str:
    """What the names of a class's shards begin with."""
    return f"{part_name(class_id, class_name)}-"


def units(order: ClassOrder, shard_images: int, part: int, parts: int) -> Iterator[Unit]:
    """The units of a class that part `part` (from 0) of `parts` does, in order.

    >>> order = ClassOrder(3, "three", wanted=10, most=10, model_sha256="")
    >>> [(unit.name, unit.start, unit.count) for unit in units(order, 4, part=0, parts=2)]
    [('003-three-00000', 0, 4), ('003-three-00002', 8, 2)]
    """
    for number in itertools.count(part, parts):
        start = number * shard_images
        if start >= order.most:
            return
        count = min(shard_images, order.most - start)
        yield Unit(order.class_id, order.class_name, number, start, count)


def share(order: ClassOrder, shard_images: int, part: int, parts: int, *, until_kept: bool) -> ClassOrder:
    """What part `part` (from 0) of `parts` has to reach: the images of its units, or its share of those to keep.

    >>> order = ClassOrder(3, "three", wanted=10, most=10, model_sha256="")
    >>> [share(order, 4, part, 2, until_kept=False).wanted for part in (0, 1)]
    [6, 4]
    """
    if until_kept:
        wanted = order.wanted // parts + (part < order.wanted % parts)
    else:
        wanted = sum(unit.count for unit in units(order, shard_images, part, parts))
    return replace(order, wanted=wanted)


def shard_images(config: Production, image_shape: tuple[int, int, int]) -> int:
    """Images of a shard: as set, or what fits `AUTO_SHARD_BYTES`.

    >>> shard_images(Production(), (32, 32, 3)), shard_images(Production(), (256, 256, 3))
    (4096, 170)
    """
    if config.shard_images != "auto":
        return config.shard_images
    height, width, channels = image_shape
    return max(1, min(AUTO_SHARD_IMAGES, AUTO_SHARD_BYTES // (height * width * channels)))


def counts_of(config: Production, able: Sequence[str], trained_on: Mapping[str, int]) -> dict[str, int]:
    """Images of each class that the settings ask for, in the order of `able`.

    Args:
        config: The settings.
        able: Names of the classes that can be made.
        trained_on: Real training images per class, for the mix `trained`.

    Raises:
        SettingsError: No count is given, or a table that cannot be read.
        UnknownClassError: A class that cannot be made.

    >>> counts_of(Production(count=10, mix={"cat": 2, "dog": 1}), ["cat", "dog", "emu"], {})
    {'cat': 7, 'dog': 3, 'emu': 0}
    """
    if config.counts is not None:
        table = read_counts(config.counts) if isinstance(config.counts, Path) else config.counts
    elif config.count is None:
        raise SettingsError(["count: how many images? Give --count N, --counts TABLE or --kept N"])
    elif config.mix is not None:
        trained = {name: float(trained_on.get(name, 0)) for name in able}
        mix = trained if isinstance(config.mix, str) else config.mix
        chosen = {name: share for name, share in mix.items() if not config.classes or name in config.classes}
        table = apportion(config.count, chosen)
    else:
        table = dict.fromkeys(config.classes or able, config.count)
    unknown = (set(table) | set(config.classes)) - set(able)
    if unknown:
        raise UnknownClassError(unknown, able, without_secrets(config.model) or str(config.images))
    if not sum(table.values()):
        raise SettingsError(["count: the settings come to no image of any class"])
    return {name: table.get(name, 0) for name in able}


def apportion(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Cut a total by shares, by largest remainders; the parts add up to it.

    Raises:
        SettingsError: No share is above 0.

    >>> apportion(10, {"a": 1, "b": 1, "c": 1})
    {'a': 4, 'b': 3, 'c': 3}
    """
    whole = sum(shares.values())
    if not whole > 0:
        raise SettingsError(["mix: no class has a share above 0"])
    exact = {name: total * share / whole for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def read_counts(path: Path) -> dict[str, int]:
    """Images of each class from a table: .csv (class,count), .json, .yaml, or a run's plan.json.

    Raises:
        PathNotFoundError: There is no such file.
        SettingsError: It is no such table.
    """
    if not path.is_file():
        raise PathNotFoundError(path, "table of counts")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            rows = [row for row in csv.reader(text.splitlines()) if row]
            # A first line without a number is a heading.
            return _whole((row[0].strip(), row[1]) for row in rows[not re.search(r"\d", rows[0][1]) :])
        tree = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        if isinstance(tree, dict) and isinstance(tree.get("classes"), list):
            return _whole((row["class_name"], row["deficit"]) for row in tree["classes"] if row["is_wanted"])
        return _whole((str(name), count) for name, count in tree.items())
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        RecursionError,
        csv.Error,
        yaml.YAMLError,
    ) as error:
        raise SettingsError(
            [f"counts: {path} is no table of class and count ({error!r}); a .csv line is `cat,100`"]
        ) from error


def _whole(pairs: Iterable[tuple[str, Any]]) -> dict[str, int]:
    """Counts by class, each class once, each count a whole number of at least 0."""
    counts: dict[str, int] = {}
    for name, value in pairs:
        count = int(value)
        if count < 0 or count != float(value) or name in counts:
            raise ValueError(f"{name}: {value}")
        counts[name] = count
    return counts
