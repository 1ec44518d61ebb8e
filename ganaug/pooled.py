"""Several splits of the same images put together, as if each had been measured in one evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ganaug.dataset import LabelledImages

Floats = npt.NDArray[np.float32]
PREDICTIONS_FILE = "predictions.npz"
SCORES_FILE, PER_CLASS_FILE = "scores.parquet", "per_class.parquet"


@dataclass(frozen=True)
class SplitResult:
    """What the arms gave on the test images of one split.

    Attributes:
        index: Of its real test images: `class_id`, `path` and `group` of each.
        probability: (S, N, K) per arm, one row per seed.
        scores: As `evaluate.Arena.scores`.
        per_class: As `evaluate.Arena.per_class`.
        called: For each arm that was asked for the name that it has here: another one where it is on the
            best baseline, which each split chooses for itself. Empty where all have the names asked for.
    """

    index: pd.DataFrame
    probability: Mapping[str, Floats]
    scores: pd.DataFrame
    per_class: pd.DataFrame
    called: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, index: pd.DataFrame) -> SplitResult:
        """Read a finished `evaluate` folder of a split with these test images; arms under the names asked for."""
        with np.load(folder / PREDICTIONS_FILE, allow_pickle=False) as stored:
            fits = stored["probability"].astype(np.float32)
            probability = dict(zip(map(str, stored["arms"]), fits, strict=True))
            names = [stored[name] for name in ("asked", "called") if name in stored]
        scores, per_class = (pd.read_parquet(folder / name) for name in (SCORES_FILE, PER_CLASS_FILE))
        if not names:  # written before there was a best baseline
            return cls(index, probability, scores, per_class)
        called = {str(asked): str(own) for asked, own in zip(*names, strict=True)}
        fits_of = {asked: probability[own] for asked, own in called.items()}
        return cls(index, fits_of, _under(called, scores), _under(called, per_class))

    def save(self, folder: Path) -> None:
        """Write `predictions.npz`, of which `load` reads what it needs."""
        called = self.called or {name: name for name in self.probability}
        fits = list(self.probability.values())
        np.savez_compressed(
            folder / PREDICTIONS_FILE,
            probability=np.stack(fits).astype(np.float16),
            labels=self.index["class_id"].to_numpy(np.int64),
            arms=np.array(list(self.probability)),
            seeds=np.arange(len(fits[0])),
            asked=np.array(list(called)),
            called=np.array(list(called.values())),
        )


def _under(called: Mapping[str, str], table: pd.DataFrame) -> pd.DataFrame:
    """A table of arms under the names that were asked for, in their order."""
    of = dict(list(table.groupby("arm")))
    return pd.concat([of[own].assign(arm=asked) for asked, own in called.items()], ignore_index=True)


@dataclass(frozen=True)
class Pooled:
    """All splits together.

    Attributes:
        test: The test images of all splits, one after the other, with `split_number` in the index and
            without their pixels, of which those of many splits would fill the memory.
        probability: (S, N, K) per arm.
        notes: What had to be done to put them together, in sentences.
    """

    test: LabelledImages
    probability: dict[str, Floats]
    notes: tuple[str, ...]


def pool(results: Sequence[SplitResult], class_names: tuple[str, ...], without: Mapping[str, str]) -> Pooled:
    """Put splits together, arm by arm.

    Where a split kept no synthetic images, an arm that wants them trained nothing there: it counts
    with what it is without them, which is what its user would have had.

    Args:
        results: One for each split.
        class_names: Name of each class id.
        without: For each arm with synthetic images the name of the arm that it is without them.
    """
    names = list(dict.fromkeys(name for one in results for name in one.probability))
    probability, notes = dict[str, Floats](), []
    for name in names:
        stands_in = without.get(name, name)
        found = [one.probability.get(name, one.probability.get(stands_in)) for one in results]
        present = [one for one in found if one is not None]
        if len(present) == len(results):
            probability[name] = np.concatenate(present, axis=1)
        missing = sum(name not in one.probability for one in results)
        if missing:
            how = f"counts there as {stands_in!r}" if name in probability else "is left out"
            notes.append(f"{name!r} had no synthetic images in {missing} of {len(results)} splits and {how}.")
    index = pd.concat(
        [one.index.assign(split_number=number) for number, one in enumerate(results)], ignore_index=True
    )
    blank = np.broadcast_to(np.uint8(0), (len(index), 1, 1, 1))
    return Pooled(LabelledImages(blank, index, class_names), probability, tuple(notes))


def tables(results: Sequence[SplitResult]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores and the scores by class of all splits, with the `split` that each row is of."""

    def joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        numbered = [part.drop(columns="split", errors="ignore") for part in parts]
        for number, part in enumerate(numbered):
            part.insert(0, "split", number)
        return pd.concat(numbered, ignore_index=True)

    return joined([one.scores for one in results]), joined([one.per_class for one in results])
