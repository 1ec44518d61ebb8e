"""Tuning inside the training split: augmentation, the best way without synthetic images, the use of them with it.

Each candidate is trained on the real images of two folds and scored on the third, in turn, whose images
are weighed so that classes are as common as in the test split: where classes were cut for a trial, what
names rare ones seldom would win otherwise. The locked test split takes no other part. Using no synthetic
images at all is one of the candidates. The worse half of them is stopped after the first seed; where they
are many, two thirds after the first fold, and again after the others (successive halving: Jamieson &
Talwalkar 2016, arXiv:1502.07943).

The generators have seen all training images, those of the validation fold too. Synthetic images that
are most like one of those are left out of its training; what the generators learned from them stays
in the others, so synthetic images look better here than they are. That can make a use win, and the
locked test split then finds it wanting; it cannot make the verdict better.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ganaug.arms import Arm, make_arm
from ganaug.best_baseline import USUAL, candidates, on_baseline
from ganaug.progress import Progress, in_parts
from ganaug.scores import score
from ganaug.training.contest import Entry, Ground
from ganaug.training.held_out import held_out_in_turn
from ganaug.training.outcomes import measure

FOLDS, SEEDS = 3, 2
ROUNDS = (((0, 1, 2), 0), ((0, 1, 2), 1))
"""Folds and seed of each round; the worse half of the candidates goes after it."""
MANY_ROUNDS = (((0,), 0), ((1, 2), 0), ((0, 1, 2), 1))
"""The same where candidates are many: two thirds go after each."""
MANY = 9
"""From so many on."""
SHARES = (0.1, 0.25, 0.5)
"""Shares of synthetic draws that compete."""
STRENGTHS = ("light", "medium", "strong")
NOTHING = "no synthetic images"
TUNING_FILE, SCORES_FILE = "tuning.json", "tuning.parquet"


@dataclass(frozen=True)
class Tuned:
    """What the validation folds chose.

    Attributes:
        strength: Of albumentations.
        share: Of synthetic draws, for the arms that mix.
        arm: Name of the arm with synthetic images that did best; empty where none of them beat
            using no synthetic images; None where it was not asked.
        baseline: Name of the way that stands in the place of `best baseline`; empty where it was not asked.
        scores: Mean macro-F1 over folds and seeds of each candidate, by what was chosen among; of those that
            were stopped, over what they had been trained on.
    """

    strength: str
    share: float
    arm: str | None = None
    baseline: str = ""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What was chosen, in a sentence."""
        parts = [f"albumentations {self.strength!r}"] if "strength" in self.scores else []
        if self.baseline:
            parts.append(f"{self.baseline!r} as the best baseline")
        if self.arm is not None:
            mixes = self.arm and make_arm(self.arm).synthetic == "share"
            share = f" at a share of {self.share:g}" if mixes else ""
            parts.append(f"{self.arm!r}{share}" if self.arm else NOTHING)
        return (
            f"Chosen on {FOLDS} validation folds inside the training split, {SEEDS} seeds each, the worse stopped before: "
            f"{', '.join(parts[:-1])}{', and ' if parts[:-1] else ''}{parts[-1]}."
        )


@dataclass(frozen=True)
class Asked:
    """What is to be chosen among.

    Attributes:
        strengths: Arms that differ by the strength of albumentations alone.
        baselines: Arms without synthetic images, of which one takes the place of `best baseline`.
        uses: Arms under names of their own, each with its share and the name of the arm meant.
    """

    strengths: Sequence[Arm]
    baselines: Sequence[Arm]
    uses: Sequence[tuple[Arm, float, str]]

    @property
    def fits(self) -> int:
        """Classifiers that it takes at most."""
        return FOLDS * SEEDS * (len(self.strengths) + len(self.baselines) + len(self.uses))


def asked_of(ground: Ground, arms: Sequence[Arm], begin: Tuned) -> Asked:
    """What the settings leave to be chosen for these arms; nothing unless they ask for tuning.

    Args:
        ground: What the arms share.
        arms: The arms that will be compared.
        begin: Strength and share that the settings name.
    """
    config = ground.config
    if not config.is_tuned:
        return Asked([], [], [])
    is_open = config.augment == "auto" and any(arm.is_augmented and not arm.strength for arm in arms)
    # Training on synthetic images alone measures them; nobody who has real ones would do it. A use with less
    # than the best baseline, or without augmentation, beside one with it, shows what it is worth by itself.
    used = [arm for arm in arms if arm.has_synthetic and arm.synthetic not in {"own", "only"}]
    used = (
        [arm for arm in used if arm.is_on_best_baseline] or [arm for arm in used if arm.is_augmented] or used
    )
    return Asked(
        [make_arm(f"oversampling+{strength} albumentations") for strength in STRENGTHS] if is_open else [],
        candidates(arms),
        _uses(used, config.synthetic_share == "auto", begin.share) if len(ground.synthetic) else [],
    )


