"""How many of a class's images must be of the class for them to be worth training on.

    python tests/benchmarks/gains.py --cells digits-5 --first 100 --splits 4 --runs runs/label/dcgan \
        --out runs/label.jsonl --arms oversampling+albumentations oversampling+albumentations+synthetic \
        --set evaluate.min_right_label=0 train.recipe=dcgan train.steps=300
    python tests/benchmarks/right_label.py runs/label/*/*

Reads runs that were evaluated with the refusal switched off, with GANs good and bad, on any number of splits,
and puts their classes in order of right labels: the share of the images produced that every screening
classifier calls by the class, which is what `evaluate.min_right_label` is about. Per band: what the images that the
screen kept change in the class's recall, precision and F1, against the same arm without them, with an interval
over the runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from ganaug.pooled import PER_CLASS_FILE

WITHOUT = "oversampling+albumentations"
WITH = f"{WITHOUT}+synthetic"
MEASURES = ["recall", "precision", "f1"]


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run folders; their `splits/` are read too")
    parser.add_argument("--bands", nargs="+", type=float, default=[0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1])
    asked = parser.parse_args()
    folders = [one for run in asked.runs for one in [run, *sorted((run / "splits").glob("*"))]]
    table = pd.concat([classes_of(one) for one in folders if (one / "evaluate" / "verdict.json").is_file()])
    print(f"| right labels | classes | runs | {' | '.join(MEASURES)} |\n|{' --- |' * (3 + len(MEASURES))}")
    for low, high in zip(asked.bands, asked.bands[1:], strict=False):
        is_in = (table["right_label"] >= low) & ((table["right_label"] < high) | (high == asked.bands[-1]))
        if is_in.any():
            print(f"| {low:.0%} to {high:.0%} {line(table[is_in])}")


def classes_of(folder: Path) -> pd.DataFrame:
    """A row per wanted class of a split: its right labels, and what synthetic images change in it."""
    verdict = json.loads((folder / "evaluate" / "verdict.json").read_text(encoding="utf-8"))
    scores = pd.read_parquet(folder / "evaluate" / PER_CLASS_FILE)
    # The first split's file has what further splits gave, too.
    scores = scores[scores["split"] == 0]
    both = scores["precision"] + scores["recall"]
    scores["f1"] = (2 * scores["precision"] * scores["recall"] / both.where(both > 0)).fillna(0.0)
    means = scores.groupby(["arm", "class_id"])[MEASURES].mean()
    rates = pd.DataFrame(verdict["label_rates"])
    if WITH not in means.index.get_level_values("arm"):
        # Of no class was a single image kept: nothing was changed.
        change = means.loc[WITHOUT] * 0.0
    else:
        change = means.loc[WITH] - means.loc[WITHOUT]
    rates = rates[~rates["is_refused"]].set_index("class_id")
    return rates.join(change)[["right_label", *MEASURES]].assign(run=str(folder)).reset_index()


def line(rows: pd.DataFrame) -> str:
    """A band of right labels as the rest of its row."""
    cells = []
    for name in MEASURES:
        # The classes of a run are one value, for they share a classifier.
        mean, low, high = interval(rows.groupby("run")[name].mean().tolist())
        cells.append(f"{mean * 100:+.2f} ({low * 100:+.2f} to {high * 100:+.2f})")
    return f"| {len(rows)} | {rows['run'].nunique()} | {' | '.join(cells)} |"


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % interval (t)."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, -np.inf, np.inf
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


if __name__ == "__main__":
    main()
