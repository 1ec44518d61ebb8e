"""How good one classifier is on real test images, by class and as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ganaug.dataset import ClassIds

Floats = npt.NDArray[np.float32]


def score_classes(labels: ClassIds, probability: Floats, class_names: Sequence[str]) -> pd.DataFrame:
    """Score one classifier, class by class.

    Args:
        labels: (N,) true class ids.
        probability: (N, K) probabilities.
        class_names: K names.

    Returns:
        A row per class: `class_id`, `class_name`, `recall`, `precision`, `average_precision`
        and `test_images`. A class without test images has no recall nor average precision; one
        that is never guessed has precision 0.
    """
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    ids = np.arange(len(class_names))
    precision, recall, _, support = precision_recall_fscore_support(
        labels, probability.argmax(1), labels=ids, zero_division=0.0
    )
    ranked = [
        float(average_precision_score(labels == k, probability[:, k])) if support[k] else np.nan for k in ids
    ]
    return pd.DataFrame(
        {
            "class_id": ids.astype(np.int64),
            "class_name": list(class_names),
            "recall": np.where(support > 0, recall, np.nan),
            "precision": precision,
            "average_precision": ranked,
            "test_images": support.astype(np.int64),
        }
    )


def score(labels: ClassIds, probability: Floats, wanted: Sequence[int]) -> dict[str, float]:
    """Score one classifier as a whole, over the classes that have test images.

    Returns:
        `macro_f1`, `balanced_accuracy`, and the means over the wanted classes `rare_recall`
        and `rare_average_precision` (NaN when none of them has test images).
    """
    from sklearn.metrics import f1_score

    table = score_classes(labels, probability, [""] * probability.shape[1])
    rare = table[table["class_id"].isin(list(wanted))]
    present = np.unique(labels)
    f1 = f1_score(labels, probability.argmax(1), labels=present, average="macro", zero_division=0.0)
    return {
        "macro_f1": float(f1),
        "balanced_accuracy": float(table["recall"].mean()),
        "rare_recall": float(rare["recall"].mean()),
        "rare_average_precision": float(rare["average_precision"].mean()),
    }