def tune(ground: Ground, asked: Asked, begin: Tuned, progress: Progress) -> Tuned:
    """Choose on validation folds.

    Args:
        ground: The real training images, the synthetic ones, and how classifiers are trained. Its
            test images are not looked at.
        asked: What is to be chosen among.
        begin: Strength and share to begin with; kept where nothing is asked.
        progress: Told of the images trained on, over all of it.

    Returns:
        What was chosen; `tuning.json` and `tuning.parquet` in the ground's folder say by what.
    """
    tuned: Tuned = begin
    rows: list[dict[str, Any]] = []
    scores: dict[str, dict[str, float]] = {}
    grounds = [held for held, _ in held_out_in_turn(ground, FOLDS, "tuning")]
    sizes = [len(asked.strengths), len(asked.baselines), len(asked.uses)]
    parts = in_parts(progress, [64 * ground.steps * FOLDS * SEEDS * size for size in sizes])
    moves = any(arm.thresholds == "synthetic" for arm, _, _ in asked.uses)

    def best_of(what: str, uses: Sequence[tuple[Arm, float]], part: Progress, usual: str = "") -> str:
        entries = [Entry(arm, share, tuned.strength) for arm, share in uses]
        rows.extend(_score(grounds, entries, part, what, usual, keep_for_thresholds=moves))
        scores[what], best = _best(rows, what)
        return best

    if asked.strengths:
        best = best_of("strength", [(arm, tuned.share) for arm in asked.strengths], parts[0])
        tuned = replace(tuned, strength=next(arm.strength for arm in asked.strengths if arm.name == best))
    if asked.baselines:
        best = best_of("baseline", [(arm, tuned.share) for arm in asked.baselines], parts[1], USUAL)
        usual = _is_within_chance(rows, best, USUAL)
        tuned = replace(tuned, baseline=USUAL if usual else best)
    if asked.uses:
        known = [(on_baseline(arm, tuned.baseline), share, name) for arm, share, name in asked.uses]
        best = best_of("synthetic", [(arm, share) for arm, share, _ in known], parts[2], NOTHING)
        _, share, name = next(one for one in known if one[0].name == best)
        tuned = replace(tuned, share=share, arm=name and on_baseline(make_arm(name), tuned.baseline).name)
    tuned = replace(tuned, scores=scores)
    _write(ground.folder, tuned, rows)
    return tuned


def _is_within_chance(rows: Sequence[Mapping[str, Any]], best: str, usual: str) -> bool:
    """Whether the best is no better than the usual way by two standard errors of their paired differences."""
    of = {
        name: np.array(
            [row["macro_f1"] for row in rows if (row["what"], row["candidate"]) == ("baseline", name)]
        )
        for name in (best, usual)
    }
    if not len(of[usual]):
        return False
    gaps = of[best] - of[usual]
    return bool(gaps.mean() <= 2 * gaps.std(ddof=1) / math.sqrt(len(gaps)))


def _uses(arms: Sequence[Arm], asks_share: bool, share: float) -> list[tuple[Arm, float, str]]:
    """Candidates as arms under names of their own, with their share and the name of the arm meant."""
    if not arms:
        return []
    found = [(replace(arms[0], name=NOTHING, synthetic="none", thresholds="none"), share, "")]
    for arm in arms:
        shares = SHARES if asks_share and arm.synthetic == "share" else (share,)
        for one in shares:
            name = f"{arm.name} at {one:g}" if arm.synthetic == "share" else arm.name
            found.append((replace(arm, name=name), one, arm.name))
    return found


def _score(
    grounds: Sequence[Ground],
    entries: Sequence[Entry],
    progress: Progress,
    what: str,
    stays: str,
    *,
    keep_for_thresholds: bool,
) -> list[dict[str, Any]]:
    """Macro-F1 of each candidate on each fold with each seed, a row each.

    After each round the worse of them stop; not the one named `stays`, which the others are told beside.
    """
    rows: list[dict[str, Any]] = []
    rounds, divisor = (MANY_ROUNDS, 3) if len(entries) >= MANY else (ROUNDS, 2)
    sizes = [len(entries) * len(folds) for folds, _ in rounds]
    for (folds, seed), part in zip(rounds, in_parts(progress, sizes), strict=True):
        own = [grounds[fold] for fold in folds]
        found = measure(own, entries, seed + 1, part, keep_for_thresholds=keep_for_thresholds)
        for fold, ground, outcomes in zip(folds, own, found, strict=True):
            for name, of_seed in outcomes.items():
                probability, labels = of_seed[seed].probability, ground.test.class_ids
                f1 = score(labels, probability, ground.wanted, prevalence=ground.prevalence)["macro_f1"]
                rows.append({"what": what, "candidate": name, "fold": fold, "seed": seed, "macro_f1": f1})
        means, _ = _best(rows, what)
        ranked = sorted(entries, key=lambda entry: -means[entry.arm.name])
        going_on = {*(one.arm.name for one in ranked[: math.ceil(len(ranked) / divisor)]), stays}
        entries = [entry for entry in entries if entry.arm.name in going_on]
    return rows


def _best(rows: Sequence[Mapping[str, Any]], what: str) -> tuple[dict[str, float], str]:
    """Mean score of each candidate, and the name of the best that was not stopped; of equals the first."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row["what"] == what:
            scores.setdefault(row["candidate"], []).append(row["macro_f1"])
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    most = max(map(len, scores.values()))
    return means, max((name for name in means if len(scores[name]) == most), key=lambda name: means[name])


def _write(folder: Path, tuned: Tuned, rows: Sequence[Mapping[str, Any]]) -> None:
    tree = {
        "strength": tuned.strength,
        "baseline": tuned.baseline,
        "synthetic_share": tuned.share,
        "synthetic_arm": tuned.arm,
        "macro_f1": tuned.scores,
        "folds": FOLDS,
        "seeds": SEEDS,
    }
    (folder / TUNING_FILE).write_text(json.dumps(tree, indent=2, ensure_ascii=False), encoding="utf-8")
    columns = ["what", "candidate", "fold", "seed", "macro_f1"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / SCORES_FILE, index=False)
