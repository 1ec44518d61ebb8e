"""Groups told by file names: `photo7-01.jpg` and `photo7-02.jpg` may be cut from one photograph.

Numbered names are everywhere, and mostly mean nothing (`cat_001.jpg`). So a prefix counts as a
group only when images that share it are measurably more alike than other images of their class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from ganaug.dataset import Images
from ganaug.split.likeness import Floats, Rows, blocks

_NUMBERED = re.compile(r"^(?:(.*)[-_ (\[.])?[A-Za-z]{0,8}\d+[)\]]?$")
_SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "images"})
_MIN_NUMBERED = 0.8
_MIN_PREFIXES = 6
_MIN_ALIKE = 0.25
_PERMUTATIONS = 199
_LARGE_SHARE = 0.5


@dataclass(frozen=True)
class NameGroups:
    """Whether file names group the images.

    Attributes:
        groups: (N,) text; the group of each image, "" for none. All "" when not adopted.
        adopted: Whether names are taken for groups.
        reason: Why, in one sentence.
        alike: Share of the variation inside classes that the prefix explains, in the feature that
            it explains best (intraclass correlation, 0 to 1); None when it was not measured.
    """

    groups: npt.NDArray[np.str_]
    adopted: bool
    reason: str
    alike: float | None = None


def name_prefixes(paths: Sequence[str], class_names: Sequence[str]) -> npt.NDArray[np.str_]:
    """(N,) the part of each file name before its last number, "" for names without a number.

    The folder belongs to it, unless that is the folder of a class or of a split: a photograph
    shows things of several classes.

    Examples:
        >>> name_prefixes(["RBC/photo_7-01.jpg", "RBC/clip3/0001.png", "RBC/cell.png"], ["RBC"]).tolist()
        ['photo_7', 'clip3/', '']
    """
    ignored = _SPLIT_FOLDERS | {name.casefold() for name in class_names}
    prefixes = []
    for path in map(PurePosixPath, paths):
        match = _NUMBERED.match(path.stem)
        folder = path.parent.name
        # A folder at the top is the dataset's own.
        is_own = len(path.parts) > 2 and folder.casefold() not in ignored
        start = f"{path.parent}/" if is_own and match else ""
        own = "/".join(part for part in start.split("/") if part and part.casefold() not in ignored)
        prefixes.append(((own + "/") if own else "") + (match.group(1) or "") if match else "")
    return np.array(prefixes, dtype=str)


def names_group(
    images: Images, paths: Sequence[str], class_ids: Rows, class_names: Sequence[str], *, seed: int = 0
) -> NameGroups:
    """Find out whether file names tell which images belong together.

    Args:
        images: (N, H, W, C) uint8.
        paths: Path of each image inside its source.
        class_ids: (N,) int64.
        class_names: Name of each class id.
        seed: Of the permutation test.
    """
    prefixes = name_prefixes(paths, class_names)
    none = np.full(len(prefixes), "")
    reason = _why_names_cannot_group(prefixes, class_ids)
    if reason:
        return NameGroups(none, False, reason)
    rows = np.flatnonzero(prefixes != "")
    alike, by_chance = _alike(_features(images, rows), prefixes[rows], class_ids[rows], seed)
    is_adopted = alike >= _MIN_ALIKE and alike > by_chance + 0.05
    count = len(np.unique(prefixes[rows]))
    verb = "explains" if is_adopted else "explains only"
    reason = (
        f"the part of the file name before its last number ({count} different) {verb} "
        f"{alike:.0%} of how images of one class differ (by chance up to {by_chance:.0%}; "
        f"{_MIN_ALIKE:.0%} is asked for)"
    )
    return NameGroups(prefixes if is_adopted else none, bool(is_adopted), reason, float(alike))


def _why_names_cannot_group(prefixes: npt.NDArray[np.str_], class_ids: Rows) -> str:
    """The reason why prefixes are no groups on their face, or ""."""
    is_numbered = prefixes != ""
    if is_numbered.mean() < _MIN_NUMBERED:
        return "few file names are a prefix and a number"
    names, sizes = np.unique(prefixes[is_numbered], return_counts=True)
    if len(names) < _MIN_PREFIXES:
        return f"file names have only {len(names)} different prefixes"
    if sizes[sizes > 1].sum() < 0.5 * is_numbered.sum():
        return "most images have a file-name prefix of their own"
    for class_id in np.unique(class_ids):
        own = prefixes[(class_ids == class_id) & is_numbered]
        if len(own) > 3 and np.unique(own, return_counts=True)[1].max() > _LARGE_SHARE * len(own):
            return "one file-name prefix holds most of a class"
    return ""


def _features(images: Images, rows: Rows) -> Floats:
    """(n, 9 or 5) light and colour: mean and spread of the image, mean and spread of its border."""
    parts = []
    for block in blocks(len(rows), 2048):
        batch = np.asarray(images[rows[block]], np.float32)
        height, width = batch.shape[1:3]
        edge = np.zeros((height, width), bool)
        ring = max(1, min(height, width) // 10)
        edge[:ring], edge[-ring:], edge[:, :ring], edge[:, -ring:] = True, True, True, True
        border = batch[:, edge]
        whole = batch.reshape(len(batch), -1, batch.shape[-1])
        spread = np.stack([whole.std(axis=(1, 2)), border.std(axis=(1, 2))], axis=1)
        sharp = np.abs(np.diff(batch.mean(axis=3), axis=2)).mean(axis=(1, 2))[:, None]
        # The median of the border is the background's, whatever touches the border.
        parts.append(np.concatenate([whole.mean(axis=1), np.median(border, axis=1), spread, sharp], axis=1))
    return np.concatenate(parts).astype(np.float32)


def _alike(
    features: Floats, prefixes: npt.NDArray[np.str_], class_ids: Rows, seed: int
) -> tuple[float, float]:
    """Largest intraclass correlation over the features, and the largest under permutation."""
    group = np.unique(prefixes, return_inverse=True)[1]
    # Prefix and class together: images are compared inside their class only.
    cell = np.unique(group * (class_ids.max() + 1) + class_ids, return_inverse=True)[1]
    centred = features.astype(np.float64)
    for class_id in np.unique(class_ids):
        own = centred[class_ids == class_id]
        # In units of the class's own spread, so that a class of many colours does not drown others.
        centred[class_ids == class_id] = (own - own.mean(axis=0)) / (own.std(axis=0) + 1e-6)
    found = _intraclass(centred, cell)
    rng = np.random.default_rng(seed)
    chance = 0.0
    by_class = [np.flatnonzero(class_ids == class_id) for class_id in np.unique(class_ids)]
    for _ in range(_PERMUTATIONS if len(cell) < 20_000 else 19):
        shuffled = cell.copy()
        for rows in by_class:
            shuffled[rows] = rng.permutation(cell[rows])
        chance = max(chance, _intraclass(centred, shuffled))
    return found, chance


def _intraclass(values: npt.NDArray[np.float64], cell: Rows) -> float:
    """Largest intraclass correlation ICC(1) of (n, F) values over cells of unequal size.

    Source:
        Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420, with the usual mean cell size
        for unequal cells (Donner 1986, doi:10.2307/1403259).
    """
    sizes = np.bincount(cell).astype(np.float64)
    cells, count = len(sizes), len(cell)
    if cells >= count or cells < 2:
        return 0.0
    means = np.stack([np.bincount(cell, column) for column in values.T], axis=1) / sizes[:, None]
    between = (sizes[:, None] * (means - values.mean(axis=0)) ** 2).sum(axis=0) / (cells - 1)
    within = ((values - means[cell]) ** 2).sum(axis=0) / (count - cells)
    typical = (count - (sizes**2).sum() / count) / (cells - 1)
    share = (between - within) / (between + (typical - 1) * within + 1e-9)
    return float(share.max())
