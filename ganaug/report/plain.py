"""The verdict in words that need no statistics, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from ganaug.report.arena import Arena, Change
from ganaug.verdict import ENOUGH_SEEDS, ENOUGH_SPLITS

SEEN_BY_NONE = "on real images that no training has seen"


@dataclass(frozen=True)
class Plain:
    """The verdict for a reader who knows no statistics.

    Attributes:
        sentence: It, in words.
        rare: What that means for the rare classes; empty where that cannot be said.
        advice: What to do.
        arm: The arm to train with.
        meaning: What that arm is, in words; empty where that is not known.
    """

    sentence: str
    rare: str
    advice: str
    arm: str
    meaning: str


def in_plain_words(arena: Arena) -> Plain:
    """The verdict, and what to do about it.

    Args:
        arena: What the evaluation found.
    """
    advice, name = _advice(arena)
    meaning = next((arm.meaning for arm in arena.arms if arm.name == name), "")
    return Plain(plain_verdict(arena), _rare(arena), advice, name, meaning)


def plain_verdict(arena: Arena) -> str:
    """The verdict for a reader who knows none of the words.

    Args:
        arena: What the evaluation found.

    Returns:
        One or two sentences; the evaluation's own where there is nothing to compare.
    """
    main = arena.change("macro_f1")
    if main is None:
        return arena.sentence
    before, after = f"{100 * main.before:.1f}", f"{100 * main.after:.1f}"
    if arena.verdict == "helps":
        return (
            f"With the synthetic images the classifier scores {after} of 100 {SEEN_BY_NONE}, "
            f"without them {before}: more than chance explains."
        )
    if arena.verdict == "hurts":
        return (
            f"With the synthetic images the classifier scores only {after} of 100 {SEEN_BY_NONE}, "
            f"without them {before}: more than bad luck explains."
        )
    if arena.verdict == "no difference":
        return (
            f"With the synthetic images the classifier scores {after} of 100 {SEEN_BY_NONE}, without them "
            f"{before}. Any true difference is smaller than {_points(arena.margin)}, too small to matter."
        )
    return (
        f"With the synthetic images the classifier scores {after} of 100 {SEEN_BY_NONE}, without them "
        f"{before}. That may be chance{_what_would_show(arena)}."
    )


def _what_would_show(arena: Arena) -> str:
    if arena.smallest_visible is None:
        return ""
    few = _few(arena)
    looked = f"these test images and so few {few}" if few else "these test images"
    return f": with {looked} only a difference of about {_points(arena.smallest_visible)} would show"


def _few(arena: Arena) -> str:
    """What the intervals are wide by, besides test images; empty where there are enough."""
    if arena.splits > 1:
        return "test splits" if arena.splits < ENOUGH_SPLITS else ""
    return "classifier seeds" if arena.seeds < ENOUGH_SEEDS else ""


def _rare(arena: Arena) -> str:
    """What the score means for the rare classes, where that can be said."""
    change = arena.change("rare_recall")
    if change is None:
        return ""
    before, after = f"{100 * change.before:.0f}", f"{100 * change.after:.0f}"
    if before == after:
        return f"Of 100 images of a rare class it recognises {after} either way."
    doubt = ", which may be chance" if _holds_zero(change) else ""
    return f"Of 100 images of a rare class it recognises {after} instead of {before}{doubt}."


def _holds_zero(change: Change) -> bool:
    low, high = change.difference.low, change.difference.high
    return low is None or high is None or low <= 0 <= high


def _advice(arena: Arena) -> tuple[str, str]:
    """What to do, and the arm to do it with: synthetic images only where they help."""
    if arena.verdict == "helps" and arena.after:
        return "Train with the synthetic images", arena.after
    if arena.verdict == "cannot tell" and arena.after:
        more = " or ".join(filter(None, ["test images", _few(arena)]))
        return f"Until more {more} tell, train without synthetic images", arena.before
    return "Train without synthetic images", arena.before


def _points(share: float) -> str:
    """A difference in points, without a needless digit.

    >>> _points(0.01), _points(0.0071)
    ('1 point', '0.7 points')
    """
    number = f"{100 * share:.1f}".removesuffix(".0")
    return f"{number} point{'' if number == '1' else 's'}"
