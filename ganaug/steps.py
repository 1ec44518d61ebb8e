"""The main job as a table of steps: which folders each reads, which library call it is.

This is the one place that ties the library to run folders; Prefect tasks and the
command line call `perform` on what stands here. Everything heavy is imported when a
step does its work, so that listing steps costs nothing.
"""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ganaug import refresh, review
from ganaug.config import Config
from ganaug.dataset import ClassIds, Images, LabelledImages
from ganaug.errors import ModelError, RunFolderError, TooManyUnreadableError
from ganaug.plan import BalancePlan, ClassPlan
from ganaug.progress import Progress, in_parts, silent
from ganaug.run import Job, Outcome, RunFolder, Step, perform, writing
from ganaug.screen import SCREENED_FILE, SCREENER

if TYPE_CHECKING:
    from ganaug.readers import Reading
    from ganaug.refusal import Checked
    from ganaug.split import Split

UNREADABLE_FILE = "unreadable.csv"
UNLABELLED_FILE = "unlabelled.npy"
_SHOWN = 5


def open_run(config: Config) -> RunFolder:
    """Begin or go on with the run that these settings describe.

    Raises:
        PathNotFoundError: The dataset does not exist.
        RunFolderError: The run folder belongs to another dataset or version.
        SettingsError: See `check_settings`.
    """
    from ganaug.readers import fingerprint

    check_settings(config)
    return RunFolder.create(run_dir(config), config, fingerprint(config.data))


def find_run(config: Config) -> RunFolder | None:
    """The run that `open_run` would go on with, or None where it would begin one; writes nothing.

    Raises:
        GanaugError: As of `open_run`.
    """
    from ganaug.readers import fingerprint

    check_settings(config)
    return RunFolder.find(run_dir(config), config, fingerprint(config.data))


def check_settings(config: Config) -> None:
    """Tell before the hours of training what would fail after them.

    Raises:
        SettingsError: An arm is unknown, starts from a discriminator that will not be kept, is on a best
            baseline that nothing chooses, or is a function that cannot be imported; or the classifier is not
            there.
    """
    from ganaug import own_arm, own_classifier
    from ganaug.arms import arm_names, check_starts, find_arms
    from ganaug.best_baseline import check

    is_kept = config.train.leaves_discriminator
    arms = find_arms(arm_names(config.evaluate, has_start=is_kept))
    check_starts(arms, is_kept=is_kept)
    check(config.evaluate, arms)
    for arm in arms:
        if arm.function:
            own_arm.load(arm.function)
    own_classifier.check_starts_alike(config.evaluate.classifier, arms)
    own_classifier.check_is_there(config.evaluate.classifier)


def run_name(config: Config) -> str:
    """Name of the run: as set, else the dataset's file name without suffixes."""
    if config.name != "auto":
        return config.name
    if config.data.path is None:
        return "digits"
    stem = config.data.path.resolve().name.lstrip(".").split(".")[0]
    # It names a folder and a model in the store.
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "run"


def run_dir(config: Config) -> Path:
    """The run folder: as set, else `runs/<name>`."""
    return config.run_dir or Path("runs") / run_name(config)


def parts(run: RunFolder, step: str) -> tuple[str, ...]:
    """The parts that a step is done in; one empty name for a step that is done whole.

    Training comes classifiers first, because the GANs are examined with them, then the base,
    because each class goes on from it. Screening makes the screener first.
    """
    if step in {"train", "export"}:
        own = tuple(plan.part for plan in load_plan(run).wanted if plan.trains_own)
        return ("classifiers", *(["base"] if _has_base(run) else []), *own)
    if step in {"produce", "screen"}:
        wanted = tuple(plan.part for plan in load_plan(run).wanted)
        return (SCREENER, *wanted) if step == "screen" and wanted else wanted
    return ("",)


