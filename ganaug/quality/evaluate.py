"""Which images the quality of a generator is measured on, for a run and for a published model.

What is measured is what ships: images come from the exported graphs, by ONNX Runtime.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from ganaug.config import Config
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, ModelError, SettingsError, UnknownClassError
from ganaug.generate import Generator
from ganaug.progress import to_listener
from ganaug.quality.held_out import fold_rows, unseen_rows
from ganaug.run import RunFolder, perform, write_atomically, writing
from ganaug.split import load_split
from ganaug.steps import STEPS, load_plan, load_synthetic, load_training, open_run, parts, run_dir

if TYPE_CHECKING:
    from ganaug.training.classifier import Classifier
    from ganaug.training.measure import Quality

QUALITY_FOLDER, QUALITY_FILE = "quality", "quality.json"
SPOILS = (
    "the locked test split was looked at. Changing any setting because of what it shows spoils the final "
    "verdict, which is honest only on images that no decision was made on."
)


@dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
        count: Synthetic images of each class.
        seeds: Classifiers that are trained for the score.
        synthetic: `produced` makes images with the generators; `screened` takes those that the
            run's screen kept.
        held_out: `fold`, or `test` for the locked test split.
        with_score: Train classifiers on the synthetic images.
        device: `auto`, `cpu` or `cuda`.
        steps: Training steps of those classifiers; None chooses by the number of images.
    """

    count: int = 500
    seeds: int = 1
    synthetic: Literal["produced", "screened"] = "produced"
    held_out: Literal["fold", "test"] = "fold"
    with_score: bool = True
    device: str = "auto"
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.count < 1 or self.seeds < 1:
            raise SettingsError(
                [
                    f"--count {self.count} and --seeds {self.seeds}: both must be at least 1; 500 and 1 are usual"
                ]
            )


@dataclass(frozen=True)
class Reals:
    """The real images, parted.

    Attributes:
        train: Neighbours for memorisation, and what fills classes without synthetic images.
        held_out: What synthetic images are compared to; none of them in `train`.
        seen: What the generator trained on.
        note: What the held-out images are, in sentences.
    """

    train: LabelledImages
    held_out: LabelledImages
    seen: LabelledImages
    note: str


@dataclass(frozen=True)
class Evaluation:
    """The numbers and how to read them."""

    quality: Quality
    title: str
    notes: tuple[str, ...]

    def save(self, folder: Path) -> Path:
        """Write `quality.json`.

        Raises:
            OutputError: The folder cannot be written.
        """
        tree = {"title": self.title, "notes": self.notes, **self.quality.to_dict()}
        path = folder / QUALITY_FILE
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(tree, indent=2, ensure_ascii=False))
        return path


def evaluate(model: str | None, config: Config, asked: Asked) -> Evaluation:
    """Measure a published model, or else the run that the settings name, which gets `quality.json`.

    Raises:
        RunFolderError: There is no such run, or another process works in it.
        GanaugError: What `evaluate_run` and `evaluate_model` raise.
    """
    if model is not None:
        return evaluate_model(model, config, asked)
    run = RunFolder.open(run_dir(config))
    with run.locked():
        evaluation = evaluate_run(run, asked)
        evaluation.save(run.path(QUALITY_FOLDER))
    return evaluation


def evaluate_run(run: RunFolder, asked: Asked) -> Evaluation:
    """Measure the exported generators of a run.

    Raises:
        MissingStepError: `split`, `plan`, `train` or `export` is not done.
        DatasetError: `screened` was asked for and the screen kept nothing.
        RunFolderError: The test split was changed, or `held_out.npy` is damaged.
        ModelError: A graph or classifier is damaged.
    """
    from ganaug.training.classifier import load_classifiers

    device = _device(asked)
    judge = load_classifiers(run.done_path("train", "classifiers"), device)[0]
    makers, reals = _makers(run, asked.device), _run_reals(run, asked)
    if asked.synthetic == "screened":
        synthetic, how = _screened(run, asked.count)
    else:
        synthetic, how = _produced(makers, reals.train, asked.count, run.config.produce.seed)
    return _evaluate(
        f"Quality of the generators in {run.folder}", synthetic, reals, judge, asked, [how], device
    )


def evaluate_model(model: str, config: Config, asked: Asked) -> Evaluation:
    """Measure a published model on a dataset: split anew by the settings, with a classifier trained for it.

    Raises:
        SettingsError: `screened` was asked for; a published model has no screened images.
        UnknownClassError: The model makes none of the dataset's classes.
        ModelError: There is no such model, it is damaged, or makes images of another size.
    """
    if asked.synthetic == "screened":
        raise SettingsError(
            [
                "--synthetic screened: a published model has no screened images; leave --model away, or ask for produced"
            ]
        )
    from ganaug.training.classifier import load_classifiers, train_classifiers

    generator, device = Generator.open(model, device=asked.device), _device(asked)
    with tempfile.TemporaryDirectory(prefix="ganaug-quality-") as folder:
        run = open_run(config.model_copy(update={"run_dir": Path(folder) / "run"}))
        perform(run, STEPS["split"], "", to_listener("split", ""))
        train = load_training(run)
        makers = _known_classes(generator, train)
        progress, judges = to_listener("train", "classifier"), Path(folder) / "classifier"
        train_classifiers(
            train, 1, judges, seed=config.train.seed, device=device, progress=progress, steps=asked.steps
        )
        judge = load_classifiers(judges, device)[0]
        reals = _parted(run, train, asked)
    synthetic, how = _produced(makers, train, asked.count, config.produce.seed)
    notes = [how, *_strangers(generator, train, run.fingerprint)]
    return _evaluate(f"Quality of {generator!r}", synthetic, reals, judge, asked, notes, device)


