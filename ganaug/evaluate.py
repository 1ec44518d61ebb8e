"""What the arms scored on the locked real test split, and the verdict.

Torch-free: it reads probabilities, whoever made them. Arms are in `arms`, intervals in
`intervals`, the verdict's words in `verdict`, and training them is `training.arena`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from ganaug.arms import Arm, find_arms, without_synthetic
from ganaug.config import EvaluateConfig
from ganaug.dataset import ClassIds, LabelledImages
from ganaug.errors import SettingsError
from ganaug.intervals import Difference, Floats, Measures, compare, units_of
from ganaug.own_arm import is_path
from ganaug.scores import matched_recall
from ganaug.simultaneous import Comparison, compare_all
from ganaug.verdict import (
    Verdict,
    WantedClass,
    decide,
    notes_of,
    nothing_sentence,
    percent,
    sentence_of,
    visible_words,
)
from ganaug.visible import smallest_visible


@dataclass(frozen=True)
class Arena:
    """All that was measured.

    Attributes:
        scores: A row per split, arm and seed: `split`, `arm`, `seed`, `macro_f1`, `balanced_accuracy`,
            `rare_recall`, `rare_average_precision`, `rare_precision`, `calibration_error`,
            `head_recall`, `middle_recall`, `tail_recall`, `matched_rare_recall` (at the rare
            precision of the best arm without synthetic images, same seed), `seconds`.
        per_class: A row per split, arm, seed and class: `split`, `arm`, `seed`, `class_id`, `class_name`,
            `recall`, `precision`, `average_precision`, `test_images`.
        verdict: The verdict.
    """

    scores: pd.DataFrame
    per_class: pd.DataFrame
    verdict: Verdict


def judge(
    probability: Mapping[str, Floats],
    test: LabelledImages,
    wanted: Sequence[int],
    config: EvaluateConfig,
    *,
    arms: Sequence[Arm] | None = None,
    nothing: str = "no synthetic images were kept",
    chosen: str = "",
) -> Verdict:
    """Compare the best arm with synthetic images to the best arm without.

    The best is chosen by its mean macro-F1 on the very test images that are reported: that
    flatters it, so the comparison is, if anything, too hard on the synthetic images.

    Args:
        probability: (S, N, K) per arm, one row per seed; the arms share their seeds.
        test: The locked real test images. Those of several splits stand one after the other, with
            `split_number` in the index, and `group` the same wherever an image stands.
        wanted: Class ids that the plan wants more of.
        config: Confidence and margin.
        arms: The arms of `probability`; None makes them of their names.
        nothing: Why there is no synthetic arm, when there is none.
        chosen: The arm with synthetic images that was chosen without these test images; empty
            takes the best on them, and widens its interval by the number that it is the best of.

    Raises:
        SettingsError: There is no arm without synthetic images.
    """
    labels = test.class_ids
    with_synthetic = [arm for arm in arms or find_arms(probability) if arm.has_synthetic]
    synthetic = [arm.name for arm in with_synthetic]
    cheap = [name for name in probability if name not in synthetic]
    if not cheap:
        raise SettingsError(
            ["evaluate.arms: none is without synthetic images; add 'oversampling+albumentations'"]
        )
    groups, splits = _groups(test), _splits(test)
    mean = _mean_macro_f1(probability, labels, splits)
    before = max(cheap, key=lambda name: mean[name])

    def compared(names: Sequence[str]) -> list[Comparison]:
        chosen = {name: probability[name] for name in names if name != before}
        return compare_all(
            chosen,
            probability[before],
            labels,
            synthetic=synthetic,
            groups=groups,
            splits=splits,
            confidence=config.confidence,
        )

    blank = Verdict(
        "cannot tell",
        nothing_sentence(nothing, before, mean[before]),
        before,
        confidence=config.confidence,
        margin=config.margin,
        splits=1 if splits is None else len(np.unique(splits)),
        seeds=len(probability[before]),
        test_images=len(_once(test)),
        rare_test_images=int(np.isin(labels[_once(test)], list(wanted)).sum()),
        comparisons=tuple(compared(list(probability))),
        classes=tuple(_class_alone(class_id, test, config.confidence) for class_id in wanted),
    )
    if not synthetic:
        return blank
    after = chosen or max(synthetic, key=lambda name: mean[name])
    pair = probability[before], probability[after]
    found = compare(*pair, labels, wanted, groups=groups, splits=splits, confidence=config.confidence)
    n_tried = 1 if chosen else len(synthetic)
    if n_tried > 1:
        # The best of several was chosen on these test images: its interval allows for that.
        own = next(one for one in compared(synthetic) if one.arm == after)
        found["macro_f1"] = replace(found["macro_f1"], low=own.low, high=own.high)
    notes = (
        *notes_of(before, len(cheap), n_tried, blank),
        *_not_combined_note(before, with_synthetic),
        *_matched_note(test, *pair, wanted),
    )
    return _judged(replace(blank, after=after, notes=notes), found, pair, test, wanted)


def _judged(
    blank: Verdict,
    found: Mapping[str, Difference],
    pair: tuple[Floats, Floats],
    test: LabelledImages,
    wanted: Sequence[int],
) -> Verdict:
    """The verdict that these differences between both arms make."""
    main = found["macro_f1"]
    judged = replace(
        blank,
        verdict=decide(main, blank.margin),
        difference=main.difference,
        low=main.low,
        high=main.high,
        smallest_visible=main.reach,
        measures={name: value for name, value in found.items() if not name.startswith("recall ")},
        classes=tuple(
            wanted_class(class_id, test, found.get(f"recall {class_id}"), *pair, blank.confidence)
            for class_id in wanted
        ),
    )
    return replace(judged, sentence=sentence_of(judged, main))


def _not_combined_note(before: str, with_synthetic: Sequence[Arm]) -> tuple[str, ...]:
    """How to ask for synthetic images together with the best arm without them, where none had both."""
    if is_path(before) or before in map(without_synthetic, with_synthetic):
        return ()
    both = "synthetic" if before == "real" else f"{before}+synthetic"
    return (
        f"No arm had synthetic images together with {before!r}, the best without them. The test images of this split "
        f'have been looked at now; to compare both on others: --split.seed 100 --evaluate.arms "[{before}, {both}]".',
    )


def _mean_macro_f1(
    probability: Mapping[str, Floats], labels: ClassIds, splits: ClassIds | None
) -> dict[str, float]:
    """Of each arm, over seeds and splits."""
    everything = np.ones((1, len(labels)), np.float32)
    found = Measures(np.stack(list(probability.values())), labels, [], splits)(everything, ranked=False)
    return dict(zip(probability, found["macro_f1"][0].mean(1).tolist(), strict=True))


def _splits(test: LabelledImages) -> ClassIds | None:
    """(N,) number of the split that each image was tested in; None for one split."""
    if "split_number" not in test.index or test.index["split_number"].nunique() == 1:
        return None
    return test.index["split_number"].to_numpy(np.int64)


def _once(test: LabelledImages) -> npt.NDArray[np.int64]:
    """Rows of the test images, each once however many splits it was tested in."""
    if _splits(test) is None:
        return np.arange(len(test.index))
    return np.flatnonzero(~test.index["path"].duplicated())


def _groups(test: LabelledImages) -> list[str] | None:
    return test.index["group"].fillna("").astype(str).tolist() if "group" in test.index else None


def _units_in(test: LabelledImages, rows: npt.NDArray[np.int64]) -> int:
    """Number of groups among these test images; an image without group is one of its own."""
    groups = _groups(test)
    own = None if groups is None else [groups[row] for row in rows]
    return len(np.unique(units_of(test.class_ids[rows], own)))


def _class_alone(class_id: int, test: LabelledImages, confidence: float) -> WantedClass:
    """What a class's test images could show at best, where there is nothing to compare."""
    rows = np.flatnonzero(test.class_ids == class_id)
    name, count = test.class_names[class_id], _count(test, class_id)
    if not count:
        return WantedClass(class_id, name, 0, None, None, f"{name}: no test images, so nothing can be seen.")
    visible = smallest_visible(_units_in(test, rows), confidence=confidence)
    return WantedClass(class_id, name, count, None, visible, f"{name}: {visible_words(count, visible)}")