def do(run: RunFolder, step: str, progress: Progress = silent) -> list[Outcome]:
    """Do all parts of a step that are not done yet."""
    return [perform(run, STEPS[step], part, progress) for part in parts(run, step)]


def decide_refresh(run: RunFolder) -> refresh.Decision:
    """Decide, after `split` and `plan`, which GANs a run that goes on from another trains."""
    return refresh.decide(run, load_plan(run), has_base=_has_base(run))


def load_plan(run: RunFolder) -> BalancePlan:
    """The plan of a run whose `plan` step is done."""
    return BalancePlan.load(run.done_path("plan"))


def load_training(run: RunFolder) -> LabelledImages:
    """The real training images of a run."""
    return LabelledImages.load(run.done_path("split")).part("train")


def training_counts(run: RunFolder) -> tuple[ClassIds, tuple[str, ...]]:
    """(K,) real training images per class and the K class names, without reading an image."""
    split = LabelledImages.load(run.done_path("split"))
    trained = split.class_ids[split.index["split"].to_numpy() == "train"]
    return np.bincount(trained, minlength=len(split.class_names)).astype(np.int64), split.class_names


def run_model(run: RunFolder) -> Path:
    """All exported generators of a run as one model, in the run's folder `model`.

    Raises:
        MissingStepError: `export` is not done.
        ModelError: A generator is missing or damaged.
    """
    from ganaug.card import ModelCard
    from ganaug.store import assemble_model

    folders = [run.done_path("export", part) for part in parts(run, "export") if part != "classifiers"]
    graphs = {graph.sha256 for folder in folders for graph in ModelCard.load(folder).graphs}
    out = run.folder / "model"
    with contextlib.suppress(ModelError):
        if {graph.sha256 for graph in ModelCard.load(out).graphs} == graphs:
            return out
    shutil.rmtree(out, ignore_errors=True)
    assemble_model(folders, out, name=run_name(run.config))
    return out


def load_unlabelled(run: RunFolder) -> Images | None:
    """The unlabelled images of a run, (N, H, W, C) uint8 mapped from disk; None when it has none."""
    path = run.done_path("split") / UNLABELLED_FILE
    return np.load(path, mmap_mode="r", allow_pickle=False) if path.is_file() else None


def _split(job: Job) -> dict[str, Any]:
    from ganaug import readers, split

    data_config, split_config = job.run.config.data, job.run.config.split
    with _listing_unreadable(job):
        reading = readers.read(
            data_config, job.out, previews=split_config.near_duplicates, progress=job.progress
        )
    _write_unreadable(reading.unreadable, job.out / UNREADABLE_FILE)
    made = split.make_split(
        reading.data,
        split_config,
        explicit_groups=bool(reading.data.index["group"].ne("").any()),
        previews=reading.previews,
        carried=refresh.carried_split(job.run),
        progress=job.progress,
    )
    split.save_split(made, job.out)
    more = {} if data_config.unlabelled is None else _unlabelled(job, reading, made)
    return {
        "images": len(made.data),
        "classes": len(made.data.class_names),
        "image_shape": list(made.data.images.shape[1:]),
        "unreadable": len(reading.unreadable),
        "first_unreadable": [f"{item.path}: {item.reason}" for item in reading.unreadable[:_SHOWN]],
        "notes": [*reading.notes, *more.pop("notes", [])],
        "warnings": list(made.warnings),
        **made.summary,
        **more,
    }


def _unlabelled(job: Job, reading: Reading, made: Split) -> dict[str, Any]:
    """Read the unlabelled images and leave those that may be trained on."""
    from ganaug import readers, split

    folder = job.out / "unlabelled"
    with _listing_unreadable(job):
        more = readers.read_unlabelled(job.run.config.data, folder, reading, job.progress)
    _write_unreadable(more.unreadable, job.out / f"unlabelled_{UNREADABLE_FILE}")
    sifted = split.sift_unlabelled(
        more.data,
        made.data,
        made.summary["near_duplicate_limits"],
        previews=(more.previews, reading.previews),
        progress=job.progress,
    )
    readers.copy_rows(more.data.images, sifted.rows, job.out / UNLABELLED_FILE)
    shutil.rmtree(folder)
    return {
        "unlabelled": len(sifted.rows),
        "unlabelled_dropped": sifted.dropped,
        "unlabelled_unreadable": len(more.unreadable),
        "notes": [*(f"unlabelled: {note}" for note in more.notes), sifted.note],
    }


