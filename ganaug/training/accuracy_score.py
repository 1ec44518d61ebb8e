"""Classification accuracy score: a classifier trained on synthetic images, tested on real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ganaug.arms import ARMS
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError
from ganaug.progress import Progress, silent
from ganaug.scores import score, score_classes
from ganaug.training.classifier import auto_steps, fit, predict_proba


@dataclass(frozen=True)
class Score:
    """A classifier's results on held-out real images, as means over its seeds; shares.

    Attributes:
        accuracy: Share of the images that are recognised.
        macro_f1: Mean over the classes of F1.
        recall: (K,) share recognised of each class; None without held-out images.
    """

    accuracy: float
    macro_f1: float
    recall: tuple[float | None, ...]


def accuracy_score(
    training: LabelledImages,
    held_out: LabelledImages,
    *,
    seeds: Sequence[int] = (0,),
    steps: int | None = None,
    augment: str | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Score:
    """Train classifiers on these images alone, every class drawn equally often, and test on others.

    With synthetic training images and real held-out ones it is the classification accuracy
    score; it finds classes that a generator makes badly although its images look well.

    Args:
        training: What is trained on; `class_id` in the index.
        held_out: Real images that are tested on.
        seeds: A classifier is trained for each.
        steps: Training steps of each; None chooses by the number of images.
        augment: Strength of albumentations on the training images; None leaves them as they are.
        device: `cpu` or `cuda`.
        progress: Told of the images trained on, over all seeds.

    Raises:
        DatasetError: Either set is empty, or there are no seeds.
        SettingsError: No such strength.

    Source:
        Ravuri and Vinyals 2019, section 3, arXiv:1905.10887.
    """
    if not len(training) or not len(held_out) or not seeds:
        raise DatasetError(
            f"a score needs training images, held-out images and a seed; there are {len(training)}, "
            f"{len(held_out)} and {len(seeds)}"
        )
    arm = ARMS["oversampling+albumentations" if augment else "oversampling"]
    recipe = arm.recipe(training, strength=augment or "strong")
    labels, names = held_out.class_ids, held_out.class_names
    accuracies, f1s, recalls = [], [], []
    for number, seed in enumerate(seeds):
        model = fit(
            recipe,
            len(names),
            seed=seed,
            steps=steps or auto_steps(len(training)),
            device=device,
            progress=share_of(progress, number, len(seeds)),
        )
        probability = predict_proba(model, held_out.images)
        accuracies.append(float((probability.argmax(1) == labels).mean()))
        f1s.append(score(labels, probability, ())["macro_f1"])
        recalls.append(score_classes(labels, probability, names)["recall"].to_numpy())
    recall = [None if np.isnan(value) else float(value) for value in np.mean(recalls, axis=0)]
    return Score(float(np.mean(accuracies)), float(np.mean(f1s)), tuple(recall))


def share_of(progress: Progress, number: int, count: int) -> Progress:
    """The progress of one of several pieces of work of equal length."""
    return lambda done, total: progress(number * total + done, count * total)


def fill_with_real(
    synthetic: LabelledImages, train: LabelledImages
) -> tuple[LabelledImages, tuple[str, ...]]:
    """Add the real training images of classes that have no synthetic ones.

    Returns:
        The images, and the names of those classes.
    """
    lacking = np.flatnonzero((synthetic.counts() == 0) & (train.counts() > 0))
    rows = np.flatnonzero(np.isin(train.class_ids, lacking))
    filled = LabelledImages(
        np.concatenate([synthetic.images, train.images[rows]]),
        pd.DataFrame({"class_id": np.concatenate([synthetic.class_ids, train.class_ids[rows]])}),
        train.class_names,
    )
    return filled, tuple(train.class_names[class_id] for class_id in lacking)
