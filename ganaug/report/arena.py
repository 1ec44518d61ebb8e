"""What `evaluate` measured, as the page shows it: arms, differences with intervals, the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ganaug.arms import make_arm
from ganaug.config import EvaluateConfig
from ganaug.errors import SettingsError

MEASURES = {
    "macro_f1": "Macro-F1",
    "rare_recall": "Rare recall",
    "rare_average_precision": "Rare average precision",
}
"""Columns of `scores.parquet` that the page draws, with their titles."""
MORE_MEASURES = {
    "balanced_accuracy": "Balanced accuracy",
    "head_recall": "Recall, head",
    "middle_recall": "Recall, middle",
    "tail_recall": "Recall, tail",
    "matched_rare_recall": "Rare recall, matched",
    "calibration_error": "Calibration error",
}
"""Columns that its table shows as well, where the run has them."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; the ends are None where there is nothing to take them from."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measured:
    """One measure of one arm: its mean over classifier seeds (and test splits), and each one's value."""

    name: str
    mean: Estimate
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class ArmRow:
    """One arm.

    Attributes:
        name: Its name in the settings.
        meaning: What it is, in words.
        is_baseline: Whether it is the best cheap arm, which synthetic images must beat.
        has_synthetic: Whether it uses synthetic images.
        measures: Its measures, in the order of `MEASURES`; macro-F1 comes first.
        more: Further ones, in the order of `MORE_MEASURES`.
        difference: Its macro-F1 less the baseline's, paired; None for the baseline. For the arm
            of the verdict it is the verdict's; for the others the interval holds for all at once.
            Of older runs, the others cover seeds alone.
    """

    name: str
    meaning: str
    is_baseline: bool
    has_synthetic: bool
    measures: tuple[Measured, ...]
    more: tuple[Measured, ...]
    difference: Estimate | None


@dataclass(frozen=True)
class Change:
    """A measure before and after synthetic images, and the paired difference."""

    name: str
    before: float
    after: float
    difference: Estimate


@dataclass(frozen=True)
class Arena:
    """The evaluation.

    Attributes:
        verdict: `helps`, `no difference`, `hurts` or `cannot tell`.
        sentence: The verdict in words.
        before: Name of the best cheap arm.
        after: Name of the arm with synthetic images.
        confidence: Level of the intervals.
        margin: Difference of macro-F1 below which arms count as alike.
        notes: How to read it, in sentences.
        changes: The measures before and after, in the order of `MEASURES`; empty without an arm
            with synthetic images.
        arms: Every arm.
        recall_before: Recall of each class id in the arm `before`, mean over seeds.
        recall_after: The same in the arm `after`.
        recall_change: Change of recall of each wanted class id, with its interval.
        visible: What the test images of each wanted class can show, in sentences.
        smallest_visible: About the smallest difference of macro-F1 that these data can show; None where
            that is not known.
        splits: Test splits that the means are over, besides seeds.
    """

    verdict: str
    sentence: str
    before: str
    after: str
    confidence: float
    margin: float
    notes: tuple[str, ...]
    changes: tuple[Change, ...]
    arms: tuple[ArmRow, ...]
    recall_before: Mapping[int, float]
    recall_after: Mapping[int, float]
    recall_change: Mapping[int, Estimate]
    visible: tuple[str, ...]
    smallest_visible: float | None = None
    splits: int = 1

    @property
    def ranked(self) -> tuple[ArmRow, ...]:
        """Every arm, the best macro-F1 first."""
        return tuple(sorted(self.arms, key=lambda arm: -arm.measures[0].mean.value if arm.measures else 0.0))

    @property
    def seeds(self) -> int:
        """Classifier seeds per arm and test split."""
        return (
            max((len(arm.measures[0].seeds) for arm in self.arms if arm.measures), default=0) // self.splits
        )

    def change(self, measure: str) -> Change | None:
        """A measure before and after, by its name in `MEASURES`; None where there is none."""
        return next((change for change in self.changes if change.name == MEASURES[measure]), None)


