"""How good one classifier is on real test images, by class and as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ganaug.dataset import ClassIds
from ganaug.prevalence import image_weights

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


def confusion(labels: ClassIds, probability: Floats, class_names: Sequence[str]) -> pd.DataFrame:
    """Count what one classifier called the images of each class.

    Args:
        labels: (N,) true class ids.
        probability: (N, K) probabilities.
        class_names: K names.

    Returns:
        A row per pair of classes that occurs: `class_name`, `called` and `images`.

    >>> confusion(np.array([0, 0, 1]), np.eye(2, dtype=np.float32)[[0, 1, 1]], "ab").to_numpy().tolist()
    [['a', 'a', 1], ['a', 'b', 1], ['b', 'b', 1]]
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels, probability.argmax(1), labels=np.arange(len(class_names)))
    true, called = np.nonzero(counts)
    names = np.array(list(class_names), object)
    return pd.DataFrame({"class_name": names[true], "called": names[called], "images": counts[true, called]})


def score(
    labels: ClassIds,
    probability: Floats,
    wanted: Sequence[int],
    *,
    train_counts: ClassIds | None = None,
    prevalence: ClassIds | None = None,
) -> dict[str, float]:
    """Score one classifier as a whole, over the classes that have test images.

    Args:
        labels: (N,) true class ids.
        probability: (N, K) probabilities.
        wanted: Class ids that the plan wants more of.
        train_counts: (K,) real training images per class; None leaves the parts by size out.
        prevalence: (K,) how common each class is where macro-F1 is to hold, in any unit; a class of 0 is left
            out. None: as among these images.

    Returns:
        `macro_f1`, `balanced_accuracy`, `calibration_error`, the means over the wanted classes
        `rare_recall`, `rare_average_precision` and `rare_precision` (NaN when none of them has
        test images), and what `recall_by_size` gives.
    """
    from sklearn.metrics import f1_score

    table = score_classes(labels, probability, [""] * probability.shape[1])
    rare = table[table["class_id"].isin(list(wanted))]
    weights = np.ones(len(labels)) if prevalence is None else image_weights(labels, prevalence)
    f1 = f1_score(
        labels,
        probability.argmax(1),
        labels=np.unique(labels[weights > 0]),
        average="macro",
        sample_weight=weights,
        zero_division=0.0,
    )
    recall = table["recall"].to_numpy(np.float64)
    return {
        "macro_f1": float(f1),
        "balanced_accuracy": float(table["recall"].mean()),
        "rare_recall": float(rare["recall"].mean()),
        "rare_average_precision": float(rare["average_precision"].mean()),
        "rare_precision": rare_precision(labels, probability, wanted),
        "calibration_error": calibration_error(labels, probability),
        **({} if train_counts is None else recall_by_size(recall, train_counts)),
    }


def calibration_error(labels: ClassIds, probability: Floats, bins: int = 15) -> float:
    """Expected calibration error: how far a classifier's confidence is from how often it is right.

    Mean over images of |accuracy - mean confidence| of the bin, of `bins` equally wide ones, that
    the image's largest probability lies in.

    Args:
        labels: (N,) true class ids.
        probability: (N, K) probabilities.
        bins: Number of bins.

    Source:
        Guo et al. 2017, equation 3, arXiv:1706.04599.

    >>> calibration_error(np.array([0, 0]), np.array([[0.75, 0.25], [0.25, 0.75]], np.float32))
    0.25
    """
    confidence = probability.max(1).astype(np.float64)
    is_right = probability.argmax(1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    gap = np.bincount(place, weights=is_right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


HEAD_ABOVE, TAIL_BELOW = 100, 20
"""A class of more training images is of the head, one of fewer of the tail, the rest of the middle."""


def recall_by_size(recall: npt.NDArray[np.float64], train_counts: ClassIds) -> dict[str, float]:
    """Mean recall of the classes of the head, the middle and the tail, by their training images.

    Args:
        recall: (K,) recall of each class; NaN for one without test images, which counts nowhere.
        train_counts: (K,) real training images of each.

    Returns:
        `head_recall`, `middle_recall` and `tail_recall`; NaN for a part without classes.

    Source:
        Liu et al. 2019, section 5.1 (many-, medium- and few-shot), arXiv:1904.05160.
    """
    is_head, is_tail = train_counts > HEAD_ABOVE, train_counts < TAIL_BELOW
    parts = {"head": is_head, "middle": ~is_head & ~is_tail, "tail": is_tail}
    found = {name: recall[chosen & ~np.isnan(recall)] for name, chosen in parts.items()}
    return {f"{name}_recall": float(own.mean()) if len(own) else float("nan") for name, own in found.items()}


def rare_precision(labels: ClassIds, probability: Floats, wanted: Sequence[int]) -> float:
    """Share of right guesses among those that name any of the wanted classes; NaN without one."""
    guess = probability.argmax(1)
    is_rare = np.isin(guess, list(wanted))
    return float((guess == labels)[is_rare].mean()) if is_rare.any() else float("nan")


def recall_at_precision(
    labels: ClassIds, probability: Floats, wanted: Sequence[int], precision: float
) -> float:
    """Mean recall of the wanted classes where their guesses are right this often.

    Naming rare classes more often buys recall with wrong guesses. Here one number is added to the
    logits of all wanted classes, which moves the classifier along that trade; of all numbers that
    leave at least this precision, the one of the largest recall is taken. So arms are compared at
    one operating point, and what a shifted threshold bought is taken back.

    Args:
        labels: (N,) true class ids.
        probability: (N, K) probabilities.
        wanted: Class ids; those without test images do not count.
        precision: Share of right guesses, among those that name a wanted class, to be kept.

    Returns:
        0 where no number leaves that precision; NaN without test images of wanted classes, or
        without a precision to keep.
    """
    rare = np.array(sorted(set(wanted)), np.int64)
    counts = np.bincount(labels, minlength=probability.shape[1])
    present = rare[counts[rare] > 0]
    if not len(present) or np.isnan(precision) or len(rare) == probability.shape[1]:
        return float("nan")
    logits = np.log(np.maximum(probability.astype(np.float64), 1e-30))
    common = np.delete(logits, rare, axis=1).max(1)
    guess = rare[logits[:, rare].argmax(1)]
    # With the number t added, an image is called rare when its margin lies above -t: in this order.
    margin = logits[:, rare].max(1) - common
    order = np.argsort(-margin, kind="stable")
    is_hit = (guess == labels)[order]
    gain = np.where(is_hit, 1.0 / np.maximum(counts[labels[order]], 1) / len(present), 0.0)
    right, recall = np.cumsum(is_hit), np.cumsum(gain)
    # Images of one margin are called rare together or not at all.
    is_end = np.append(np.diff(margin[order]) != 0, True)
    is_kept = is_end & (right >= precision * np.arange(1, len(order) + 1) - 1e-9)
    return float(recall[is_kept].max(initial=0.0))


def matched_recall(labels: ClassIds, fits: Floats, before: Floats, wanted: Sequence[int]) -> list[float]:
    """`recall_at_precision` of each seed of an arm, at the precision of the other arm's same seed.

    Args:
        labels: (N,) true class ids.
        fits: (S, N, K) probabilities of the arm.
        before: (S, N, K) probabilities of the arm whose operating point is taken.
        wanted: Class ids that the plan wants more of.
    """
    return [
        recall_at_precision(labels, one, wanted, rare_precision(labels, other, wanted))
        for one, other in zip(fits, before, strict=True)
    ]
