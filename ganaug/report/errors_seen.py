"""What an error on a rare class looks like: real test images, and what the arms call them.

Counts and choices alone: the pictures of the images chosen are embedded by `samples`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ganaug.dataset import ClassIds, LabelledImages
from ganaug.run import STEP_FILE

PREDICTIONS_FILE = "predictions.npz"
SHOWN = 12
"""Images chosen per group, so that the page stays small."""
MOST_CLASSES = 24
"""Rare classes whose confusions are listed."""

Guesses = npt.NDArray[np.int64]
"""(S, N) class ids: what each seed of an arm calls each test image."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Call:
    """What an arm calls an image, and by how many seeds.

    That is its class where most seeds are right; else it is the commonest wrong guess.
    """

    class_name: str
    seeds: int
    is_right: bool


@dataclass(frozen=True)
class SeenError:
    """One real test image that an arm gets wrong.

    Attributes:
        row: Its row among the test images.
        class_name: What it is.
        before: What the best arm without synthetic images calls it.
        after: What the arm with them calls it; None without one.
    """

    row: int
    class_name: str
    before: Call
    after: Call | None


@dataclass(frozen=True)
class ErrorGroup:
    """Test images on which the arms go wrong in one way.

    Attributes:
        title: In which.
        rare: Test images of the wanted classes in it.
        other: Those of other classes.
        seen: Some of them, from the classes in turn: of rare ones, but for false alarms.
        is_error: Whether an arm is wrong on them; else the group is only counted.
    """

    title: str
    rare: int
    other: int
    seen: tuple[SeenError, ...] = ()
    is_error: bool = True


@dataclass(frozen=True)
class BeforeAfter:
    """A number in the best arm without synthetic images and in the arm with them, if there is one."""

    before: float
    after: float | None


@dataclass(frozen=True)
class Confusion:
    """What one rare class is taken for.

    Attributes:
        class_name: The class.
        test_images: Test images of it.
        missed: How many of them are missed, mean over seeds.
        taken_before: The class that they are taken for most, and how many, mean over seeds; None where none
            is missed.
        taken_after: The same in the other arm.
    """

    class_name: str
    test_images: int
    missed: BeforeAfter
    taken_before: tuple[str, float] | None
    taken_after: tuple[str, float] | None


