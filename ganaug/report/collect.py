"""What a run's step folders say, as plain values: every number of the page is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ganaug.config import Config
from ganaug.dataset import LabelledImages
from ganaug.plan import BalancePlan
from ganaug.report.amounts import Amounts, read_amounts
from ganaug.report.arena import Arena, Estimate, read_arena
from ganaug.report.cost import Costs, read_costs
from ganaug.report.curves import PLOTS, PlotKind
from ganaug.report.data import DataFacts, read_data, read_json
from ganaug.report.errors_seen import Errors, read_errors
from ganaug.report.gans import Gan, read_gans
from ganaug.report.plain import Plain, in_plain_words
from ganaug.report.provenance import Provenance, command, read_provenance
from ganaug.report.sheets import load_table
from ganaug.run import RUN_FILE, RunFolder, StepRecord
from ganaug.screen import REASONS, SCREENED_FILE, SCREENER

STEPS = ("split", "plan", "train", "export", "produce", "screen", "assemble", "evaluate", "publish")
"""The steps that the page tells about, in their order."""
RECALLS_DRAWN = 24
"""Classes in the plot of recalls; the table has all."""


@dataclass(frozen=True)
class ClassRow:
    """One class, from its real images to its recall.

    Attributes:
        class_id: Its number in the dataset.
        class_name: Its name.
        part: Its folder within each step.
        real: Real training images.
        target: Wanted training images.
        deficit: Images that lack to the target.
        is_wanted: Whether synthetic images are made for it.
        note: Why none are made, in words.
        produced: Synthetic images made.
        kept: Those that the screen kept.
        test: Real held-out images.
        recall_before: Its recall in the best arm without synthetic images, 0 to 1.
        recall_after: Its recall in the arm with them.
    """

    class_id: int
    class_name: str
    part: str
    real: int
    target: int
    deficit: int
    is_wanted: bool
    note: str
    produced: int
    kept: int
    test: int
    recall_before: float | None
    recall_after: float | None

    @property
    def after(self) -> int:
        """Training images with those synthetic ones that fill the deficit."""
        return self.real + min(self.kept, self.deficit)

    @property
    def recall_gain(self) -> float | None:
        """Change of recall, -1 to 1."""
        if self.recall_before is None or self.recall_after is None:
            return None
        return self.recall_after - self.recall_before


@dataclass(frozen=True)
class RejectionRow:
    """What the screen did with one class's images.

    Attributes:
        class_name: The class.
        part: Its folder.
        produced: Images screened.
        right: Images that all screening classifiers call by their class.
        kept: Images kept.
        reasons: Images rejected, per reason in the order of `Report.reasons`.
    """

    class_name: str
    part: str
    produced: int
    right: int
    kept: int
    reasons: tuple[int, ...]

    def share(self, number: int) -> float:
        """A number of images as a share of those screened."""
        return number / self.produced if self.produced else 0.0


@dataclass(frozen=True)
class Measured:
    """What an image had to reach, as the screener measured it on real training images.

    Attributes:
        recognised: Share of held-out real images that were recognised, classes alike.
        min_confidence: Calibrated probability that each classifier must give the class.
        min_realism: Typical distance between real neighbours over that to the nearest real image.
        min_distance: Root mean square of pixels in 0..1; nearer to a real image is a copy.
    """

    recognised: float
    min_confidence: float
    min_realism: float
    min_distance: float


@dataclass(frozen=True)
class RecallChange:
    """A class's recall before and after, for the plot; the change has ends where an interval is known."""

    class_name: str
    is_wanted: bool
    before: float
    after: float
    change: Estimate


@dataclass(frozen=True)
class Publication:
    """Whether the model went to the store, and why."""

    is_published: bool
    reason: str
    place: str


