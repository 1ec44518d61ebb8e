"""A stream of labelled batches: by position, so that any batch can be read on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ganaug.card import ModelCard
from ganaug.errors import SettingsError

if TYPE_CHECKING:
    from ganaug.dataset import ClassIds, Images


def stream(
    sample_at: Callable[..., Images],
    card: ModelCard,
    batch_size: int,
    classes: str | Sequence[str] | Mapping[str, float],
    *,
    seed: int,
    start: int,
    batches: int | None,
    part: int,
    parts: int,
    truncation: float,
) -> Iterator[tuple[Images, ClassIds]]:
    """What `Generator.stream` gives, where the arguments are explained.

    Raises:
        UnknownClassError: A class that the model cannot make.
        SettingsError: A number or share that cannot be used.
    """
    shares = _shares(card, classes)
    problems = []
    if batch_size < 1 or start < 0 or (batches is not None and batches < 0):
        problems.append(
            f"stream: batch_size {batch_size}, start {start}, batches {batches}; batch_size is at least 1, "
            "the others at least 0"
        )
    if not 0 <= part < parts:
        problems.append(f"stream: part {part} of {parts}; part goes from 0 to parts - 1")
    if problems:
        raise SettingsError(problems)

    # Checked when it is called, not at the first batch.
    def made() -> Iterator[tuple[Images, ClassIds]]:
        for number in islice(count(start + part, parts), batches):
            names = _draw_names(shares, seed, number, batch_size)
            where = np.arange(number * batch_size, (number + 1) * batch_size)
            images = sample_at(names, where, seed=seed, truncation=truncation)
            yield images, np.array([card.class_id(name) for name in names], np.int64)

    return made()


def _shares(card: ModelCard, classes: str | Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    if isinstance(classes, str):
        classes = [classes]
    shares = dict(classes) if isinstance(classes, Mapping) else dict.fromkeys(classes, 1.0)
    for name in shares:
        card.graph_for(name)
    values = list(shares.values())
    if not values or not np.isfinite(values).all() or min(values) < 0 or sum(values) <= 0:
        raise SettingsError([f"stream: classes {shares}; wanted are one class or more, with shares above 0"])
    return shares


def _draw_names(shares: Mapping[str, float], seed: int, number: int, size: int) -> list[str]:
    rng = np.random.default_rng([seed, number])
    weights: npt.NDArray[np.float64] = np.fromiter(shares.values(), np.float64)
    names = list(shares)
    return [names[row] for row in rng.choice(len(names), size, p=weights / weights.sum())]