@dataclass(frozen=True)
class Errors:
    """The errors on the rare classes.

    Attributes:
        problem: Why there is nothing to tell, in a sentence; empty where there is.
        seeds: Classifier seeds per arm.
        rare_images: Test images of the wanted classes.
        groups: In which ways the arms go wrong or right; together they are all test images.
        alarms: Test images of other classes that an arm calls a wanted one by most of its seeds.
        missed: Test images of wanted classes that are called another class, mean over seeds.
        mistaken: Test images of other classes that are called a wanted one, mean over seeds.
        confusions: What each wanted class is taken for.
        classes_total: Wanted classes with test images, listed or not.
    """

    problem: str
    seeds: int = 0
    rare_images: int = 0
    groups: tuple[ErrorGroup, ...] = ()
    alarms: ErrorGroup = ErrorGroup("False alarms", 0, 0)
    missed: BeforeAfter | None = None
    mistaken: BeforeAfter | None = None
    confusions: tuple[Confusion, ...] = ()
    classes_total: int = 0

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of the images to be shown."""
        return tuple(error.row for group in (*self.groups, self.alarms) for error in group.seen)


def read_errors(run_folder: Path, wanted: Collection[int], before: str, after: str) -> Errors:
    """Compare what two arms call the test images.

    Args:
        run_folder: The run; its `split` and `evaluate` are read.
        wanted: Class ids that the plan wants more of.
        before: The best arm without synthetic images.
        after: The arm with them; empty where there is none.
    """
    if not wanted:
        return Errors(
            "No class wants synthetic images, so there is no rare class whose errors could be shown."
        )
    path = run_folder / "evaluate" / PREDICTIONS_FILE
    if not path.is_file() or not (run_folder / "split" / STEP_FILE).is_file():
        return Errors("The predictions of this run were not kept, so its errors cannot be shown.")
    test = LabelledImages.load(run_folder / "split").part("test")
    with np.load(path, allow_pickle=False) as file:
        names = [str(name) for name in file["arms"]]
        labels = np.asarray(file["labels"], np.int64)
        if not np.array_equal(labels, test.class_ids):
            return Errors("The predictions are of other test images than the split's; evaluate again.")
        if before not in names:
            return Errors(f"The predictions do not hold the arm “{before}”.")
        probability = file["probability"]
    guesses = [
        probability[names.index(arm)].argmax(2).astype(np.int64) for arm in (before, after) if arm in names
    ]
    if not np.isin(labels, list(wanted)).any():
        return Errors("No class that wants synthetic images has test images, so no error on one can be seen.")
    return compare(labels, guesses, wanted, test.class_names)


def compare(
    labels: ClassIds, guesses: Sequence[Guesses], wanted: Collection[int], names: Sequence[str]
) -> Errors:
    """Sort the test images by what one or two arms make of them.

    An arm is right on an image, or wrong, when most of its seeds are; where they are split evenly it
    is neither.

    Args:
        labels: (N,) what the test images are.
        guesses: Of the arm without synthetic images, and of the arm with them where there is one.
        wanted: Class ids that the plan wants more of.
        names: The classes' names.
    """
    is_rare = np.isin(labels, list(wanted))
    rare_ids = [int(k) for k in np.unique(labels[is_rare])]

    def mean(count: Callable[[Guesses], Mask]) -> BeforeAfter:
        numbers = [float(count(one).sum(1).mean()) for one in guesses]
        return BeforeAfter(numbers[0], numbers[1] if len(numbers) > 1 else None)

    confusions = [
        Confusion(
            names[k],
            int((labels == k).sum()),
            mean(lambda guess, own=labels == k: (guess != labels) & own),  # type: ignore[misc]
            *(_taken_for(guess[:, labels == k], k, names) for guess in guesses),
            *[None] * (2 - len(guesses)),
        )
        for k in rare_ids[:MOST_CLASSES]
    ]
    return Errors(
        "",
        seeds=len(guesses[0]),
        rare_images=int(is_rare.sum()),
        groups=_groups(labels, guesses, is_rare, names),
        alarms=_alarms(labels, guesses, wanted, names),
        missed=mean(lambda guess: (guess != labels) & is_rare),
        mistaken=mean(lambda guess: np.isin(guess, list(wanted)) & ~is_rare),
        confusions=tuple(confusions),
        classes_total=len(rare_ids),
    )


def _groups(
    labels: ClassIds, guesses: Sequence[Guesses], is_rare: Mask, names: Sequence[str]
) -> tuple[ErrorGroup, ...]:
    share = [(guess == labels).mean(0) for guess in guesses]
    right, wrong = [one > 0.5 for one in share], [one < 0.5 for one in share]
    if len(guesses) == 1:
        parts = {"Wrong": wrong[0]}
    else:
        parts = {
            "Right only with synthetic images": wrong[0] & right[1],
            "Wrong only with synthetic images": right[0] & wrong[1],
            "Wrong either way": wrong[0] & wrong[1],
        }
    counted = {"Right" if len(guesses) == 1 else "Right either way": np.logical_and.reduce(right)}
    counted["Seeds of an arm split evenly"] = np.logical_or.reduce([one == 0.5 for one in share])

    def group(title: str, chosen: Mask, *, is_error: bool) -> ErrorGroup:
        seen = _seen(np.flatnonzero(chosen & is_rare), labels, guesses, names) if is_error else ()
        return ErrorGroup(
            title, int((chosen & is_rare).sum()), int((chosen & ~is_rare).sum()), seen, is_error
        )

    return (
        *(group(title, chosen, is_error=True) for title, chosen in parts.items()),
        *(group(title, chosen, is_error=False) for title, chosen in counted.items()),
    )


def _alarms(
    labels: ClassIds, guesses: Sequence[Guesses], wanted: Collection[int], names: Sequence[str]
) -> ErrorGroup:
    """Images that an arm takes for a wanted class, and that are of another."""
    taken = np.logical_or.reduce([np.isin(guess, list(wanted)).mean(0) > 0.5 for guess in guesses])
    rows = np.flatnonzero(taken & ~np.isin(labels, list(wanted)))
    return ErrorGroup("False alarms", 0, len(rows), _seen(rows, labels, guesses, names))


def _seen(
    rows: npt.NDArray[np.intp], labels: ClassIds, guesses: Sequence[Guesses], names: Sequence[str]
) -> tuple[SeenError, ...]:
    """Images from the classes in turn; within a class those first on which the seeds agree most."""
    errors = []
    for row in rows.tolist():
        calls = [_call(guess[:, row], int(labels[row]), names) for guess in guesses]
        errors.append(SeenError(row, names[labels[row]], calls[0], calls[1] if len(calls) > 1 else None))

    def agreeing(error: SeenError) -> int:
        return error.before.seeds + (error.after.seeds if error.after else 0)

    by_class: dict[str, list[SeenError]] = {}
    for error in sorted(errors, key=agreeing, reverse=True):
        by_class.setdefault(error.class_name, []).append(error)
    turns = [
        error
        for turn in range(max(map(len, by_class.values()), default=0))
        for name in sorted(by_class)
        for error in by_class[name][turn : turn + 1]
    ]
    return tuple(turns[:SHOWN])


def _call(guess: Guesses, label: int, names: Sequence[str]) -> Call:
    counts = np.bincount(guess, minlength=len(names))
    if 2 * counts[label] > len(guess):
        return Call(names[label], int(counts[label]), is_right=True)
    counts[label] = 0
    best = int(counts.argmax())
    return Call(names[best], int(counts[best]), is_right=False)


def _taken_for(guess: Guesses, label: int, names: Sequence[str]) -> tuple[str, float] | None:
    """The class that the images of one class are most often taken for."""
    counts = np.bincount(guess.ravel(), minlength=len(names))
    counts[label] = 0
    best = int(counts.argmax())
    return (names[best], float(counts[best]) / len(guess)) if counts[best] else None
