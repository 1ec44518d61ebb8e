"""BalancePlan: how many synthetic images each class wants, and which are too rare to learn."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from ganaug.config import PlanConfig
from ganaug.errors import RunFolderError, SettingsError

if TYPE_CHECKING:
    # Not at run time: it brings pandas, which making images does without.
    from ganaug.dataset import ClassIds

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class ClassPlan:
    """What one class gets.

    Attributes:
        class_id: Its number in the dataset.
        class_name: Its name.
        real: Real training images.
        target: Wanted training images.
        deficit: Images that lack to the target; 0 where there are enough.
        is_wanted: Whether synthetic images are made for it.
        trains_own: Whether it gets a generator of its own, beside the base.
        note: Why it gets none, in words; empty otherwise.
    """

    class_id: int
    class_name: str
    real: int
    target: int
    deficit: int
    is_wanted: bool
    trains_own: bool
    note: str = ""

    @property
    def part(self) -> str:
        """Name of the class's folder in each step."""
        return part_name(self.class_id, self.class_name)


@dataclass(frozen=True)
class BalancePlan:
    """The plan of a run; `wanted` are the classes that get synthetic images."""

    target: str
    classes: tuple[ClassPlan, ...]

    @property
    def wanted(self) -> tuple[ClassPlan, ...]:
        """Classes for which images are made."""
        return tuple(plan for plan in self.classes if plan.is_wanted)

    def save(self, folder: Path) -> None:
        """Write `plan.json`."""
        rows = [asdict(plan) for plan in self.classes]
        text = json.dumps({"target": self.target, "classes": rows}, indent=2, ensure_ascii=False)
        (folder / PLAN_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> BalancePlan:
        """Read `plan.json`.

        Raises:
            RunFolderError: It is missing or damaged.
        """
        try:
            return TypeAdapter(cls).validate_json((folder / PLAN_FILE).read_bytes(), strict=True)
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{folder / PLAN_FILE} cannot be read ({error}); delete the folder {folder} and give the command again"
            ) from error


def make_plan(
    counts: ClassIds, class_names: Sequence[str], config: PlanConfig, *, scope: str = "per-class"
) -> BalancePlan:
    """Plan how many synthetic images each class wants.

    Args:
        counts: (K,) real training images per class.
        class_names: K names.
        config: Target, tolerance, and what is too rare.
        scope: `per-class` and `independent` give every wanted class its own generator, `base`
            none; with `independent` there is no base that a class too rare could be served by.

    Raises:
        SettingsError: The table of targets names a class that does not exist.

    >>> plan = make_plan(np.array([100, 10, 2]), ["cat", "dog", "emu"], PlanConfig())
    >>> [(c.class_name, c.deficit, c.is_wanted) for c in plan.classes]
    [('cat', 0, False), ('dog', 90, True), ('emu', 98, False)]
    """
    targets = _targets(counts, class_names, config)
    rows = []
    for class_id, (name, real, target) in enumerate(zip(class_names, counts.tolist(), targets, strict=True)):
        deficit = max(0, target - real)
        is_short = deficit > config.tolerance * target
        is_rare = real < config.min_images
        is_served = config.too_rare == "base" and scope != "independent"
        is_wanted = is_short and real > 0 and (not is_rare or is_served)
        rows.append(
            ClassPlan(
                class_id,
                name,
                real,
                target,
                deficit,
                is_wanted=is_wanted,
                trains_own=is_wanted and not is_rare and scope != "base",
                note=_note(real, deficit, is_short, is_rare, is_served, config) if deficit else "",
            )
        )
    return BalancePlan(str(config.target), tuple(rows))


def _note(real: int, deficit: int, is_short: bool, is_rare: bool, is_served: bool, config: PlanConfig) -> str:
    if not is_short:
        return f"lacks {deficit}, within the tolerance of {config.tolerance:.0%}"
    if not is_rare:
        return ""
    if is_served and real:
        return f"too few images to train on alone ({real}): served by the base GAN"
    return f"too few images to learn from ({real}, plan.min_images {config.min_images}): left alone"


def _targets(counts: ClassIds, class_names: Sequence[str], config: PlanConfig) -> list[int]:
    """(K,) wanted images per class."""
    target = config.target
    if isinstance(target, Mapping):
        unknown = sorted(set(target) - set(class_names))
        if unknown:
            raise SettingsError(
                [
                    f"plan.target: no class {name!r}; the classes are {', '.join(class_names)}"
                    for name in unknown
                ]
            )
        return [target.get(name, int(real)) for name, real in zip(class_names, counts, strict=True)]
    if target == "majority":
        wanted = int(counts.max())
    elif target == "median":
        wanted = int(np.median(counts))
    elif isinstance(target, float):
        wanted = math.ceil(target * int(counts.max()))
    else:
        wanted = int(target)
    return [wanted] * len(counts)


def part_name(class_id: int, class_name: str) -> str:
    """Folder name of a class: its number and what of its name every file system takes.

    >>> part_name(3, "a/b: ü")
    '003-a-b'
    """
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", class_name).strip("-.")[:40]
    return f"{class_id:03d}-{slug}" if slug else f"{class_id:03d}"