def _device(asked: Asked) -> str:
    from ganaug.training.device import resolve_device

    return resolve_device(asked.device)


def _evaluate(
    title: str,
    synthetic: LabelledImages,
    reals: Reals,
    judge: Classifier,
    asked: Asked,
    notes: list[str],
    device: str,
) -> Evaluation:
    from ganaug.training.measure import measure

    quality = measure(
        synthetic,
        reals.train,
        reals.held_out,
        judge,
        seen=reals.seen,
        seeds=range(asked.seeds),
        steps=asked.steps,
        device=device,
        progress=to_listener("measure", ""),
        with_score=asked.with_score,
    )
    if quality.filled_with_real:
        filled = ", ".join(quality.filled_with_real)
        notes = [
            *notes,
            f"Classes without synthetic images, filled with real training images for CAS: {filled}.",
        ]
    return Evaluation(quality, title, (reals.note, *notes))


def _makers(run: RunFolder, device: str) -> dict[str, Generator]:
    """The generator of each class: its own, or else the base, where the run has one."""
    makers: dict[str, Generator] = {}
    folders = [run.done_path("export", part) for part in parts(run, "export") if part != "classifiers"]
    for folder in folders:  # the base comes first
        generator = Generator.open(folder, public_key=False, device=device)
        makers |= dict.fromkeys(generator.class_names, generator)
    return makers


def _known_classes(generator: Generator, train: LabelledImages) -> dict[str, Generator]:
    known = [name for name in train.class_names if name in generator.class_names]
    if not known:
        raise UnknownClassError(train.class_names, generator.class_names, generator.card.name)
    shape = tuple(train.images.shape[1:])
    if generator.image_shape != shape:
        height, width, channels = generator.image_shape
        raise ModelError(
            f"model {generator.card.name!r} makes images of shape {generator.image_shape} and the dataset was read "
            f"as {shape}; give --data.size {height}x{width} --data.channels {channels}"
        )
    return dict.fromkeys(known, generator)


def _strangers(generator: Generator, train: LabelledImages, fingerprint: str) -> list[str]:
    """What keeps these training images from being the model's own."""
    counts = dict(zip(train.class_names, train.counts().tolist(), strict=True))
    if generator.card.dataset_sha256 != fingerprint:
        return [
            "The model was trained on another dataset, so memorisation and copies say nothing about its own "
            "training images."
        ]
    if generator.card.trained_on != counts:
        return [
            f"The model was trained on {sum(generator.card.trained_on.values())} images of this dataset and the "
            f"split here has {sum(counts.values())} to train on, so it may have seen held-out images. Give the "
            "`--split` settings that it was trained with."
        ]
    return []


def _produced(
    makers: Mapping[str, Generator], train: LabelledImages, count: int, seed: int
) -> tuple[LabelledImages, str]:
    images, class_ids = [], []
    for class_id, name in enumerate(train.class_names):
        if name in makers:
            images.append(makers[name].sample(name, count, seed=seed))
            class_ids += [class_id] * count
        to_listener("produce", "")(class_id + 1, len(train.class_names))
    index = pd.DataFrame({"class_id": np.array(class_ids, np.int64)})
    made = LabelledImages(np.concatenate(images), index, train.class_names)
    return (
        made,
        f"Synthetic images: {count} of each class that a generator makes, as it makes them (seed {seed}).",
    )


def _screened(run: RunFolder, count: int) -> tuple[LabelledImages, str]:
    kept = load_synthetic(run)
    if not len(kept):
        raise DatasetError(
            f"the screen of {run.folder} kept no synthetic images; measure what is produced (--synthetic produced)"
        )
    rows = np.concatenate([np.flatnonzero(kept.class_ids == k)[:count] for k in np.unique(kept.class_ids)])
    note = (
        "Synthetic images: those that the screen kept. It kept them for their label and for not being copies, "
        "so right label and copies are good by design."
    )
    return kept.take(rows), note


def _run_reals(run: RunFolder, asked: Asked) -> Reals:
    train = load_training(run)
    unseen = unseen_rows(run, train, load_plan(run)) if asked.held_out == "fold" else None
    if unseen is None:
        return _parted(run, train, asked)
    note = (
        f"Held-out images: the {len(unseen)} images of the training split that the generators did not train on; "
        "the classifier that gives features and labels did."
    )
    folded = fold_rows(train)
    folded = folded[~np.isin(train.class_ids[folded], train.class_ids[unseen])]
    if len(folded):
        names = ", ".join(train.class_names[class_id] for class_id in np.unique(train.class_ids[folded]))
        note += (
            f" Of the classes that none was kept back of ({names}) it is a fold of {len(folded)} images that the "
            "generators have trained on: their numbers flatter a generator that memorises."
        )
    seen = np.setdiff1d(np.arange(len(train)), unseen)
    held_out = np.union1d(unseen, folded)
    return Reals(train.take(np.setdiff1d(seen, folded)), train.take(held_out), train.take(seen), note)


def _parted(run: RunFolder, train: LabelledImages, asked: Asked) -> Reals:
    if asked.held_out == "test":
        test = load_split(run.path("split")).part("test")
        return Reals(
            train,
            test,
            train,
            f"Held-out images: the {len(test)} of the locked test split. Note that {SPOILS}",
        )
    rows = fold_rows(train)
    rest = train.take(np.setdiff1d(np.arange(len(train)), rows))
    note = (
        f"Held-out images: a fold of the training split, {len(rows)} of {len(train)} images, no group cut. The "
        "generators have trained on them too, in part at least, and so has the classifier that gives features and "
        "labels: every number, CAS included, flatters a generator that memorises."
    )
    return Reals(rest, train.take(rows), train, note)
