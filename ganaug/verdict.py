"""A verdict: what it holds, when it is which of the four answers, and how it is said in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ganaug.intervals import Difference
from ganaug.refusal import LabelRate
from ganaug.simultaneous import Comparison

Answer = Literal["helps", "no difference", "hurts", "cannot tell"]
ENOUGH_SEEDS, ENOUGH_SPLITS = 4, 5
"""Of fewer classifier seeds, or test splits, it is said that they are few."""


@dataclass(frozen=True)
class WantedClass:
    """One class that the plan wants more of, before and after.

    Attributes:
        class_id: Its number.
        class_name: Its name.
        test_images: Real test images of it.
        recall: Its recall in both arms; None without test images.
        smallest_visible: The smallest gain of recall that so many test images, and arms that
            disagree as often as these, show four times in five; None without test images.
        sentence: That in words.
    """

    class_id: int
    class_name: str
    test_images: int
    recall: Difference | None
    smallest_visible: float | None
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """Whether synthetic images help. Scores and differences are shares (0.01 is one point).

    Attributes:
        verdict: `helps`, `no difference`, `hurts` or `cannot tell`.
        sentence: The verdict for a reader who knows none of the words.
        before: Name of the best arm without synthetic images.
        after: Name of the best arm with them; empty when there is none to compare.
        difference: Macro-F1 of `after` less that of `before`.
        low: Lower end of its interval, which holds for all arms with synthetic images at once.
        high: Upper end.
        smallest_visible: About the smallest difference of macro-F1 that these data can show.
        confidence: Level of the intervals.
        margin: A difference that is certainly smaller counts as none.
        splits: Splits of the images, with a GAN each.
        seeds: Classifier seeds per arm and split.
        test_images: Real test images, each once.
        rare_test_images: Those of them that are of the wanted classes.
        measures: `macro_f1`, `rare_recall` and `rare_average_precision` of both arms.
        comparisons: Every other arm against `before`, with intervals that hold for all at once.
        classes: Each wanted class.
        notes: How to read it, in sentences.
        label_rates: How many of each class's synthetic images, as produced, are of their class, and
            whether they were refused for that before the arena.
    """

    verdict: Answer
    sentence: str
    before: str
    after: str = ""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    smallest_visible: float | None = None
    confidence: float = 0.95
    margin: float = 0.01
    splits: int = 1
    seeds: int = 0
    test_images: int = 0
    rare_test_images: int = 0
    measures: Mapping[str, Difference] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    classes: tuple[WantedClass, ...] = ()
    notes: tuple[str, ...] = ()
    label_rates: tuple[LabelRate, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `verdict.json` holds them."""
        return asdict(self)


def decide(difference: Difference, margin: float) -> Answer:
    """Turn an interval into one of the four answers.

    >>> decide(Difference(0.90, 0.93, 0.03, 0.01, 0.05), 0.01)
    'helps'
    >>> decide(Difference(0.90, 0.91, 0.01, -0.02, 0.04), 0.01)
    'cannot tell'
    """
    if -margin < difference.low and difference.high < margin:
        return "no difference"
    if difference.low > 0:
        return "helps"
    if difference.high < 0:
        return "hurts"
    return "cannot tell"


_OPENINGS: dict[Answer, str] = {
    "helps": "The synthetic images help",
    "no difference": "The synthetic images make no difference that matters",
    "hurts": "The synthetic images make the classifier worse",
    "cannot tell": "These data cannot tell whether the synthetic images help",
}


def sentence_of(verdict: Verdict, main: Difference) -> str:
    """The verdict for a reader who knows none of the words."""
    return (
        f"{_OPENINGS[verdict.verdict]}: {verdict.after!r} scores "
        f"{round(main.difference * 100, 1) + 0.0:+.1f} points of macro-F1 ({percent(main.before)} to {percent(main.after)}) against {verdict.before!r}, the best "
        f"arm without them ({verdict.confidence:.0%} interval {main.low * 100:+.1f} to "
        f"{main.high * 100:+.1f}), over {_runs(verdict)} on {verdict.test_images} real test "
        f"images, of which {verdict.rare_test_images} are of the rare classes. The smallest difference that "
        f"these data can show is about {main.reach * 100:.1f} points."
    )


def _runs(verdict: Verdict) -> str:
    seeds = f"{verdict.seeds} classifier seeds"
    return seeds if verdict.splits == 1 else f"{verdict.splits} splits of the images with {seeds} each,"


def nothing_sentence(nothing: str, before: str, mean: float) -> str:
    """What to say where there is no arm with synthetic images."""
    return (
        f"There is nothing to compare: {nothing}. The best arm without them is {before!r}, "
        f"with a macro-F1 of {percent(mean)}."
    )


def percent(share: float) -> str:
    """A share in percent, to a tenth."""
    return f"{share * 100:.1f}"


def visible_words(count: int, visible: float) -> str:
    """What so many test images of a class can show."""
    return (
        f"with {count} test image{'s' if count != 1 else ''} of this class nothing under "
        f"{visible * 100:.0f} points can be seen four times in five."
    )


def notes_of(before: str, n_cheap: int, n_synthetic: int, verdict: Verdict) -> tuple[str, ...]:
    """How to read a verdict, in sentences.

    Args:
        before: The best arm without synthetic images.
        n_cheap: Arms that it is the best of.
        n_synthetic: Arms that the best with synthetic images is the best of.
        verdict: Splits and seeds.
    """
    is_one = verdict.splits == 1
    training = "training of the classifier" if is_one else "split, with GANs and classifiers of its own,"
    notes = [
        f"Each interval covers both what another {training} and another draw of test "
        "images would have changed; both arms are compared on the same seeds and images.",
        "The verdict is about macro-F1: recall alone can be bought by naming rare classes more often, "
        "so average precision, which does not depend on that, stands beside it.",
    ]
    if n_cheap > 1:
        notes.append(
            f"{before!r} was chosen as the best of {n_cheap} arms on the same test images, which "
            "flatters it: the comparison is, if anything, too hard on the synthetic images."
        )
    if n_synthetic > 1:
        notes.append(
            f"The best of {n_synthetic} arms with synthetic images is reported; its interval is wide enough "
            "to hold for all of them at once (max-T), so that trying many does not make one seem to help."
        )
    if is_one and verdict.seeds < ENOUGH_SEEDS:
        notes.append(
            f"{verdict.seeds} seeds say little about the noise of training; {ENOUGH_SEEDS} or more say more."
        )
    if not is_one and verdict.splits < ENOUGH_SPLITS:
        notes.append(
            f"{verdict.splits} splits say little about other splits; {ENOUGH_SPLITS} or more say more."
        )
    return tuple(notes)