@dataclass(frozen=True)
class Report:
    """Everything that the page shows, pictures excepted; what has not been run is empty or None."""

    name: str
    dataset: str
    target: str
    done: frozenset[str]
    stale: tuple[str, ...]
    classes: tuple[ClassRow, ...]
    reasons: tuple[str, ...]
    rejections: tuple[RejectionRow, ...]
    screener: Measured | None
    arena: Arena | None
    plain: Plain | None
    errors: Errors | None
    amounts: Amounts | None
    has_recipe: bool
    tuning_command: str
    publication: Publication | None
    gans: tuple[Gan, ...]
    gans_total: int
    data: DataFacts | None
    costs: Costs
    provenance: Provenance

    @property
    def wanted(self) -> tuple[ClassRow, ...]:
        """The classes that get synthetic images."""
        return tuple(row for row in self.classes if row.is_wanted)

    @property
    def produced(self) -> int:
        """Synthetic images made, all classes."""
        return sum(row.produced for row in self.classes)

    @property
    def kept(self) -> int:
        """Synthetic images kept, all classes."""
        return sum(row.kept for row in self.classes)

    @property
    def most(self) -> int:
        """The largest number of training images of a class, before, after or wanted."""
        return max((max(row.after, row.target) for row in self.classes), default=0)

    @property
    def plot_kinds(self) -> tuple[PlotKind, ...]:
        """The plots that any GAN has and that need a word of explanation."""
        drawn = {plot.kind.title for gan in self.gans for plot in gan.plots}
        return tuple(kind for kind in PLOTS if kind.note and kind.title in drawn)

    @property
    def recall_changes(self) -> tuple[RecallChange, ...]:
        """Wanted classes, then the others, the largest change first; never more than the plot has room for."""
        rows = [
            RecallChange(
                row.class_name,
                row.is_wanted,
                row.recall_before,
                row.recall_after,
                (self.arena.recall_change if self.arena else {}).get(row.class_id, Estimate(gain)),
            )
            for row in self.classes
            if row.recall_before is not None and row.recall_after is not None
            if (gain := row.recall_gain) is not None
        ]
        rows.sort(key=lambda row: (not row.is_wanted, -abs(row.change.value)))
        return tuple(rows[:RECALLS_DRAWN])


def collect(run_folder: Path, config: Config) -> Report:
    """Read what the finished steps of a run left.

    Args:
        run_folder: The run; any of its steps may be missing.
        config: Its settings.

    Raises:
        RunFolderError: A `step.json` is damaged.
    """
    identity = read_json(run_folder / RUN_FILE)
    run = RunFolder(run_folder, config, str(identity.get("fingerprint", "")))
    # What lies in `.partial` folders or belongs to an old plan is not part of the run.
    records = [record for record in run.records() if record.step in STEPS]
    classes = tuple(class_rows(run_folder))
    reasons, rejections = _rejections(run, classes)
    gans, gans_total = read_gans(
        run,
        {row.part: row.class_name for row in classes if row.is_wanted},
        {row.class_id: row.class_name for row in classes},
    )
    arena = read_arena(run.path("evaluate"), config.evaluate) if run.record("evaluate") else None
    name = config.name if config.name != "auto" else run_folder.name
    return Report(
        name=name,
        dataset=str(identity.get("dataset", config.data.path or "digits")),
        target=BalancePlan.load(run.path("plan")).target if run.record("plan") else "",
        done=frozenset(record.step for record in records),
        stale=_stale(records),
        classes=classes,
        reasons=reasons,
        rejections=rejections,
        screener=_measured(run),
        arena=arena,
        plain=in_plain_words(arena) if arena else None,
        errors=_errors(run, arena, classes) if arena else None,
        amounts=read_amounts(run.path("evaluate")) if arena else None,
        has_recipe=(run.path("evaluate") / "recipe").is_dir(),
        tuning_command=_tuning_command(config),
        publication=_publication(run),
        gans=gans,
        gans_total=gans_total,
        data=read_data(run),
        costs=read_costs(run, records, arena),
        provenance=read_provenance(run, config, records),
    )


