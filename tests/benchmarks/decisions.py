"""Can synthetic images move a classifier's decisions further than real ones that are held out do?

    python tests/benchmarks/decisions.py
    python tests/benchmarks/decisions.py --cells digits-10 --splits 4

Classifiers are trained by oversampling with albumentations, on real images alone; `WAYS` says what is done with them
then. Printed is what each way changes against `thresholds on folds`, paired by split and seed, with an interval over
splits. The ideal ways look at the test images themselves: what they gain is what there is to gain. Splits from 100 on,
on which settings are chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from gains import CELLS
from sklearn.linear_model import LogisticRegression
from uses import FOLDS, PLAIN, Ground, cells, make_ground

from ganaug import steps
from ganaug.dataset import ClassIds, LabelledImages
from ganaug.scores import score
from ganaug.split.folds import assign_folds
from ganaug.thresholds import MULTIPLES, SHARPNESS, Doubles, Floats, choose_multiple, class_offsets, move
from ganaug.training.classifier import predict, predict_proba

MEASURES = {
    "rare_recall": "rare recall",
    "macro_f1": "macro-F1",
    "rare_average_precision": "rare average precision",
}
WEIGHT = 0.1
"""Inverse strength of the last layer's penalty; chosen among 0.001, 0.01 and 0.1 on these splits."""

Known = tuple[ClassIds, Floats]
"""(N,) classes of images and (N, K) probabilities by a classifier that has not seen those of wanted classes."""


@dataclass
class Trained:
    """A classifier of one split, and what it makes of images."""

    ground: Ground
    model: torch.nn.Module
    on_folds: Known
    made: LabelledImages

    @cached_property
    def on_test(self) -> tuple[Floats, Floats]:
        """(N, K) probabilities and (N, F) features of the test images."""
        return predict(self.model, self.ground.test.images)

    @cached_property
    def on_synthetic(self) -> Known:
        """Synthetic images of the wanted classes, and training images of the others."""
        train = self.ground.train
        others = train.take(np.flatnonzero(~np.isin(train.class_ids, self.made.class_ids)))
        both = np.concatenate([self.made.images, others.images])
        return np.concatenate([self.made.class_ids, others.class_ids]), predict_proba(self.model, both)

    @property
    def offsets(self) -> Floats:
        """(K,) what a multiple is taken of."""
        return class_offsets(self.ground.train.counts())

    @property
    def prevalence(self) -> ClassIds:
        """(K,) test images of each class."""
        return self.ground.test.counts()

    def one(self, known: Known) -> Floats:
        """(K,) what the product adds to the logarithms: one multiple for all classes."""
        multiple = choose_multiple(*known, self.offsets, self.prevalence)
        return np.float32(multiple) * self.offsets

    def moved(self, offsets: Floats) -> Floats:
        """(N, K) probabilities of the test images then."""
        return move(self.on_test[0], offsets)

    def macro_f1(self, offsets: Floats) -> float:
        """On the test images."""
        return float(
            score(self.ground.test.class_ids, self.moved(offsets), self.ground.class_ids)["macro_f1"]
        )

    def climb(self, start: Floats, value: Callable[[Floats], float]) -> Floats:
        """A multiple for each wanted class by itself: each in turn, three times over, from `start`."""
        found = start
        for class_id in 3 * self.ground.class_ids:
            tried = np.repeat(found[None], len(MULTIPLES), 0)
            tried[:, class_id] = MULTIPLES * self.offsets[class_id]
            found = max(tried, key=value)
        return found

    def for_each(self, known: Known) -> Floats:
        """(K,) a multiple for each class by itself, by what `choose_multiple` goes by."""
        return self.climb(self.one(known), lambda offsets: soft_f1(*known, offsets, self.prevalence))

    def last_layer(self, more: LabelledImages | None) -> Floats:
        """(N, K) by a last layer that is trained anew, classes balanced, on real images and some more.

        After Kang et al. 2020, arXiv:1910.09217 (classifier re-training).
        """
        train = self.ground.train
        images = train.images if more is None else np.concatenate([train.images, more.images])
        class_ids = train.class_ids if more is None else np.concatenate([train.class_ids, more.class_ids])
        features = predict(self.model, images)[1]
        mean, spread = features.mean(0), features.std(0) + 1e-3
        layer = LogisticRegression(C=WEIGHT, class_weight="balanced", max_iter=1000)
        layer.fit((features - mean) / spread, class_ids)
        found: Floats = layer.predict_proba((self.on_test[1] - mean) / spread).astype(np.float32)
        return found


