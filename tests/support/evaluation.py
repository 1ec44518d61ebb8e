"""What `evaluate` leaves beside its scores: predictions, and the scores of a tuning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

NOTHING = "no synthetic images"


def write_predictions(
    folder: Path, labels: np.ndarray, arms: tuple[str, ...], classes: int, seeds: int
) -> None:
    """Predictions of arms of which each is right a little more often than the one before."""
    rng = np.random.default_rng(1)
    shape = (len(arms), seeds, len(labels))
    # An image that is hard for one seed is hard for all, more or less.
    hardness = rng.random(len(labels)) + rng.normal(0, 0.15, shape)
    limit = np.linspace(0.75, 0.9, len(arms))[:, None, None]
    wrong = (labels + rng.integers(1, max(classes, 2), len(labels))) % classes
    save_guesses(folder, labels, arms, np.where(hardness < limit, labels, wrong), classes)


def save_guesses(
    folder: Path, labels: np.ndarray, arms: tuple[str, ...], guesses: np.ndarray, classes: int
) -> None:
    """Write (arms, seeds, N) class ids as the probabilities of arms that are sure of them."""
    probability = np.full((*guesses.shape, classes), 0.1 / classes, np.float16)
    np.put_along_axis(probability, guesses[..., None], np.float16(0.9), axis=3)
    np.savez_compressed(
        folder / "predictions.npz",
        probability=probability,
        labels=labels,
        arms=np.array(arms),
        seeds=np.arange(guesses.shape[1]),
    )


def write_tuning(folder: Path, arm: str, *, chosen: str | None = None, share: float = 0.25) -> None:
    """The scores of a tuning in which an arm was tried with three shares, and other uses once each."""
    rng = np.random.default_rng(2)
    shares = {f"{arm} at {one:g}": level for one, level in ((0.1, 0.91), (0.25, 0.93), (0.5, 0.9))}
    uses = {NOTHING: 0.9, **shares, f"{arm} to balance": 0.89}
    strengths = {f"oversampling+{name} albumentations": 0.9 for name in ("light", "medium", "strong")}
    rows = [
        (what, name, fold, seed, level + rng.normal(0, 0.01))
        for what, levels in (("strength", strengths), ("synthetic", uses))
        for name, level in levels.items()
        for fold in range(3)
        for seed in range(2)
    ]
    columns = ["what", "candidate", "fold", "seed", "macro_f1"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "tuning.parquet")
    tree = {
        "strength": "medium",
        "synthetic_share": share,
        "synthetic_arm": arm if chosen is None else chosen,
        "folds": 3,
        "seeds": 2,
    }
    (folder / "tuning.json").write_text(json.dumps(tree))


def rewrite(file: Path, **values: object) -> None:
    """Change some values of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def without_synthetic_arm(run_folder: Path) -> None:
    """Turn a verdict into that of a run without an arm with synthetic images."""
    rewrite(
        run_folder / "evaluate" / "verdict.json", verdict="cannot tell", after="", measures={}, classes=[]
    )
