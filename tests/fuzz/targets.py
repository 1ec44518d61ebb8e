"""Every reader of bytes that somebody else may have written, as something that can be fed with damage.

The promise of each: whatever the bytes, it gives a result or raises a `GanaugError`.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from fuzz import dataset_seeds, seeds
from fuzz.mutations import mutate

from ganaug.config import Config, DataConfig
from ganaug.errors import GanaugError

DEFAULT = Config()


@dataclass(frozen=True)
class Target:
    """A reader under attack.

    Attributes:
        files: Makes well-formed files in an empty folder: name to content. Of a folder that is read as a
            whole each case spoils one file; otherwise each file is a case of its own.
        read: Reads what lies in a folder. Of single files: the folder and the file's name there.
        is_folder: Whether the files belong together.
    """

    files: Callable[[Path], Mapping[str, bytes]]
    read: Callable[[Path, str], object]
    is_folder: bool = False


def _dataset(folder: Path, name: str, **settings: object) -> None:
    from ganaug.readers import read

    config = DataConfig.model_validate(
        {
            "path": folder / name,
            "workers": 1,
            "max_pixels": 10**6,
            "max_unpacked_bytes": 2**25,
            "max_bad_share": 0.9,
            **settings,
        }
    )
    read(config, folder / "out", previews=True)


def _archive(folder: Path, name: str) -> None:
    kind = "data.zip" if name.endswith(".zip") else "data.tar"
    (folder / name).rename(folder / kind)
    _dataset(folder, kind)


def _table(folder: Path, name: str) -> None:
    for class_name in ("cat", "dog"):
        (folder / class_name).mkdir()
        for number in range(3):
            (folder / class_name / f"{number}.png").write_bytes(seeds.png(number))
    _dataset(folder, name)


def _image(folder: Path, name: str) -> None:
    from ganaug.errors import UnreadableImageError
    from ganaug.readers import decode

    content = (folder / name).read_bytes()
    with decode.pillow_set_up(10**6):
        for channels, fit in ((1, "stretch"), (3, "crop"), (4, "pad")):
            target = decode.Target(9, 7, channels, fit, max_pixels=10**6, has_preview=channels == 3)  # type: ignore[arg-type]
            with contextlib.suppress(UnreadableImageError):
                decode.read_header(content, 10**6)
                assert decode.decode(content, target).image.shape == (9, 7, channels)


def _card(folder: Path, _name: str) -> None:
    from ganaug import card

    card.verify(folder)


def _store(folder: Path, _name: str) -> None:
    from ganaug import store

    for model in store.list_models(folder):
        repr(model)
    store.verify("tiny", folder)


def _graph(folder: Path, name: str) -> None:
    """A graph whose card was written for it as it is: hashes are right, so ONNX Runtime meets the bytes."""
    from ganaug.card import ModelCard, describe_graph
    from ganaug.generate import Generator

    if not (folder / name).stat().st_size:
        return
    card = seeds.model_card(name)
    old = card.graphs[0]
    (folder / name).rename(folder / old.file)
    fields = old.model_dump(exclude={"file", "sha256", "bytes"})
    graph = describe_graph(folder, old.file, **fields)
    ModelCard.model_validate({**card.model_dump(), "graphs": (graph.model_dump(),)}).save(folder)
    generator = Generator.open(folder, device="cpu")
    for class_name in generator.class_names[:2]:
        generator.sample(class_name, 3, seed=1)


def _screener(folder: Path, _name: str) -> None:
    from ganaug.screen import Screener

    seeds.hash_again(folder)
    screener = Screener.open(folder)
    screen = screener.for_class(0)
    looks = screen.look(np.zeros((2, *screener.image_shape), np.uint8))
    screen.decide(looks)


def _production(folder: Path, _name: str) -> None:
    from ganaug.places import open_place
    from ganaug.produce import record
    from ganaug.produce.reproduce import reproduce
    from ganaug.produce.source import FoundImages

    about = seeds.production_about(folder)
    steps: list[Callable[[], object]] = [
        lambda: record.begin(open_place(folder), about),
        lambda: record.all_parts(open_place(folder), 1, about),
        lambda: reproduce(folder, 1, model=seeds.model(), device="cpu"),
        lambda: FoundImages.read(folder, _made(folder / "out"), (8, 8, 1), ("cat", "dog", "emu")),
    ]
    for step in steps:
        with contextlib.suppress(GanaugError):
            step()


def _resume(folder: Path, _name: str) -> None:
    """The same production asked for again: what lies there is looked at, mended and gone on with."""
    from ganaug.produce import produce

    produce(seeds.order(folder))


def _shard(folder: Path, name: str) -> None:
    from ganaug.formats import FORMATS

    kind = name.partition(".")[0]
    for image in FORMATS[kind].read_all((folder / name).read_bytes()):
        assert image.dtype == np.uint8
        assert image.ndim == 3


def _run_folder(folder: Path, _name: str) -> None:
    from ganaug.plan import BalancePlan
    from ganaug.run import RunFolder
    from ganaug.split import load_split

    run = RunFolder.open(folder)
    run.records()
    for read in (
        lambda: BalancePlan.load(run.done_path("plan")),
        lambda: load_split(run.done_path("split")),
        lambda: RunFolder.create(folder, run.config, "f1"),
    ):
        with contextlib.suppress(GanaugError):
            read()


def _series(folder: Path, _name: str) -> None:
    from ganaug import refresh, review, series
    from ganaug.run import RunFolder

    run = RunFolder(folder / "0001", DEFAULT, "f1")
    for read in (
        lambda: refresh.load(run),
        lambda: refresh.last_of(run),
        lambda: refresh.carried_split(run),
        lambda: review.decision_of(run),
        lambda: review.waiting(run),
        lambda: series.history(folder),
        lambda: series._same(folder, 1, "f2", "f1"),
    ):
        with contextlib.suppress(GanaugError):
            read()


def _settings(folder: Path, name: str) -> None:
    from ganaug.config import describe, load

    describe(load(folder / name))


def _counts(folder: Path, name: str) -> None:
    from ganaug.produce.order import read_counts

    read_counts(folder / name)


def _generator_weights(folder: Path, _name: str) -> None:
    from ganaug.training.networks import load_generator

    load_generator(folder)


def _classifier_weights(folder: Path, _name: str) -> None:
    from ganaug.training.classifier import load_classifiers

    load_classifiers(folder)


def _checkpoint(folder: Path, name: str) -> None:
    from ganaug.training.checkpoint import load_tensors

    load_tensors(folder / name)


def _predictions(folder: Path, name: str) -> None:
    """What a command of `evaluate.classifier` leaves; `run_command` turns these two into a `TrainingError`."""
    from ganaug.training.classifiers import command

    with contextlib.suppress(OSError, ValueError):
        command._read(folder / name, ("cat", "dog"))


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


TARGETS: dict[str, Target] = {
    "image": Target(dataset_seeds.images, _image),
    "archive-zip": Target(dataset_seeds.zips, _archive),
    "archive-tar": Target(dataset_seeds.tars, _archive),
    "table-csv": Target(dataset_seeds.csv_tables, _table),
    "table-parquet": Target(dataset_seeds.parquet_tables, _table),
    "image-parquet": Target(dataset_seeds.image_parquets, _dataset),
    "npz": Target(dataset_seeds.npzs, _dataset),
    "card": Target(seeds.model_files, _card, is_folder=True),
    "store": Target(seeds.store_files, _store, is_folder=True),
    "graph": Target(seeds.graphs, _graph),
    "screener": Target(seeds.screener_files, _screener, is_folder=True),
    "shard": Target(seeds.shards, _shard),
    "production": Target(seeds.production_files, _production, is_folder=True),
    "resume": Target(seeds.production_files, _resume, is_folder=True),
    "run-folder": Target(seeds.run_files, _run_folder, is_folder=True),
    "series": Target(seeds.series_files, _series, is_folder=True),
    "settings": Target(seeds.settings_files, _settings),
    "counts": Target(seeds.count_files, _counts),
    "generator-weights": Target(seeds.generator_files, _generator_weights, is_folder=True),
    "classifier-weights": Target(seeds.classifier_files, _classifier_weights, is_folder=True),
    "checkpoint": Target(seeds.checkpoints, _checkpoint),
    "predictions": Target(seeds.predictions, _predictions),
}
"""A new reader is one function and one entry here."""


@functools.cache
def well_formed(name: str) -> dict[str, bytes]:
    """The undamaged files of a target, made once."""
    with seeds.scratch() as folder:
        return dict(sorted(TARGETS[name].files(folder).items()))


def cases(name: str) -> list[bytes]:
    """Undamaged cases. The first byte of a case tells which of the target's files the rest stands for."""
    return [bytes([number]) + content for number, content in enumerate(well_formed(name).values())]


def damaged(case: bytes, rng: Random) -> bytes:
    """A case with damage in its file."""
    return case[:1] + mutate(case[1:], rng)


def run(name: str, case: bytes, folder: Path, *, may_refuse: bool = True) -> None:
    """Let a target's reader read a case; a deliberate refusal is a good answer.

    Args:
        name: Of the target.
        case: As from `cases`.
        folder: An empty folder; the reader may write nowhere else.
        may_refuse: Whether a refusal is one.
    """
    target, files = TARGETS[name], well_formed(name)
    chosen = list(files)[case[0] % len(files)] if case else next(iter(files))
    for file, content in {**(files if target.is_folder else {}), chosen: case[1:]}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    with contextlib.suppress(*[GanaugError] if may_refuse else []):
        target.read(folder, chosen)


def emptied(folder: Path) -> Path:
    """A folder, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