def read_arena(folder: Path, config: EvaluateConfig) -> Arena:
    """Read a finished `evaluate` folder.

    Args:
        folder: Holds `verdict.json`, `scores.parquet` and `per_class.parquet`.
        config: Settings of the evaluation, for what an older verdict does not say.
    """
    tree: dict[str, Any] = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    before, after = str(tree["before"]), str(tree.get("after") or "")
    confidence = float(tree.get("confidence", config.confidence))
    found = {name: tree["measures"][name] for name in MEASURES if tree.get("measures", {}).get(name)}
    differences = {name: _difference(values) for name, values in found.items()}
    recalls = _recalls(folder / "per_class.parquet")
    scores = pd.read_parquet(folder / "scores.parquet")
    visible = tree.get("smallest_visible")
    return Arena(
        verdict=str(tree["verdict"]),
        sentence=str(tree["sentence"]),
        before=before,
        after=after,
        confidence=confidence,
        margin=float(tree.get("margin", config.margin)),
        notes=tuple(map(str, tree.get("notes", ()))),
        changes=tuple(
            Change(MEASURES[name], float(values["before"]), float(values["after"]), differences[name])
            for name, values in found.items()
        ),
        arms=_arms(scores, tree, differences, confidence),
        recall_before=recalls.get(before, {}),
        recall_after=recalls.get(after, {}),
        recall_change={
            int(row["class_id"]): _difference(row["recall"])
            for row in tree.get("classes", ())
            if row.get("recall")
        },
        visible=tuple(str(row["sentence"]) for row in tree.get("classes", ()) if row.get("sentence")),
        smallest_visible=None if visible is None else float(visible),
        splits=max(1, int(scores["split"].nunique())) if "split" in scores else 1,
    )


def _difference(values: Mapping[str, float]) -> Estimate:
    return Estimate(float(values["difference"]), float(values["low"]), float(values["high"]))


def _arms(
    scores: pd.DataFrame, tree: Mapping[str, Any], differences: Mapping[str, Estimate], confidence: float
) -> tuple[ArmRow, ...]:
    before, after = str(tree["before"]), str(tree.get("after") or "")
    compared = {str(row["arm"]): row for row in tree.get("comparisons", ())}
    # Rare classes may have no test images: a measure without values is not shown.
    measures, more = (
        [name for name in titles if name in scores and scores[name].notna().any()]
        for titles in (MEASURES, MORE_MEASURES)
    )
    names = [str(name) for name in dict.fromkeys(scores["arm"])]
    # Arms are paired: by seed, and by test split where there are several.
    paired = [column for column in ("split", "seed") if column in scores]
    by_arm = {name: scores[scores["arm"] == name].set_index(paired) for name in names}

    def difference(name: str) -> Estimate | None:
        if name == before or before not in by_arm:
            return None
        if name == after and "macro_f1" in differences:
            return differences["macro_f1"]
        if name in compared:
            return _difference(compared[name])
        gaps = (by_arm[name]["macro_f1"] - by_arm[before]["macro_f1"]).dropna()
        return interval(gaps.to_numpy(np.float64), confidence)

    return tuple(
        ArmRow(
            name,
            _meaning(name),
            is_baseline=name == before,
            has_synthetic=bool(compared[name]["has_synthetic"]) if name in compared else name == after,
            measures=tuple(_measured(one, by_arm[name][one], confidence) for one in measures),
            more=tuple(_measured(one, by_arm[name][one], confidence) for one in more),
            difference=difference(name),
        )
        for name in names
    )


def _meaning(name: str) -> str:
    try:
        return make_arm(name).meaning
    except SettingsError:  # of a run that another version made
        return ""


def interval(values: npt.NDArray[np.float64], confidence: float) -> Estimate:
    """Mean of a few runs with Student's interval; without ends where there is one run.

    >>> found = interval(np.array([1.0, 2.0, 3.0]), 0.95)
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (2.0, -0.484, 4.484)
    """
    from scipy.special import stdtrit

    values = values[np.isfinite(values)]
    if len(values) == 0:
        return Estimate(float("nan"))
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean)
    reach = float(stdtrit(len(values) - 1, (1 + confidence) / 2) * values.std(ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, mean - reach, mean + reach)


def _measured(name: str, values: pd.Series, confidence: float) -> Measured:
    numbers = values.to_numpy(np.float64)
    return Measured(name, interval(numbers, confidence), tuple(map(float, numbers)))


def _recalls(path: Path) -> dict[str, dict[int, float]]:
    """Mean recall over seeds, per arm and class id; classes without test images are left out."""
    table = pd.read_parquet(path, columns=["arm", "class_id", "recall"]).dropna()
    means = table.groupby(["arm", "class_id"], as_index=False)["recall"].mean()
    found: dict[str, dict[int, float]] = {}
    for arm, class_id, recall in zip(means["arm"], means["class_id"], means["recall"], strict=True):
        found.setdefault(str(arm), {})[int(class_id)] = float(recall)
    return found
