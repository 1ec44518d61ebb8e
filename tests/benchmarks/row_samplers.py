"""Over-samplers on rows: a class of two real tables cut to a few rows, scored on held-out real rows.

    python tests/benchmarks/row_samplers.py                    # the table in docs/guides/imbalanced-learn.md
    python tests/benchmarks/row_samplers.py --steps 100 300 600 --widths 64 128

Prints macro-F1 and recall of the cut class, in per cent, as means over tables, cuts and splits, for a
logistic regression and a random forest; the splits from 100 on are others than those that the
defaults were chosen on.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE, RandomOverSampler
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, recall_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ganaug import GanOverSampler

TABLES = {"breast_cancer": (load_breast_cancer, 0), "wine": (load_wine, 1)}
"""Loader, and the class that is cut."""
CUTS = (3, 5, 10)


def samplers(keep, steps, widths, seed):
    found = {
        "nothing": None,
        "RandomOverSampler": RandomOverSampler(random_state=seed),
        "SMOTE": SMOTE(k_neighbors=min(5, keep - 1), random_state=seed),
    }
    for recipe, count, width in itertools.product(("pair", "cgan"), steps, widths):
        found[f"{recipe}, {count} steps, width {width}"] = GanOverSampler(
            recipe=recipe, steps=count, train={"width": width}, random_state=seed
        )
    return found


def cells(splits):
    for (name, (load, rare)), keep, seed in itertools.product(TABLES.items(), CUTS, splits):
        data, labels = load(return_X_y=True)
        train, test = train_test_split(
            np.arange(len(labels)), test_size=0.5, stratify=labels, random_state=seed
        )
        own = np.random.default_rng(seed).permutation(train[labels[train] == rare])[:keep]
        rows = np.concatenate([train[labels[train] != rare], own])
        yield name, rare, keep, seed, (data[rows], labels[rows]), (data[test], labels[test])


def score(training, test, rare, seed):
    models = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)),
        "forest": RandomForestClassifier(random_state=seed),
    }
    row = {}
    for name, model in models.items():
        found = clone(model).fit(*training).predict(test[0])
        row[f"{name} F1"] = 100 * f1_score(test[1], found, average="macro")
        row[f"{name} recall"] = 100 * recall_score(test[1], found, labels=[rare], average="macro")
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", type=int, nargs=2, default=(100, 110), help="first, and last + 1")
    parser.add_argument("--steps", type=int, nargs="+", default=[300])
    parser.add_argument("--widths", type=int, nargs="+", default=[64])
    settings = parser.parse_args()
    rows = []
    for name, rare, keep, seed, training, test in cells(range(*settings.splits)):
        for method, sampler in samplers(keep, settings.steps, settings.widths, seed).items():
            started = time.perf_counter()
            more = training if sampler is None else sampler.fit_resample(*training)
            seconds = time.perf_counter() - started
            rows.append(
                {"table": name, "rows": keep, "": method, **score(more, test, rare, seed), "s": seconds}
            )
    print(
        pd.DataFrame(rows)
        .groupby("", sort=False)
        .mean(numeric_only=True)
        .drop(columns="rows")
        .round(1)
        .to_string()
    )


if __name__ == "__main__":
    main()