def _count(test: LabelledImages, class_id: int) -> int:
    return int((test.class_ids[_once(test)] == class_id).sum())


def wanted_class(
    class_id: int,
    test: LabelledImages,
    recall: Difference | None,
    before: Floats,
    after: Floats,
    confidence: float,
) -> WantedClass:
    """What both arms make of a class, and what its test images can show at all.

    Args:
        class_id: The class.
        test: The real test images.
        recall: Its recall in both arms, compared; None without test images.
        before: (S, N, K) probabilities of one arm.
        after: (S, N, K) probabilities of the other.
        confidence: Level of the intervals.
    """
    if recall is None:
        return _class_alone(class_id, test, confidence)
    rows = np.flatnonzero(test.class_ids == class_id)
    name, count = test.class_names[class_id], _count(test, class_id)
    units = _units_in(test, rows)
    turned = (after[:, rows].argmax(2) == class_id).mean(0) - (before[:, rows].argmax(2) == class_id).mean(0)
    # What turned beyond the gain itself turned both ways alike.
    disagreement = max(float((turned**2).mean() - abs(turned.mean())), 0.0)
    visible = max(smallest_visible(units, disagreement, confidence=confidence), recall.reach)
    sentence = (
        f"{name}: recall {percent(recall.before)} to {percent(recall.after)} "
        f"({recall.low * 100:+.1f} to {recall.high * 100:+.1f} points); {visible_words(count, visible)}"
    )
    return WantedClass(class_id, name, count, recall, visible, sentence)


def _matched_note(test: LabelledImages, before: Floats, after: Floats, wanted: Sequence[int]) -> list[str]:
    """Rare recall of both arms at one operating point."""
    splits = _splits(test)
    numbers = np.zeros(len(test.index), np.int64) if splits is None else splits
    means = []
    for arm in (before, after):
        found = []
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            found += matched_recall(test.class_ids[rows], arm[:, rows], before[:, rows], wanted)
        means.append(float(np.mean(found)))
    if np.isnan(means).any():
        return []
    return [
        "With as many of the guesses that name a rare class right in both arms, rare recall goes from "
        f"{percent(means[0])} to {percent(means[1])}: what remains of a gain in recall when none of it is "
        "bought with wrong guesses."
    ]
