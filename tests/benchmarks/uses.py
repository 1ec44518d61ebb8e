"""Other uses of a GAN's images in training than the arms have, against oversampling with albumentations.

    python tests/benchmarks/uses.py
    python tests/benchmarks/uses.py --cells blood-cells-20 --splits 4 --data DATA

Each split is a run as far as its screen; `USES` says what becomes of the images then. Printed is what each use
changes, paired by split and seed, with an interval over splits. *Ideal thresholds* is macro-F1 where the decisions of
both are moved towards rare classes as far as the test images themselves say: what no rule that chooses thresholds
can give, and left of a gain that thresholds alone would have. Splits from 100 on, on which settings are chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from gains import CELLS, USUAL
from right_label import interval

from ganaug import steps
from ganaug.arms import find_arms
from ganaug.config import load
from ganaug.dataset import ClassIds, LabelledImages
from ganaug.plan import ClassPlan
from ganaug.recipe import Recipe
from ganaug.run import RunFolder
from ganaug.scores import score
from ganaug.split import load_split
from ganaug.split.folds import assign_folds
from ganaug.thresholds import MULTIPLES, class_offsets, move
from ganaug.training.classifier import auto_steps, fit, load_classifiers, predict, predict_proba
from ganaug.training.contest import LEAST_STEPS
from ganaug.training.judge import make_samples
from ganaug.training.networks import load_generator
from ganaug.training.networks.conditioning import to_float

PLAIN, MIXED = find_arms([USUAL, f"{USUAL}+synthetic"])
FOLDS = 5
CONFIDENT = 0.6
"""Least probability that both screening classifiers give an image's label, where the screen was not asked."""
MEASURES = {
    "rare_recall": "rare recall",
    "macro_f1": "macro-F1",
    "rare_average_precision": "rare average precision",
    "ideal": "macro-F1 at ideal thresholds",
}


@dataclass
class Ground:
    """One split: real images, what the screen kept, and where all of it is from."""

    run: RunFolder
    train: LabelledImages
    test: LabelledImages
    synthetic: LabelledImages
    wanted: list[ClassPlan]

    @property
    def class_ids(self) -> list[int]:
        """Of the classes that are wanted more of."""
        return [plan.class_id for plan in self.wanted]

    @cached_property
    def opinion(self) -> np.ndarray:
        """(S, K) probabilities of the synthetic images, mean over the screening classifiers."""
        return self.opinions(self.synthetic.images).mean(0)

    def opinions(self, images: np.ndarray) -> np.ndarray:
        """(screening classifiers, N, K) probabilities of images."""
        models = load_classifiers(self.run.path("train", "classifiers"))
        return np.stack([predict_proba(one, images) for one in models])

    def steps(self) -> int:
        """Training steps of each classifier, as the evaluation has them."""
        return max(auto_steps(len(self.train)), LEAST_STEPS)

    def train_on(self, recipe: Recipe, seed: int) -> torch.nn.Module:
        """A classifier by a recipe."""
        return fit(recipe, len(self.train.class_names), seed=seed, steps=self.steps())


def mixed(ground: Ground, synthetic: LabelledImages | None = None, share: float = 0.25) -> Recipe:
    """Synthetic images in a share of the rare draws: the arm that the product has."""
    images = ground.synthetic if synthetic is None else synthetic
    return MIXED.recipe(ground.train, images, ground.class_ids, synthetic_share=share)


def less(ground: Ground) -> Recipe:
    """In a tenth of the draws: on average a loss weight of 0.4 in the place of 1."""
    return mixed(ground, share=0.1)


def near_boundary(ground: Ground) -> Recipe:
    """The half of each class of which the screening classifiers are least sure."""
    rows = np.arange(len(ground.synthetic))
    return mixed(ground, best_half(ground, -ground.opinion[rows, ground.synthetic.class_ids]))


def feedback(ground: Ground) -> Recipe:
    """The half of each class that lowers the loss on held-out real images most.

    To the first order, and by the weights of the last layer: the product of an image's gradient with that of the
    held-out images (each class with the same weight), added up over folds (after Pruthi et al. 2020,
    arXiv:2002.08484). The GAN has seen the images that are held out, the classifiers have not.
    """
    train, synthetic = ground.train, ground.synthetic
    fold_of, value = assign_folds(train, FOLDS, seed=0), np.zeros(len(synthetic))
    for number in range(FOLDS):
        seen, held = (train.take(np.flatnonzero(one)) for one in (fold_of != number, fold_of == number))
        model = ground.train_on(PLAIN.recipe(seen), 10_000 + number)
        errors, features = gradients(model, held)
        errors /= np.maximum(held.counts(), 1)[held.class_ids, None]
        downhill = errors.T @ features
        errors, features = gradients(model, synthetic)
        value += ((errors @ downhill) * features).sum(1) / np.linalg.norm(downhill)
    return mixed(ground, best_half(ground, value))


