"""How far data have moved: in how many images each class has, and in what the images look like."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds

Floats = npt.NDArray[np.float32]

LEAST = 25
"""Fewer new images, matched by class with as many earlier ones, say nothing of drift."""
_MOST = 2000
_FOLDS = 5


def population_stability_index(before: ClassIds, now: ClassIds) -> float:
    """How far the classes' shares have moved: 0 not at all; 0.1 is commonly called moderate, 0.25 large.

    Args:
        before: (K,) images of each class.
        now: (K,) the same, later.

    Returns:
        The sum over classes of (q - p) ln(q / p), half an image added to each count.

    >>> round(population_stability_index(np.array([50, 50]), np.array([500, 500])), 3)
    0.0
    >>> population_stability_index(np.array([50, 50]), np.array([80, 20])) > 0.25
    True

    Source:
        The symmetric divergence of Jeffreys 1946, as credit scoring uses it (Siddiqi 2006, ch. 8).
    """
    shares = [(counts + 0.5) / (counts + 0.5).sum() for counts in (before, now)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def feature_drift(
    earlier: Floats, earlier_ids: ClassIds, new: Floats, new_ids: ClassIds, *, seed: int = 0
) -> float | None:
    """How well a classifier tells new images from earlier ones of the same classes.

    Args:
        earlier: (N, F) features of images that the network had not seen.
        earlier_ids: (N,) their classes.
        new: (M, F) features of new images.
        new_ids: (M,) their classes.
        seed: Chooses which images are compared, and the folds.

    Returns:
        Area under the ROC curve of a logistic regression, cross-validated: 0.5 tells nothing apart,
        1 everything. None with fewer than `LEAST` images of classes that both have.

    Source:
        Classifier two-sample test, Lopez-Paz and Oquab 2017, arXiv:1610.06545.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # As many of each class on both sides: what classes there are is no matter of features.
    rng = np.random.default_rng(seed)
    rows: tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.int64]]] = ([], [])
    for class_id in np.intersect1d(earlier_ids, new_ids):
        own = [rng.permutation(np.flatnonzero(ids == class_id)) for ids in (earlier_ids, new_ids)]
        count = min(len(own[0]), len(own[1]), max(1, _MOST // len(np.unique(new_ids))))
        rows[0].append(own[0][:count])
        rows[1].append(own[1][:count])
    if sum(map(len, rows[0])) < LEAST:
        return None
    features = np.concatenate([earlier[np.concatenate(rows[0])], new[np.concatenate(rows[1])]])
    is_new = np.repeat([0, 1], len(features) // 2)
    # Strong shrinkage: there may be fewer images than features.
    teller = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    told = cross_val_predict(teller, features, is_new, cv=folds, method="decision_function")
    return float(roc_auc_score(is_new, told))