def soft_f1(class_ids: ClassIds, probability: Floats, offsets: Floats, prevalence: ClassIds) -> float:
    """Macro-F1 of sharpened probabilities, images of a class weighted to be as common as it is."""
    counts = np.bincount(class_ids, minlength=len(offsets))
    weights: Doubles = (prevalence / np.maximum(counts, 1))[class_ids]
    guesses = move(probability, offsets) ** SHARPNESS
    guesses /= guesses.sum(1, keepdims=True)
    true = np.eye(len(offsets))[class_ids]
    hits, shares = weights @ (guesses * true), weights @ true
    judged = shares > 0
    return float((2 * hits[judged] / (shares + weights @ guesses)[judged]).mean())


REFERENCE = "thresholds on folds"
"""What all others are compared with: the first of `WAYS`."""
WAYS: dict[str, Callable[[Trained], Floats]] = {
    REFERENCE: lambda one: one.moved(one.one(one.on_folds)),
    "not moved": lambda one: one.on_test[0],
    "thresholds on synthetic": lambda one: one.moved(one.one(one.on_synthetic)),
    "the mean of both": lambda one: one.moved((one.one(one.on_folds) + one.one(one.on_synthetic)) / 2),
    "one for each class, on folds": lambda one: one.moved(one.for_each(one.on_folds)),
    "one for each class, on synthetic": lambda one: one.moved(one.for_each(one.on_synthetic)),
    "last layer anew, real": lambda one: one.last_layer(None),
    "last layer anew, synthetic too": lambda one: one.last_layer(one.made),
    "ideal": lambda one: one.moved(ideal(one)),
    "ideal, one for each class": lambda one: one.moved(one.climb(ideal(one), one.macro_f1)),
}


def ideal(one: Trained) -> Floats:
    """(K,) the multiple that is best on the test images."""
    return max((np.float32(multiple) * one.offsets for multiple in MULTIPLES), key=one.macro_f1)


def main() -> None:
    """Make the splits, train, decide in each way, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=["digits-5"])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the datasets")
    parser.add_argument("--splits", type=int, default=6)
    parser.add_argument("--first", type=int, default=100, help="seed of the first split")
    parser.add_argument("--seeds", type=int, default=2, help="classifier seeds per split")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/uses"), help="those of uses.py are gone on with"
    )
    asked = parser.parse_args()
    # As the evaluation trains.
    torch.set_num_threads(1)
    print(
        f"| cell | way | splits x seeds | {' | '.join(MEASURES.values())} |\n|{' --- |' * (3 + len(MEASURES))}"
    )
    for cell in asked.cells:
        found = [
            scores(make_ground(cell, asked.data, asked.runs, seed), asked.seeds)
            for seed in range(asked.first, asked.first + asked.splits)
        ]
        head = f"{asked.splits} x {asked.seeds}"
        levels = " | ".join(
            f"{100 * one:.2f}" for one in np.mean([split[REFERENCE] for split in found], axis=0)
        )
        print(f"| {cell} | {REFERENCE} | {head} | {levels} |")
        for name in list(WAYS)[1:]:
            changes = cells([split[name] - split[REFERENCE] for split in found])
            print(f"| {cell} | {name} | {head} | {changes} |", flush=True)


def scores(ground: Ground, seeds: int) -> dict[str, np.ndarray]:
    """Per way (measures,) means over classifiers with so many seeds, on the test images."""
    on_folds = ground.train.class_ids, held_out(ground)
    made = steps._rightly_labelled(ground.run, ground.class_ids)
    found: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for seed in range(seeds):
        one = Trained(ground, ground.train_on(PLAIN.recipe(ground.train), seed), on_folds, made)
        for name, way in WAYS.items():
            scored = score(ground.test.class_ids, way(one), ground.class_ids)
            found[name].append([scored[measure] for measure in MEASURES])
    return {name: np.mean(each, axis=0) for name, each in found.items()}


def held_out(ground: Ground) -> Floats:
    """(N, K) probabilities of the training images, each by a classifier that has not seen it."""
    train = ground.train
    fold_of = assign_folds(train, FOLDS, seed=0)
    found = np.zeros((len(train), len(train.class_names)), np.float32)
    for number in range(FOLDS):
        seen, held = (np.flatnonzero(one) for one in (fold_of != number, fold_of == number))
        found[held] = predict_proba(ground.train_on(PLAIN.recipe(train.take(seen)), 0), train.images[held])
    return found


if __name__ == "__main__":
    main()
