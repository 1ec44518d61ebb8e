"""The winner leaves: the recipe of the best arm as files that need no ganaug to be used.

What wins is an arm with synthetic images only where they help; else it is the best without.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ganaug.arms import Arm
from ganaug.classifier_name import DEFAULT
from ganaug.dataset import LabelledImages
from ganaug.recipe import COMPUTED, Recipe
from ganaug.training.batches import pipeline_of
from ganaug.training.classifier import BATCH, LEARNING_RATE, WARM_UP, WEIGHT_DECAY
from ganaug.training.mixing import CUTMIX_ALPHA, CUTMIX_PROBABILITY, MIXUP_ALPHA
from ganaug.training.winner_readme import readme
from ganaug.verdict import Verdict

FORMAT = 1
MANIFEST_FILE, RECIPE_FILE, PIPELINE_FILE, PIXELS_FILE = (
    "manifest.parquet",
    "recipe.json",
    "albumentations.yaml",
    "images.npy",
)


def winner_of(verdict: Verdict) -> str:
    """Name of the arm to train with: synthetic images only where they help."""
    return verdict.after if verdict.verdict == "helps" else verdict.before


def write_winner(
    folder: Path,
    arm: Arm,
    recipe: Recipe,
    train: LabelledImages,
    synthetic: LabelledImages,
    *,
    steps: int,
    verdict: Verdict,
    classifier: str = DEFAULT,
) -> None:
    """Write a recipe as files.

    Args:
        folder: Gets what `write_recipe` leaves, and `README.md`.
        arm: The arm.
        recipe: Its recipe.
        train: The real training images that it was made of.
        synthetic: The synthetic ones; may be empty.
        steps: Training steps that were measured.
        verdict: What was said of it.
        classifier: What was trained by it.
    """
    manifest = write_recipe(
        folder, arm, recipe, train, synthetic, steps=steps, classifier=classifier, verdict=verdict
    )
    text = readme(arm, recipe, manifest, verdict.sentence, classifier)
    (folder / "README.md").write_text(text, encoding="utf-8")


def write_recipe(
    folder: Path,
    arm: Arm,
    recipe: Recipe,
    train: LabelledImages,
    synthetic: LabelledImages,
    *,
    steps: int,
    classifier: str,
    verdict: Verdict | None = None,
) -> pd.DataFrame:
    """Write a recipe as files that a program can follow.

    Args:
        folder: Gets `manifest.parquet` (a row per training image that is ever drawn: `row` in
            `images.npy`, `origin`, `path`, `class_id`, `class_name`, `draw_weight`,
            `late_draw_weight`, `is_synthetic`, `is_augmented`, and of synthetic images
            `model_sha256`, `seed`, `index`), `images.npy` ((N, H, W, C) uint8),
            `albumentations.yaml` where images are augmented, and `recipe.json`.
        arm: The arm.
        recipe: Its recipe.
        train: The real training images that it was made of.
        synthetic: The synthetic ones; may be empty.
        steps: Training steps.
        classifier: What is trained by it.
        verdict: What was said of it; None before that.

    Returns:
        The manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    late = recipe.draw_probability if recipe.late is None else recipe.late.draw_probability
    rows = np.flatnonzero((recipe.draw_probability > 0) | (late > 0))
    np.save(folder / PIXELS_FILE, recipe.images[rows])
    manifest = _manifest(recipe, rows, train, synthetic)
    manifest.to_parquet(folder / MANIFEST_FILE, index=False)
    pipeline = pipeline_of(recipe, seed=0)
    (folder / PIPELINE_FILE).unlink(missing_ok=True)
    if pipeline is not None:
        _save_pipeline(pipeline, folder / PIPELINE_FILE)
    tree = {
        "format": FORMAT,
        "arm": arm.name,
        "meaning": arm.meaning,
        "verdict": None if verdict is None else verdict.verdict,
        "sentence": None if verdict is None else verdict.sentence,
        "classifier": classifier,
        "steps": steps,
        **_describe(arm, recipe, manifest, train),
    }
    (folder / RECIPE_FILE).write_text(json.dumps(tree, indent=2, ensure_ascii=False), encoding="utf-8")
    return manifest


def _manifest(recipe: Recipe, rows: Any, train: LabelledImages, synthetic: LabelledImages) -> pd.DataFrame:
    source, n_real = recipe.source[rows], len(train)
    is_real, is_synthetic = (source != COMPUTED) & (source < n_real), source >= n_real
    late = recipe.draw_probability if recipe.late is None else recipe.late.draw_probability
    path = np.full(len(rows), "", object)
    if "path" in train.index:
        path[is_real] = train.index["path"].astype(str).to_numpy(object)[source[is_real]]
    table = pd.DataFrame(
        {
            "row": np.arange(len(rows)),
            "origin": np.select([is_real, is_synthetic], ["real", "synthetic"], "computed"),
            "path": path.astype(str),
            "class_id": recipe.class_ids[rows],
            "class_name": np.array(train.class_names, object)[recipe.class_ids[rows]].astype(str),
            "draw_weight": recipe.draw_probability[rows],
            "late_draw_weight": late[rows],
            "is_synthetic": is_synthetic,
            "is_augmented": recipe.augmented[rows],
        }
    )
    for name in ("model_sha256", "seed", "index"):
        if is_synthetic.any() and name in synthetic.index:
            own = synthetic.index[name].iloc[source[is_synthetic] - n_real]
            table[name] = pd.Series(own.to_numpy(), index=table.index[is_synthetic]).reindex(table.index)
    return table


def _save_pipeline(pipeline: Any, path: Path) -> None:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    albumentations.save(pipeline, path, data_format="yaml")


def _describe(arm: Arm, recipe: Recipe, manifest: pd.DataFrame, train: LabelledImages) -> dict[str, Any]:
    """What `recipe.json` holds of images, draws, loss and optimiser."""
    of_class = _by_class(manifest)
    made = _by_class(manifest[manifest["is_synthetic"]])
    late_weights = recipe.loss_weights if recipe.late is None else recipe.late.loss_weights
    return {
        "class_names": list(train.class_names),
        "image_shape": list(train.images.shape[1:]),
        "images": len(manifest),
        "start": arm.start,
        "draws_by_class": {str(name): float(value) for name, value in of_class.items()},
        "synthetic_share_by_class": {
            str(name): float(value / of_class[name]) for name, value in made.items()
        },
        "strength": recipe.strength if recipe.augmented.any() else None,
        "flips": recipe.flips,
        "loss_weights": recipe.loss_weights.tolist(),
        "late_loss_weights": late_weights.tolist(),
        "logit_offsets": recipe.logit_offsets.tolist(),
        "decision_offsets": None if recipe.decision_offsets is None else recipe.decision_offsets.tolist(),
        "label_smoothing": recipe.label_smoothing,
        "late_begins": None if recipe.late is None else recipe.late.begins,
        "mixing": recipe.mixing,
        "mixup_alpha": MIXUP_ALPHA,
        "cutmix_alpha": CUTMIX_ALPHA,
        "cutmix_probability": CUTMIX_PROBABILITY,
        "batch": BATCH,
        "optimiser": "AdamW, learning rate by one cycle",
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "warm_up_share": WARM_UP,
    }


def _by_class(manifest: pd.DataFrame) -> dict[str, float]:
    """Probability that a draw takes an image of the class."""
    totals = manifest.groupby("class_name", sort=False)["draw_weight"].sum()
    return dict(zip(totals.index.astype(str), totals.tolist(), strict=True))
