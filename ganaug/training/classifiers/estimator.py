"""Fitting a scikit-learn estimator by an arm's recipe: on images that the recipe draws, all at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds, Images
from ganaug.errors import TrainingError
from ganaug.recipe import Recipe
from ganaug.training.batches import POOL_BATCHES, batches
from ganaug.training.classifier import BATCH

AUGMENTED_ROUNDS = 4
"""Times that the image which is drawn least often is drawn where images are augmented; else once."""
MOST_IMAGES, MOST_VALUES = 20_000, 2**26
"""An estimator is fitted on no more images, and on no more pixel values (256 MiB of float32)."""
_CHUNK = 4096

Floats = npt.NDArray[np.float32]


def weight_parameter(estimator: Any) -> str:
    """Name under which `fit` takes a weight for each image; empty where it takes none.

    Of a Pipeline it is that of its last step.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> weight_parameter(make_pipeline(LogisticRegression())), weight_parameter(KNeighborsClassifier())
    ('logisticregression__sample_weight', '')
    """
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import has_fit_parameter

    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        inner = weight_parameter(last)
        return f"{name}__{inner}" if inner else ""
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else ""


def count_of(recipe: Recipe, steps: int) -> int:
    """Images that an estimator is fitted on.

    So many that the one which is drawn least often comes once, as an estimator has it without ganaug,
    or `AUGMENTED_ROUNDS` times where copies differ; never more than a network sees in `steps` steps.
    """
    drawn = recipe.draw_probability[recipe.draw_probability > 0]
    wanted = (AUGMENTED_ROUNDS if recipe.augmented.any() else 1) / float(drawn.min())
    values = int(np.prod(recipe.images.shape[1:]))
    return max(min(round(wanted), steps * BATCH, MOST_IMAGES, MOST_VALUES // values), 1)


def drawn(recipe: Recipe, count: int, seed: int) -> tuple[Images, ClassIds]:
    """About `count` (M, H, W, C) uint8 images as the recipe draws and augments them, with (M,) class ids."""
    # One pool: each image comes as often as its share says, and no augmented copy comes twice.
    parts = list(batches(recipe, math.ceil(count / POOL_BATCHES), POOL_BATCHES, seed))
    return np.concatenate([images for images, _ in parts]), np.concatenate([ids for _, ids in parts])


def fit_estimator(
    estimator: Any, recipe: Recipe, n_classes: int, test: Images, *, seed: int, steps: int
) -> Floats:
    """Fit an estimator and let it predict.

    Labels are hard: smoothing is for losses. `random_state`, its own and its parts', is the seed
    wherever it is None.

    Args:
        estimator: With `fit(X, y)` and `predict_proba(X)`; X is (M, H * W * C) float32 in 0..1.
        recipe: Without mixing, offsets and a late part, which `fit` knows nothing of.
        n_classes: Number of classes, K.
        test: (N, H, W, C) uint8.
        seed: Chooses draws, augmentation and what is random in the estimator.
        steps: Training steps that a network would take.

    Returns:
        (N, K) float32 probabilities; 0 for classes that were never drawn.

    Raises:
        TrainingError: It fails, or its columns cannot be told.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    images, class_ids = drawn(recipe, count_of(recipe, steps), seed)
    weights = recipe.loss_weights[class_ids]
    more = {} if (weights == 1).all() else {weight_parameter(estimator): weights}
    _set_random_state(estimator, seed)
    try:
        with threadpool_limits(limits=1):
            estimator.fit(_pixels(images), class_ids, **more)
            found = [
                np.asarray(estimator.predict_proba(_pixels(test[start : start + _CHUNK])))
                for start in range(0, len(test), _CHUNK)
            ]
    except Exception as error:
        raise TrainingError(
            f"the estimator {type(estimator).__name__} of `evaluate.classifier` failed on {len(images)} images: "
            f"{type(error).__name__}: {error}"
        ) from error
    return _columns(np.concatenate(found), getattr(estimator, "classes_", None), n_classes)


def _set_random_state(estimator: Any, seed: int) -> None:
    if not hasattr(estimator, "get_params"):
        return
    parameters = estimator.get_params(deep=True)
    names = [name for name in parameters if name == "random_state" or name.endswith("__random_state")]
    chosen = {name: seed for name in names if parameters[name] is None}
    if chosen:
        estimator.set_params(**chosen)


def _pixels(images: Images) -> Floats:
    """(M, H, W, C) uint8 to (M, H * W * C) float32 in 0..1."""
    return np.divide(images.reshape(len(images), -1), 255, dtype=np.float32)


def _columns(found: npt.NDArray[Any], classes: Any, n_classes: int) -> Floats:
    """Probabilities with a column per class id, of those with a column per class that was seen."""
    seen = np.arange(n_classes) if classes is None else np.asarray(classes).astype(np.int64)
    if found.ndim != 2 or found.shape[1] != len(seen):
        raise TrainingError(
            f"predict_proba of `evaluate.classifier` gave an array of shape {found.shape}; a column for each of "
            f"{len(seen)} classes (those in classes_, where the estimator has it) is needed"
        )
    probability = np.zeros((len(found), n_classes), np.float32)
    probability[:, seen] = found
    return probability