def class_rows(run_folder: Path) -> list[ClassRow]:
    """One row per class, with what is known so far; empty before there is a plan.

    Args:
        run_folder: The run folder.
    """
    run = RunFolder(run_folder, Config(), "")
    if run.record("plan") is None:
        return []
    tests = _test_counts(run)
    rows = [
        ClassRow(
            plan.class_id,
            plan.class_name,
            plan.part,
            plan.real,
            plan.target,
            plan.deficit,
            plan.is_wanted,
            plan.note,
            *(_produced_and_kept(run, plan.part) if plan.is_wanted else (0, 0)),
            test=int(tests[plan.class_id]) if plan.class_id < len(tests) else 0,
            recall_before=None,
            recall_after=None,
        )
        for plan in BalancePlan.load(run.path("plan")).classes
    ]
    if run.record("evaluate") is None:
        return rows
    arena = read_arena(run.path("evaluate"), run.config.evaluate)
    return [
        replace(
            row,
            recall_before=arena.recall_before.get(row.class_id),
            recall_after=arena.recall_after.get(row.class_id),
        )
        for row in rows
    ]


def _test_counts(run: RunFolder) -> Sequence[int]:
    if run.record("split") is None:
        return []
    data = LabelledImages.load(run.path("split"))
    is_test = data.index["split"].to_numpy() == "test"
    counts: list[int] = np.bincount(data.class_ids[is_test], minlength=len(data.class_names)).tolist()
    return counts


def _produced_and_kept(run: RunFolder, part: str) -> tuple[int, int]:
    if run.record("screen", part) is not None:
        kept = pd.read_parquet(run.path("screen", part) / SCREENED_FILE, columns=["kept"])["kept"]
        return len(kept), int(kept.sum())
    manifest = run.path("produce", part) / "manifest.parquet"
    if run.record("produce", part) is not None and manifest.is_file():
        return int(pq.read_metadata(manifest).num_rows), 0
    return 0, 0


def _rejections(
    run: RunFolder, classes: Sequence[ClassRow]
) -> tuple[tuple[str, ...], tuple[RejectionRow, ...]]:
    """The reasons that are known or occur, and a row per screened class."""
    counts: dict[str, dict[str, int]] = {}
    for row in classes:
        if row.is_wanted and run.record("screen", row.part) is not None:
            table = load_table(run.path("screen", row.part) / SCREENED_FILE)
            rejected = table.loc[~table["kept"], "reason"].value_counts()
            counts[row.part] = {str(reason): int(number) for reason, number in rejected.items()}
    found = {reason for per_reason in counts.values() for reason in per_reason}
    reasons = (*REASONS, *sorted(found - set(REASONS)))
    return reasons, tuple(
        RejectionRow(
            row.class_name,
            row.part,
            row.produced,
            # An image has one reason, the first that applies, and the wrong label is asked first.
            row.produced - counts[row.part].get(REASONS[0], 0),
            row.kept,
            tuple(counts[row.part].get(reason, 0) for reason in reasons),
        )
        for row in classes
        if row.part in counts
    )


def _measured(run: RunFolder) -> Measured | None:
    record = run.record("screen", SCREENER)
    if record is None:
        return None
    names = (field.name for field in fields(Measured))
    return Measured(**{name: float(record.summary.get(name, 0.0)) for name in names})


def _publication(run: RunFolder) -> Publication | None:
    if run.record("publish") is None:
        return None
    tree = read_json(run.path("publish") / "publish.json")
    # The page says "Published" or "Not published" in large type above the reason.
    reason = str(tree.get("reason", "")).removeprefix("not ").removeprefix("published: ")
    return Publication(bool(tree.get("published")), reason, str(tree.get("path") or ""))


def _errors(run: RunFolder, arena: Arena, classes: Sequence[ClassRow]) -> Errors:
    wanted = [row.class_id for row in classes if row.is_wanted]
    return read_errors(run.folder, wanted, arena.before, arena.after)


def _tuning_command(config: Config) -> str:
    """The run's command, with the amount of synthetic images left to the tuning."""
    evaluate = config.evaluate.model_copy(update={"budget": "standard", "synthetic_share": "auto"})
    return command(config.model_copy(update={"evaluate": evaluate}))


def _stale(records: Sequence[StepRecord]) -> tuple[str, ...]:
    """Steps whose inputs have changed since they were done: what they say is of an earlier state."""
    digests = {f"{record.step}/{record.part}".rstrip("/"): record.digest for record in records}
    return tuple(
        name
        for name, record in ((f"{record.step}/{record.part}".rstrip("/"), record) for record in records)
        if any(digests.get(source, was) != was for source, was in record.inputs.items())
    )