def gradients(model: torch.nn.Module, data: LabelledImages) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) and (N, F), whose outer product is the gradient of each image's loss by the last layer's weights."""
    probability, features = predict(model, data.images)
    return probability - np.eye(probability.shape[1])[data.class_ids], features


def best_half(ground: Ground, value: np.ndarray) -> LabelledImages:
    """Of each class's synthetic images the half of the highest value."""
    ids = ground.synthetic.class_ids
    kept = np.zeros(len(ids), bool)
    for class_id in ground.class_ids:
        own = np.flatnonzero(ids == class_id)
        kept[own[np.argsort(-value[own], kind="stable")[: len(own) // 2]]] = True
    return ground.synthetic.take(np.flatnonzero(kept))


def soft_labels(ground: Ground) -> Recipe:
    """Labels as likely as the screening classifiers hold them for, drawn anew 8 times for each image."""
    recipe, rng, n_real = mixed(ground), np.random.default_rng(0), len(ground.train)
    rows = np.concatenate([np.arange(n_real), np.repeat(np.arange(n_real, len(recipe.images)), 8)])
    chances = ground.opinion[recipe.source[n_real:] - n_real].cumsum(1)
    draws = rng.random((len(chances), 8))
    labels = (draws[:, :, None] > chances[:, None, :-1]).sum(2)
    return replace(
        recipe,
        images=recipe.images[rows],
        class_ids=np.concatenate([recipe.class_ids[:n_real], labels.ravel()]),
        source=recipe.source[rows],
        draw_probability=recipe.draw_probability[rows] / np.where(rows < n_real, 1, 8),
        augmented=recipe.augmented[rows],
    )


def interpolated(ground: Ground) -> Recipe:
    """Images made from exemplars that lie between two of the class, where both screening classifiers agree."""
    found, ids, rng = [], [], np.random.default_rng(0)
    for plan in ground.wanted:
        generator = load_generator(ground.run.path("train", plan.part))
        own = to_float(generator.exemplars)
        asked = 8 * int((ground.synthetic.class_ids == plan.class_id).sum())
        first, second = (torch.from_numpy(rng.integers(len(own), size=asked)) for _ in range(2))
        share = torch.from_numpy(rng.random((asked, 1, 1, 1), np.float32))
        z = torch.from_numpy(rng.standard_normal((asked, generator.z_dim), np.float32))
        images = make_samples(generator.core, z, torch.lerp(own[first], own[second], share))
        agreed = (ground.opinions(images)[:, :, plan.class_id] > CONFIDENT).all(0)
        found.append(images[agreed][: asked // 8])
        ids.append(np.full(len(found[-1]), plan.class_id))
    return mixed(ground, labelled(np.concatenate(found), np.concatenate(ids), ground.train))


def labelled(images: np.ndarray, class_ids: ClassIds, like: LabelledImages) -> LabelledImages:
    """Images with their classes."""
    index = like.index.iloc[[0] * len(images)].reset_index(drop=True).assign(class_id=class_ids)
    return LabelledImages(images, index, like.class_names)


USES: dict[str, Callable[[Ground], Recipe]] = {
    "synthetic": mixed,
    "less of it": less,
    "near the boundary": near_boundary,
    "feedback": feedback,
    "soft labels": soft_labels,
    "interpolated exemplars": interpolated,
}


def main() -> None:
    """Make the splits, train on each use, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=["digits-5"])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the datasets")
    parser.add_argument("--uses", nargs="+", choices=USES, default=list(USES))
    parser.add_argument("--splits", type=int, default=6)
    parser.add_argument("--first", type=int, default=100, help="seed of the first split")
    parser.add_argument("--seeds", type=int, default=2, help="classifier seeds per split")
    parser.add_argument("--runs", type=Path, default=Path("runs/uses"))
    asked = parser.parse_args()
    # As the evaluation trains.
    torch.set_num_threads(1)
    print(
        f"| cell | use | splits x seeds | {' | '.join(MEASURES.values())} |\n|{' --- |' * (3 + len(MEASURES))}"
    )
    for cell in asked.cells:
        changes: dict[str, list[np.ndarray]] = {name: [] for name in asked.uses}
        for seed in range(asked.first, asked.first + asked.splits):
            ground = make_ground(cell, asked.data, asked.runs, seed)
            before = scores(ground, PLAIN.recipe(ground.train), asked.seeds)
            for name in asked.uses:
                changes[name].append(scores(ground, USES[name](ground), asked.seeds) - before)
        for name, found in changes.items():
            print(f"| {cell} | {name} | {asked.splits} x {asked.seeds} | {cells(found)} |", flush=True)


def make_ground(cell: str, data: Path, runs: Path, seed: int) -> Ground:
    """Run a split as far as its screen; what is done already is not done again."""
    tree = dict(CELLS[cell])
    path = tree.pop("data.path", None)
    tree |= {f"{section}.seed": seed for section in ("split", "train", "produce")}
    tree |= {"run_dir": str(runs / f"{cell}-{seed}")}
    run = steps.open_run(load(None, tree, data=None if path is None else data / path))
    for step in ("split", "plan", "train", "export", "produce", "screen"):
        steps.do(run, step)
    images = load_split(run.path("split"))
    wanted = list(steps.load_plan(run).wanted)
    return Ground(run, images.part("train"), images.part("test"), steps.load_synthetic(run), wanted)


def scores(ground: Ground, recipe: Recipe, seeds: int) -> np.ndarray:
    """(measures,) means over classifiers with so many seeds, on the test images."""
    labels, offsets = ground.test.class_ids, class_offsets(ground.train.counts())
    found = []
    for seed in range(seeds):
        probability = predict_proba(ground.train_on(recipe, seed), ground.test.images)
        one = score(labels, probability, ground.class_ids)
        moved = (move(probability, np.float32(multiple) * offsets) for multiple in MULTIPLES)
        one["ideal"] = max(score(labels, each, ground.class_ids)["macro_f1"] for each in moved)
        found.append([one[name] for name in MEASURES])
    return np.mean(found, axis=0)


def cells(found: Sequence[np.ndarray]) -> str:
    """Changes over splits, in points, with their intervals."""
    each = (interval([100 * one[number] for one in found]) for number in range(len(found[0])))
    return " | ".join(f"{mean:+.2f} ({low:+.2f} to {high:+.2f})" for mean, low, high in each)


if __name__ == "__main__":
    main()
