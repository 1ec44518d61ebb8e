"""How much synthetic material was tried on validation folds, and what each amount gained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ganaug.report.data import read_json

TUNING_FILE, SCORES_FILE = "tuning.json", "tuning.parquet"
NOTHING = "no synthetic images"
"""What the tuning calls the candidate that the others are compared with."""


@dataclass(frozen=True)
class Candidate:
    """One use of synthetic images that was tried.

    Attributes:
        arm: The arm, or that it is none; of strengths, the arm with that strength.
        share: Share of a wanted class's draws that are synthetic; None where the arm does not mix.
        score: Macro-F1 on the validation folds, mean over folds and seeds.
        gain: What it is above no synthetic images, mean of the paired differences; None where there is
            nothing to compare with.
        gains: The difference of each fold and seed.
        is_chosen: Whether the tuning chose it.
        is_stopped: Whether it was among the worse before the last, and was not trained with the others to the end.
    """

    arm: str
    share: float | None
    score: float
    gain: float | None
    gains: tuple[float, ...]
    is_chosen: bool
    is_stopped: bool


@dataclass(frozen=True)
class Amounts:
    """What the validation folds said.

    Attributes:
        folds: Validation folds.
        seeds: Classifier seeds per fold.
        candidates: The uses of synthetic images tried, none among them; empty where that was not asked.
        strengths: The strengths of albumentations tried; empty where that was not asked.
        baselines: The ways without synthetic images tried, of which one is the best baseline; empty where
            that was not asked.
    """

    folds: int
    seeds: int
    candidates: tuple[Candidate, ...]
    strengths: tuple[Candidate, ...]
    baselines: tuple[Candidate, ...] = ()

    @property
    def has_stopped(self) -> bool:
        """Whether some were stopped before their last seed."""
        return any(one.is_stopped for one in (*self.candidates, *self.strengths, *self.baselines))

    @property
    def chosen(self) -> Candidate | None:
        """The use of synthetic images that was chosen."""
        return next((one for one in self.candidates if one.is_chosen), None)

    @property
    def doses(self) -> tuple[tuple[str, tuple[Candidate, ...]], ...]:
        """Per arm that was tried with several shares, its candidates by rising share."""
        arms = dict.fromkeys(one.arm for one in self.candidates if one.share is not None)
        found = {
            arm: [one for one in self.candidates if one.arm == arm and one.gain is not None] for arm in arms
        }
        return tuple(
            (arm, tuple(sorted(ones, key=lambda one: one.share or 0.0)))
            for arm, ones in found.items()
            if len(ones) > 1
        )


def read_amounts(folder: Path) -> Amounts | None:
    """Read what the tuning of an `evaluate` folder left; None where nothing was tuned.

    Args:
        folder: Holds `tuning.json` and `tuning.parquet` where there was a tuning.
    """
    tree = read_json(folder / TUNING_FILE)
    if not tree or not (folder / SCORES_FILE).is_file():
        return None
    table = pd.read_parquet(folder / SCORES_FILE)
    uses = _candidates(table[table["what"] == "synthetic"], tree)
    strengths = _ways(table, "strength", f"oversampling+{tree.get('strength', '')} albumentations")
    baselines = _ways(table, "baseline", str(tree.get("baseline", "")))
    if not (uses or strengths or baselines):
        return None
    return Amounts(
        int(tree.get("folds", table["fold"].nunique())),
        int(tree.get("seeds", table["seed"].nunique())),
        tuple(uses),
        strengths,
        baselines,
    )


def _ways(table: pd.DataFrame, what: str, chosen: str) -> tuple[Candidate, ...]:
    """Candidates without synthetic images: of strengths, or of baselines."""
    by_name = _by_candidate(table[table["what"] == what])
    most = max(map(len, by_name.values()), default=0)
    return tuple(
        Candidate(name, None, float(rows["macro_f1"].mean()), None, (), name == chosen, len(rows) < most)
        for name, rows in by_name.items()
    )


def _candidates(table: pd.DataFrame, tree: Mapping[str, Any]) -> list[Candidate]:
    by_name = {
        name: rows.set_index(["fold", "seed"])["macro_f1"] for name, rows in _by_candidate(table).items()
    }
    nothing = by_name.get(NOTHING)
    chosen_arm, chosen_share = str(tree.get("synthetic_arm") or ""), tree.get("synthetic_share")
    most = max(map(len, by_name.values()), default=0)
    found = []
    for name, values in by_name.items():
        arm, share = _arm_and_share(name)
        gains = (values - nothing).dropna().to_numpy(np.float64) if nothing is not None else np.empty(0)
        is_nothing = name == NOTHING
        is_chosen = is_nothing if not chosen_arm else arm == chosen_arm and share in {None, chosen_share}
        found.append(
            Candidate(
                arm,
                share,
                float(values.mean()),
                float(gains.mean()) if len(gains) and not is_nothing else None,
                tuple(map(float, gains)) if not is_nothing else (),
                is_chosen,
                len(values) < most,
            )
        )
    return found


def _by_candidate(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of each candidate, in the order in which they were tried."""
    return {str(name): rows for name, rows in table.groupby("candidate", sort=False)}


def _arm_and_share(name: str) -> tuple[str, float | None]:
    """Part a candidate's name.

    >>> _arm_and_share("oversampling+synthetic at 0.25")
    ('oversampling+synthetic', 0.25)
    >>> _arm_and_share("oversampling+synthetic first")
    ('oversampling+synthetic first', None)
    """
    arm, _, share = name.rpartition(" at ")
    try:
        return (arm, float(share)) if arm else (name, None)
    except ValueError:
        return name, None
