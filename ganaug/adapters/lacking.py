"""What classes lack, as the share of their images that is to be synthetic."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ganaug.config import PlanConfig
from ganaug.plan import PLAN_FILE, BalancePlan, make_plan


def lacking(plan: BalancePlan | Path | str | Mapping[str, int]) -> dict[str, float]:
    """The share of each class's images that is to be synthetic: 1 - real / target.

    Args:
        plan: A plan; its file, or the run folder that it lies in; or numbers of real training images
            by class name, where the target is the largest of them.

    Returns:
        Shares by class name, of the classes that the plan wants images for.

    Raises:
        ValueError: It is none of these, not there, or damaged.

    >>> lacking({"cat": 100, "dog": 25, "emu": 95})
    {'dog': 0.75}
    """
    if isinstance(plan, str | Path):
        plan = _read(Path(plan))
    elif isinstance(plan, Mapping):
        plan = _of_counts(plan)
    if not isinstance(plan, BalancePlan):
        raise ValueError(
            f"a plan is a BalancePlan, a path, or numbers of images by class, not {type(plan).__name__}"
        )
    return {row.class_name: row.deficit / row.target for row in plan.wanted}


def _read(path: Path) -> BalancePlan:
    for folder in (path.parent if path.name == PLAN_FILE else path, path / "plan"):
        if (folder / PLAN_FILE).is_file():
            try:
                return BalancePlan.load(folder)
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{folder / PLAN_FILE} is no plan, or damaged: {error!r}") from error
    raise ValueError(f"{path} has no {PLAN_FILE}; `ganaug plan` leaves one in the run folder")


def _of_counts(counts: Mapping[Any, Any]) -> BalancePlan:
    try:
        numbers = np.array([operator.index(count) for count in counts.values()], np.int64)
    except TypeError as error:
        raise ValueError(
            f"a plan has whole numbers of images, got {dict(counts)}; shares go in `probabilities`"
        ) from error
    if not len(numbers) or numbers.min() < 0:
        raise ValueError(f"a plan has 0 images or more of one class or more, got {dict(counts)}")
    # No class is too rare for a model that can make it.
    return make_plan(numbers, [str(name) for name in counts], PlanConfig(min_images=1))
