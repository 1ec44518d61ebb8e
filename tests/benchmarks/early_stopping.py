"""What early stopping would save of the evaluation's classifiers, and what it would cost.

    python tests/benchmarks/early_stopping.py
    python tests/benchmarks/early_stopping.py --cells blood-cells-20 cifar10-75 --data DATA

Each classifier is trained as `ganaug evaluate` trains it, on all folds of the training images but one, and
looked at twenty times on that one: its loss, each class with the same weight. A rule with patience p would end
training once the loss has not become smaller for p looks, and keep the weights of the best. Printed is what
that leaves of the macro-F1 that the whole training has on the same fold. The test images take no part.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gains import CELLS
from right_label import interval

from ganaug import steps
from ganaug.arms import Arm, find_arms
from ganaug.config import load
from ganaug.dataset import LabelledImages
from ganaug.scores import score
from ganaug.split.folds import assign_folds
from ganaug.training.classifier import BATCH, Classifier, auto_steps, fit, predict_proba
from ganaug.training.contest import LEAST_STEPS

ARMS = ("real", "oversampling+albumentations", "oversampling+albumentations+mixup")
LOOKS, PATIENCES = 20, (1, 2, 3, 5)


@dataclass(frozen=True)
class Look:
    """A classifier on the images that are held out, part of the way through its training."""

    loss: float
    macro_f1: float


def main() -> None:
    """Train, look and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=["digits-5"])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the datasets")
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--first", type=int, default=100, help="seed of the first split")
    parser.add_argument("--folds", type=int, default=3)
    asked = parser.parse_args()
    # As the evaluation trains.
    torch.set_num_threads(1)
    print("| cell | arm | steps | fits | patience | ended early | steps saved | macro-F1 |", flush=True)
    print("|" + " --- |" * 8, flush=True)
    for cell in asked.cells:
        found: dict[str, list[list[Look]]] = {name: [] for name in asked.arms}
        for seed in range(asked.first, asked.first + asked.splits):
            train, wanted = training_images(cell, asked.data, seed)
            fold_of = assign_folds(train, asked.folds, seed=0)
            length = max(auto_steps(len(train)), LEAST_STEPS)
            for number in range(asked.folds):
                seen, held = (
                    train.take(np.flatnonzero(one)) for one in (fold_of != number, fold_of == number)
                )
                for arm in find_arms(asked.arms):
                    found[arm.name].append(looks(arm, seen, held, wanted, length))
        for name, fits in found.items():
            for patience in PATIENCES:
                print(f"| {cell} | {name} | {length} | {len(fits)} | {line(fits, patience)} |", flush=True)


def training_images(cell: str, data: Path, seed: int) -> tuple[LabelledImages, list[int]]:
    """Training images of a cell's split, and the classes that are wanted more of."""
    tree = dict(CELLS[cell])
    path = tree.pop("data.path", None)
    with tempfile.TemporaryDirectory() as folder:
        tree |= {"run_dir": folder, "split.seed": seed}
        run = steps.open_run(load(None, tree, data=None if path is None else data / path))
        for step in ("split", "plan"):
            steps.do(run, step)
        train = steps.load_training(run)
        # The folder goes, the images stay.
        kept = LabelledImages(np.array(train.images), train.index, train.class_names)
        return kept, [plan.class_id for plan in steps.load_plan(run).wanted]


def looks(
    arm: Arm, seen: LabelledImages, held: LabelledImages, wanted: Sequence[int], length: int
) -> list[Look]:
    """Train on the images that are seen, and look on the way at those that are held out."""
    made: list[Classifier] = []
    found: list[Look] = []

    def start(rng: torch.Generator) -> Classifier:
        height, width, channels = seen.images.shape[1:]
        made.append(Classifier((height, width, channels), len(seen.class_names), rng=rng))
        return made[0]

    def look(done: int, total: int) -> None:
        step = done // BATCH
        if step * LOOKS // length > (step - 1) * LOOKS // length:
            model = made[0].eval()
            probability = predict_proba(model, held.images)
            model.train()
            found.append(look_of(held, probability, wanted))

    fit(
        arm.recipe(seen, wanted=wanted),
        len(seen.class_names),
        seed=0,
        steps=length,
        progress=look,
        start=start,
    )
    return found


def look_of(held: LabelledImages, probability: np.ndarray, wanted: Sequence[int]) -> Look:
    """Loss, classes alike, and macro-F1."""
    labels = held.class_ids
    own = -np.log(np.maximum(probability[np.arange(len(labels)), labels], 1e-9))
    loss = np.mean([own[labels == class_id].mean() for class_id in np.unique(labels)])
    return Look(float(loss), score(labels, probability, wanted)["macro_f1"])


def line(fits: Sequence[Sequence[Look]], patience: int) -> str:
    """What the rule does to these fits: how many it ends, steps it saves, and the change of macro-F1."""
    ends = [stopped(one, patience) for one in fits]
    early = sum(end < len(one) - 1 for (end, _), one in zip(ends, fits, strict=True))
    saved = np.mean([1 - (end + 1) / len(one) for (end, _), one in zip(ends, fits, strict=True)])
    change, low, high = (
        100 * value
        for value in interval(
            [one[best].macro_f1 - one[-1].macro_f1 for (_, best), one in zip(ends, fits, strict=True)]
        )
    )
    return f"{patience} | {early} | {saved:.0%} | {change:+.1f} ({low:+.1f} to {high:+.1f})"


def stopped(one: Sequence[Look], patience: int) -> tuple[int, int]:
    """The look at which the rule ends training, and the best until then.

    >>> stopped([Look(loss, 0) for loss in (3, 2, 2.5, 2.2, 1)], 2)
    (3, 1)
    """
    best = 0
    for number, look in enumerate(one):
        if look.loss < one[best].loss:
            best = number
        if number - best >= patience:
            return number, best
    return len(one) - 1, best


if __name__ == "__main__":
    main()
