"""What makes a listed or decoded dataset unusable, in words that say what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ganaug.config import DataConfig
from ganaug.errors import DatasetError, TooManyUnreadableError
from ganaug.readers.source import Item, Unreadable

_SHOWN = 5


def check_unreadable(unreadable: Sequence[Unreadable], total: int, config: DataConfig) -> None:
    """Stop when too many of `total` images are unreadable, or all are.

    Raises:
        TooManyUnreadableError: With the first of them and their reasons.
    """
    if len(unreadable) <= config.max_bad_share * total and len(unreadable) < max(total, 1):
        return
    first = "\n".join(f"  - {one.path}: {one.reason}" for one in unreadable[:_SHOWN])
    more = f"\n  - and {len(unreadable) - _SHOWN} more" if len(unreadable) > _SHOWN else ""
    share, kind = len(unreadable) / max(total, 1), "images" if config.has_labels else "unlabelled images"
    raise TooManyUnreadableError(
        f"{len(unreadable)} of {total} {kind} ({share:.1%}) cannot be read; data.max_bad_share allows "
        f"{config.max_bad_share:.1%}:\n{first}{more}\nMend or remove them, or raise data.max_bad_share to go "
        "on without them.",
        unreadable,
    )


def check_classes(items: Sequence[Item], config: DataConfig) -> list[str]:
    """Stop when the classes cannot be learnt and tested; returns notes on odd ones.

    Raises:
        DatasetError: Nothing to train on, one class only, or a class with one image that a
            split would have to both train and test on.
    """
    if not config.has_labels:
        return []
    counts = Counter(item.class_name for item in items)
    tested = Counter(item.class_name for item in items if item.split == "test")
    trained = Counter(item.class_name for item in items if item.split != "test")
    if not trained:
        raise DatasetError(
            f"all {len(items)} images are in the test split; there is nothing to train on. Add a train split, "
            "or give the images without splits and let ganaug part them."
        )
    if len(counts) == 1:
        raise DatasetError(
            f"there is one class only, {next(iter(counts))!r} ({counts.total()} images). Balancing needs at "
            "least two: a folder, or a label, per class."
        )
    if not tested:
        single = sorted(name for name, count in counts.items() if count == 1)
        if single:
            raise DatasetError(
                f"{len(single)} of {len(counts)} classes have one image, which cannot be both trained on and "
                f"tested: {_some(single)}. Add images to them, or remove them."
            )
        return []
    notes = []
    if missing := set(counts) - set(trained):
        notes.append(f"classes with test images but none to train on: {_some(missing)}")
    if missing := set(counts) - set(tested):
        notes.append(f"classes without test images, whose recall cannot be measured: {_some(missing)}")
    return notes


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more