@contextlib.contextmanager
def _listing_unreadable(job: Job) -> Iterator[None]:
    """Leave the list of unreadable images when they stop the run: its owner mends the data by it."""
    try:
        yield
    except TooManyUnreadableError as error:
        with writing(job.run.folder):
            _write_unreadable(error.unreadable, job.run.folder / UNREADABLE_FILE)
        raise


def _write_unreadable(unreadable: Sequence[Any], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason"])
        writer.writerows((item.path, item.reason) for item in unreadable)


def _plan(job: Job) -> dict[str, Any]:
    from ganaug.plan import make_plan

    counts, class_names = training_counts(job.run)
    config = job.run.config
    plan = make_plan(counts, class_names, config.plan, scope=config.train.chosen_scope)
    plan.save(job.out)
    return {
        "target": plan.target,
        "wanted": [row.class_name for row in plan.wanted],
        "deficit": sum(row.deficit for row in plan.wanted),
    }


def _train(job: Job) -> dict[str, Any]:
    from ganaug.training import classifier, gans
    from ganaug.training.device import resolve_device

    run, config = job.run, job.run.config
    if (taken := refresh.take_over(run, job.part, job.out)) is not None:
        return taken
    train, device = load_training(run), resolve_device(config.device)
    if job.part == "classifiers":
        summary = classifier.train_classifiers(
            train,
            config.screen.classifiers,
            job.out,
            seed=config.train.seed,
            folds=config.screen.folds,
            device=device,
            progress=job.progress,
            steps=None if config.screen.steps == "auto" else config.screen.steps,
        )
        return {**summary, "device": device}
    classifiers = run.path("train", "classifiers")
    if job.part == "base":
        return gans.train_base(
            train,
            config.train,
            job.out,
            classifiers=classifiers,
            unlabelled=load_unlabelled(run),
            start=refresh.start_of(run, "base"),
            device=device,
            progress=job.progress,
        )
    return gans.train_class(
        train,
        _class_of(run, job.part).class_id,
        run.path("train", "base") if _has_base(run) else None,
        classifiers,
        config.train,
        job.out,
        start=refresh.start_of(run, job.part),
        device=device,
        progress=job.progress,
    )


def _export(job: Job) -> dict[str, Any]:
    from ganaug.training import export

    run, model = job.run, job.run.path("train", job.part)
    if job.part == "classifiers":
        export.export_classifiers(model, job.out, run.config.export)
        return {}
    counts, class_names = training_counts(run)
    card = export.export_generator(
        model,
        job.out,
        run.config.export,
        class_names=class_names,
        dataset_sha256=run.fingerprint,
        trained_on=dict(zip(class_names, counts.tolist(), strict=True)),
    )
    return {"graphs": [graph.file for graph in card.graphs], "bytes": sum(g.bytes for g in card.graphs)}


def _produce(job: Job) -> dict[str, Any]:
    from ganaug.generate import Generator
    from ganaug.produce import produce_class

    run, config = job.run, job.run.config
    plan = _class_of(run, job.part)
    generator = Generator.open(run.path("export", _model_part(plan)), public_key=False, device=config.device)
    count = int(np.ceil(plan.deficit * config.produce.surplus))
    return produce_class(generator, plan.class_name, count, job.out, config.produce, job.progress)


def _screen(job: Job) -> dict[str, Any]:
    from ganaug.produce import open_shards
    from ganaug.screen import Screener, fit_screener, screen_class

    run = job.run
    if job.part == SCREENER:
        return fit_screener(
            load_training(run),
            sorted(run.path("export", "classifiers").glob("*.onnx")),
            sorted(run.path("train", "classifiers").glob("fold-*.npz")),
            run.config.screen,
            job.out,
            progress=job.progress,
        )
    produced = run.path("produce", job.part)
    screener = Screener.open(run.path("screen", SCREENER), threads=0)
    return screen_class(
        open_shards(produced),
        pd.read_parquet(produced / "manifest"),
        screener.for_class(_class_of(run, job.part).class_id),
        job.out,
        progress=job.progress,
    )


def _assemble(job: Job) -> dict[str, Any]:
    from ganaug.assemble import assemble

    run = job.run
    synthetic, _ = usable_synthetic(run, load_synthetic(run))
    return assemble(load_training(run), synthetic, load_plan(run), job.out, run.config.assemble, job.progress)


def load_synthetic(run: RunFolder) -> LabelledImages:
    """The synthetic images that the screen kept and a review let pass, in the order of class and index.

    Its index has `class_id`, `model_sha256`, `class_name`, `seed` and `index` of each.

    Raises:
        ReviewError: A review is required, and nobody has decided.
    """
    split = LabelledImages.load(run.done_path("split"))
    images, rows = [np.empty((0, *split.images.shape[1:]), np.uint8)], []
    left_out = review.left_out(run)
    for plan in load_plan(run).wanted:
        if plan.class_name in left_out:
            continue
        folder = run.done_path("screen", plan.part)
        screened = pd.read_parquet(folder / SCREENED_FILE)
        images.append(np.load(folder / "kept.npy", mmap_mode="r", allow_pickle=False))
        rows.append(screened[screened["kept"]])
    index = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame({"class_id": np.empty(0, np.int64)})
    return LabelledImages(np.concatenate(images), index, split.class_names)


def usable_synthetic(run: RunFolder, kept: LabelledImages) -> tuple[LabelledImages, Checked]:
    """Those without the images of classes whose generator is refused, and what is to be said of that."""
    from ganaug.refusal import label_rates, refuse_mislabelled

    reasons = {
        plan.class_id: pd.read_parquet(run.path("screen", plan.part) / SCREENED_FILE, columns=["reason"])[
            "reason"
        ]
        for plan in load_plan(run).wanted
    }
    return refuse_mislabelled(
        kept, label_rates(reasons, kept.class_names, run.config.evaluate.min_right_label)
    )


def _evaluate(job: Job) -> dict[str, Any]:
    from ganaug.arms import arm_names
    from ganaug.further_splits import further_splits
    from ganaug.leak import refuse_leaks
    from ganaug.split import load_split
    from ganaug.training.arena import run_arena
    from ganaug.training.contest import LEAST_STEPS
    from ganaug.training.device import resolve_device

    run, config = job.run, job.run.config
    data, device = load_split(run.path("split")), resolve_device(config.device)
    train, test, kept = data.part("train"), data.part("test"), load_synthetic(run)
    # Both before any classifier is trained: what they refuse is not worth the hours.
    leak_note = refuse_leaks(train, test, kept, config.evaluate.near_copies)
    synthetic, checked = usable_synthetic(run, kept)
    n_further = config.evaluate.chosen_splits - 1
    # About the images that the classifiers of a split are trained on: what progress is told in.
    size = 64 * LEAST_STEPS * len(arm_names(config.evaluate)) * config.evaluate.chosen_seeds
    further, own = in_parts(job.progress, [n_further * size, size])
    others = further_splits(run, n_further, further)
    arena = run_arena(
        train,
        synthetic,
        test,
        [plan.class_id for plan in load_plan(run).wanted],
        config.evaluate,
        job.out,
        calibration=_rightly_labelled(run, np.unique(synthetic.class_ids).tolist()),
        checked=checked.with_notes([leak_note]),
        discriminator=run.path("train", "base"),
        device=device,
        others=others,
        progress=own,
    )
    refused = [rate.class_name for rate in checked.label_rates if rate.is_refused]
    return {
        "verdict": arena.verdict.verdict,
        "sentence": arena.verdict.sentence,
        "refused": refused,
        "device": device,
    }


def _rightly_labelled(run: RunFolder, class_ids: Sequence[int]) -> LabelledImages:
    """Images of these classes as they were produced, but for those that a screening classifier calls otherwise.

    The screen throws away what its classifiers are not sure of, and that tells most of where thresholds belong.
    """
    from ganaug.produce import open_shards
    from ganaug.screen.looks import WRONG_LABEL

    split = LabelledImages.load(run.done_path("split"))
    images, ids = [np.empty((0, *split.images.shape[1:]), np.uint8)], [np.empty(0, np.int64)]
    for plan in load_plan(run).wanted:
        if plan.class_id in class_ids:
            screened = pd.read_parquet(run.path("screen", plan.part) / SCREENED_FILE, columns=["reason"])
            is_right = (screened["reason"] != WRONG_LABEL).to_numpy()
            begin = 0
            for shard in open_shards(run.path("produce", plan.part)):
                rows = np.flatnonzero(is_right[begin : begin + len(shard)])
                images.append(shard[rows])
                ids.append(np.full(len(rows), plan.class_id))
                begin += len(shard)
    return LabelledImages(
        np.concatenate(images), pd.DataFrame({"class_id": np.concatenate(ids)}), split.class_names
    )


def _publish(job: Job) -> dict[str, Any]:
    from ganaug.publish import publish_model

    run, config = job.run, job.run.config
    verdict = json.loads((run.path("evaluate") / "verdict.json").read_text(encoding="utf-8"))
    folders = [run.path("export", "base")] if _has_base(run) else []
    left_out = review.left_out(run)
    own = [plan for plan in load_plan(run).wanted if plan.trains_own and plan.class_name not in left_out]
    folders += [run.path("export", plan.part) for plan in own]
    decision = review.decision_of(run) if review.is_required(run) else None
    name = run_name(config) if config.publish.name == "auto" else config.publish.name
    settings = config.publish
    return publish_model(
        folders,
        verdict,
        settings.store,
        name,
        job.out,
        accept=settings.accept,
        license=settings.license,
        source=settings.source,
        rejected=decision.sentence if decision is not None and decision.answer == "reject" else "",
        promote=settings.promote,
        sign_with=settings.sign_with,
        run={"folder": run.folder.name, "dataset_sha256": run.fingerprint},
    )


def _report(job: Job) -> dict[str, Any]:
    from ganaug.report import write_report

    return {"report": write_report(job.run.folder, job.out, job.run.config).name}


def _class_of(run: RunFolder, part: str) -> ClassPlan:
    for plan in load_plan(run).wanted:
        if plan.part == part:
            return plan
    raise RunFolderError(f"the plan of {run.folder} wants nothing for {part!r}")


def _has_base(run: RunFolder) -> bool:
    """Whether there is a GAN on all classes; not where each class's is trained from nothing."""
    return run.config.train.chosen_scope != "independent"


def _model_part(plan: ClassPlan) -> str:
    return plan.part if plan.trains_own else "base"


def _reads_for_train(run: RunFolder, part: str) -> Sequence[str]:
    if part == "classifiers":
        return ("split",)
    goes_on = part != "base" and _has_base(run)
    return ("split", "train/classifiers", *(["train/base"] if goes_on else []))


def _reads_for_produce(run: RunFolder, part: str) -> Sequence[str]:
    return ("plan", f"export/{_model_part(_class_of(run, part))}")


def _reads_for_screen(run: RunFolder, part: str) -> Sequence[str]:
    if part == SCREENER:
        return ("split", "export/classifiers", "train/classifiers")
    return (f"screen/{SCREENER}", f"produce/{part}")


def _reads_for_sets(run: RunFolder, part: str) -> Sequence[str]:
    screened = [f"screen/{plan.part}" for plan in load_plan(run).wanted]
    return ("split", "plan", *screened)


def _reads_for_evaluate(run: RunFolder, part: str) -> Sequence[str]:
    from ganaug.arms import arm_names, starts_from_discriminator

    config = run.config
    names = arm_names(config.evaluate, has_start=config.train.leaves_discriminator)
    starts = _has_base(run) and starts_from_discriminator(names)
    return (*_reads_for_sets(run, part), *(["train/base"] if starts else []))


def _more_for_evaluate(run: RunFolder, part: str) -> dict[str, Any] | None:
    """The code of the user's own arms and classifier, by name; and what a review decided."""
    from ganaug.arms import arm_names, find_arms
    from ganaug.own_arm import code_digest
    from ganaug.own_classifier import identity

    config = run.config.evaluate
    own = [arm for arm in find_arms(arm_names(config)) if arm.function]
    _, *classifier = identity(config.classifier)
    return {
        **{arm.name: code_digest(arm.function) for arm in own},
        **({"classifier": classifier} if classifier else {}),
        **(review.staleness(run, part) or {}),
    } or None


def _reads_for_publish(run: RunFolder, part: str) -> Sequence[str]:
    return ("evaluate", *_references(run, "export"))


def _reads_for_report(run: RunFolder, part: str) -> Sequence[str]:
    """Everything that is done; a report can be asked for in the middle of a run."""
    found = ["split"]
    for step in list(STEPS)[1:-1]:
        if step != "plan" and run.record("plan") is None:
            break
        found += [reference for reference in _references(run, step) if run.record(*_halves(reference))]
    return found


def _references(run: RunFolder, step: str) -> list[str]:
    return [f"{step}/{part}" if part else step for part in parts(run, step)]


def _halves(reference: str) -> tuple[str, str]:
    step, _, part = reference.partition("/")
    return step, part


_ALL = [
    Step(
        "split",
        _split,
        ("ganaug.readers", "ganaug.split"),
        lambda run, part: (),
        ("data", "split"),
        refresh.carried_digest,
    ),
    Step("plan", _plan, ("ganaug.plan",), lambda run, part: ("split",), ("plan", "train")),
    Step(
        "train",
        _train,
        ("ganaug.training.gans", "ganaug.training.classifier"),
        _reads_for_train,
        ("train", "screen.classifiers", "screen.folds", "screen.steps", "device"),
        refresh.how_trained,
    ),
    Step("export", _export, ("ganaug.training.export",), lambda run, part: (f"train/{part}",), ("export",)),
    Step("produce", _produce, ("ganaug.produce",), _reads_for_produce, ("produce", "device")),
    Step("screen", _screen, ("ganaug.screen",), _reads_for_screen, ("screen",)),
    Step(
        "assemble",
        _assemble,
        ("ganaug.assemble", "ganaug.refusal"),
        _reads_for_sets,
        ("assemble", "evaluate.min_right_label"),
        review.staleness,
    ),
    Step(
        "evaluate",
        _evaluate,
        ("ganaug.training.arena", "ganaug.leak"),
        _reads_for_evaluate,
        ("evaluate", "device"),
        _more_for_evaluate,
    ),
    Step(
        "publish",
        _publish,
        ("ganaug.publish",),
        _reads_for_publish,
        # Not `require_gain`: whether a refusal is a failure changes nothing of what is left.
        (
            "publish.accept",
            "publish.store",
            "publish.name",
            "publish.license",
            "publish.source",
            "publish.promote",
            "publish.sign_with",
            "name",
        ),
        review.staleness,
    ),
    Step("report", _report, ("ganaug.report",), _reads_for_report, ("report",)),
]
STEPS = {step.name: step for step in _ALL}
"""Every step in the order of the main job."""
