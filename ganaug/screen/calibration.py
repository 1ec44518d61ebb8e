"""What a classifier's probabilities are worth, measured on real images that it was not trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds
from ganaug.screen.looks import Bools, Floats

Weights = npt.NDArray[np.float64]
LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of a temperature; one at a bound says that there was nothing to learn it from."""


def temperature(logits: Floats, class_ids: ClassIds, weights: Weights) -> float:
    """The temperature that makes probabilities honest.

    It minimises the weighted mean of -log softmax(logits / T)[class].

    Args:
        logits: (N, K), of images that the classifier was not trained on.
        class_ids: (N,) the images' classes.
        weights: (N,) how much each counts.

    Returns:
        T; above 1 for a classifier that is too sure of itself. 1 without images.

    Source:
        Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    if not len(logits):
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        likelihood = scaled[np.arange(len(scaled)), class_ids] - np.log(np.exp(scaled).sum(axis=1))
        return float(-np.average(likelihood, weights=weights))

    bounds = (np.log(LOWEST), np.log(HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def calibrated(probability: Floats, temperature: float) -> Floats:
    """(N, K) probabilities at a temperature: p^(1/T), made to sum to 1 again.

    >>> calibrated(np.array([[0.8, 0.2]], np.float32), 0.5).round(3).tolist()
    [[0.9409999847412109, 0.05900000035762787]]
    """
    powers = np.log(np.maximum(probability, np.float32(1e-30))) / np.float32(temperature)
    powers = np.exp(powers - powers.max(axis=1, keepdims=True))
    scaled: Floats = powers / powers.sum(axis=1, keepdims=True)
    return scaled


def class_balanced(class_ids: ClassIds, chosen: Bools) -> Weights:
    """(N,) weights that let every class with chosen images count alike; 0 for the others.

    >>> class_balanced(np.array([0, 0, 1, 1]), np.array([True, True, True, False])).tolist()
    [0.25, 0.25, 0.5, 0.0]
    """
    counts = np.bincount(class_ids[chosen], minlength=int(class_ids.max(initial=0)) + 1)
    weights = np.where(chosen, 1.0 / np.maximum(counts[class_ids], 1), 0.0)
    balanced: Weights = weights / max(float(weights.sum()), 1e-12)
    return balanced


def passed_by(values: Floats, weights: Weights, share: float) -> float:
    """The largest threshold that at least a share of the weight reaches.

    Args:
        values: (N,).
        weights: (N,), 0 or more.
        share: 0 to 1.

    Returns:
        max {t in values: sum of weights where value >= t is at least `share` of all}.

    >>> passed_by(np.arange(1, 11, dtype=np.float32), np.ones(10), 0.9)
    2.0
    """
    order = np.argsort(-values, kind="stable")
    reached = np.cumsum(weights[order])
    # A rounding error must not cost the image that completes the share.
    position = int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-9)))
    return float(values[order[min(position, len(values) - 1)]])
