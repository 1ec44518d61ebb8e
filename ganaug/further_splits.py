"""Further splits of a run's images: the same run again, on other test images and with other seeds."""

from __future__ import annotations

from pathlib import Path

from ganaug.arms import QUICK, arm_names
from ganaug.config import Config, EvaluateConfig
from ganaug.pooled import SplitResult
from ganaug.progress import Progress, in_parts, silent
from ganaug.run import RunFolder, perform
from ganaug.split import load_split
from ganaug.steps import STEPS, parts

_STEPS = {"split": 2, "plan": 1, "train": 500, "export": 20, "produce": 20, "screen": 30, "evaluate": 427}
"""The steps that a further split needs, and about what share of a quick one's time each takes, in thousandths."""


def further_splits(run: RunFolder, count: int, progress: Progress = silent) -> list[SplitResult]:
    """The same run on further splits of the images, each a run folder in `splits/` of this one.

    Split k has all seeds of the run plus k: other test images, other images where classes are cut
    for a trial, other GANs, another screen. What is done already is not done again.
    """
    parts_of = enumerate(in_parts(progress, [1000] * count), start=1)
    return [further_split(run, number, whole) for number, whole in parts_of]


def further_split(run: RunFolder, number: int, progress: Progress = silent) -> SplitResult:
    """The same run on one further split, from 1 on; several processes may each do one."""
    folder = run.folder / "splits" / str(number)
    other = RunFolder.create(folder, _config_of(run.config, folder, number), run.fingerprint)
    sizes = shares(run.config.evaluate)
    for step, part in zip(sizes, in_parts(progress, list(sizes.values())), strict=True):
        own = parts(other, step)
        for name, share in zip(own, in_parts(part, [1000] * len(own)), strict=True):
            perform(other, STEPS[step], name, share)
    index = load_split(other.path("split")).index
    return SplitResult.load(other.path("evaluate"), index[index["split"] == "test"])


def shares(config: EvaluateConfig) -> dict[str, int]:
    """The steps that a further split needs, and about how much of its time each takes, in any unit.

    >>> [round(shares(EvaluateConfig(budget=one))["evaluate"] / 427) for one in ("quick", "standard", "paper")]
    [1, 15, 9]
    """
    # Tuning trains about as many classifiers as are compared after it.
    fits = len(arm_names(config)) * config.chosen_seeds * (2 if config.is_tuned else 1)
    quick = len(QUICK) * EvaluateConfig().chosen_seeds
    return {**_STEPS, "evaluate": _STEPS["evaluate"] * fits // quick}


def _config_of(config: Config, folder: Path, number: int) -> Config:
    tree = config.model_dump()
    tree["run_dir"] = folder
    tree["evaluate"]["splits"] = 1
    for section in ("split", "train", "produce"):
        tree[section]["seed"] += number
    return Config.model_validate(tree)
