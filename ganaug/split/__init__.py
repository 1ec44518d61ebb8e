"""The split: which real images train, and which are locked away to test.

Images that belong together (one photograph, one burst, copies) stand on one side. The test split
is fixed before anything is learnt, and `check_lock` tells whether it was changed since.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ganaug.config import SplitConfig
from ganaug.dataset import Images, LabelledImages
from ganaug.errors import DatasetError, RunFolderError, SettingsError
from ganaug.progress import Progress, silent
from ganaug.split.assign import TEST, TRAIN, UNUSED, Labels, assign_groups
from ganaug.split.carried import Carried, carry
from ganaug.split.duplicates import Duplicates, components, find_duplicates, join_equal, large_sets
from ganaug.split.likeness import Rows
from ganaug.split.name_groups import NameGroups, names_group
from ganaug.split.unlabelled import sift_unlabelled

__all__ = ["Split", "check_lock", "load_split", "make_split", "save_split", "sift_unlabelled"]

SPLIT_FILE = "split.parquet"
LOCK_FILE = "split.json"
_SHOWN = 5
_MANY = 20
"""Of fewer images the share that is tested is rounded too much to tell anything."""


@dataclass(frozen=True)
class Split:
    """Real images, each with its side.

    Attributes:
        data: The images; `split` is `train`, `test` or `unused` for every row, and `group` is the
            number of the group that no side may cut.
        summary: What was found and done, for the run's records.
        warnings: What the user should know, in sentences.
        near_duplicate_sets: (N,) int64 number of each image's set of duplicates; -1 for none.
    """

    data: LabelledImages
    summary: dict[str, Any]
    warnings: list[str]
    near_duplicate_sets: Rows = field(default_factory=lambda: np.empty(0, np.int64))


def make_split(
    data: LabelledImages,
    config: SplitConfig,
    *,
    explicit_groups: bool,
    previews: Images | None,
    carried: Carried | None = None,
    progress: Progress = silent,
) -> Split:
    """Give every image a side: the data's own test split is kept, else one is made.

    Args:
        data: The images; `split` as the source says (`train`, `val`, `test` or empty).
        config: Settings of the split.
        explicit_groups: Whether `group` was given by the user; then file names are not asked.
        previews: (N, 96, 96) uint8 grey, larger than the images, for the near-duplicate search.
        carried: An earlier split of data that these have grown from: what was tested on then is never
            trained on. A test split that the data bring themselves is kept as they bring it.
        progress: Told of the images compared.

    Raises:
        DatasetError: Fewer than two classes, or a class that cannot stand on both sides.
        SettingsError: `keep` names a class that does not exist.
    """
    _check_settings(data, config)
    _check_classes(data)
    index, warnings = data.index.copy(), list[str]()
    given = index["group"].fillna("").astype(str).to_numpy(object)
    names = _name_groups(data, config, explicit_groups)
    known = given if explicit_groups else names.groups.astype(object)
    shapes = index[["height", "width"]].to_numpy(np.int64) if {"height", "width"} <= {*index} else None
    found = find_duplicates(
        data.images,
        data.class_ids,
        index["sha256"].to_numpy(object),
        previews=previews,
        shapes_px=shapes,
        near=config.near_duplicates,
        progress=progress,
    )
    warnings += _mixed_copies(found, data) + _large_sets(found, data)
    side, own_warnings = _own_sides(index["split"].fillna("").astype(str).to_numpy(object))
    warnings += own_warnings
    groups = _groups(index, found, known)
    leaks = 0
    if (side == TEST).any():
        # Groups guessed from names do not take the user's own training images away.
        firm = groups if explicit_groups else _groups(index, found, np.full(len(index), "", object))
        is_leak = (side != TEST) & np.isin(firm, firm[side == TEST])
        side[is_leak], leaks = UNUSED, int(is_leak.sum())
        if leaks:
            warnings.append(_leak_warning(leaks, side))
        if names.adopted:
            warnings += _shared_names(groups, side)
    elif carried is not None:
        side, leaks, own_warnings = carry(carried, data, groups, config)
        warnings += own_warnings
    else:
        side = _made_sides(data, groups, config)
        warnings += _few_to_test(data, side, config, is_guessed=names.adopted)
    _check_sides(data, side)
    cut = _cut_training(data, side, config, carried)
    index["split"], index["group"] = side.astype(str), groups.astype(str)
    summary = _summary(data, side, groups, found, names, explicit_groups) | {
        "leaks_removed": leaks,
        "cut_by_keep_or_long_tail": cut,
    }
    parted = LabelledImages(data.images, index, data.class_names)
    return Split(parted, summary, warnings, found.sets)


def _check_settings(data: LabelledImages, config: SplitConfig) -> None:
    unknown = sorted(set(config.keep) - set(data.class_names))
    if unknown:
        raise SettingsError(
            [
                f"split.keep: no class is named {name!r}; known are {list(data.class_names)}"
                for name in unknown
            ]
        )


def _check_classes(data: LabelledImages) -> None:
    counts = data.counts()
    present = [name for name, count in zip(data.class_names, counts, strict=True) if count]
    if len(present) < 2:
        raise DatasetError(
            f"the images are all of {len(present)} class ({', '.join(present) or 'none'}); balancing and "
            "measuring need at least two. Check the folder that holds the class folders, or the label column."
        )
    single = [name for name, count in zip(data.class_names, counts, strict=True) if count == 1]
    if single:
        raise DatasetError(
            f"{len(single)} class(es) have one image only: {single}. Each class needs at least one image to "
            "train on and another to test on: add images, or leave these classes out."
        )


def _name_groups(data: LabelledImages, config: SplitConfig, explicit_groups: bool) -> NameGroups:
    none = np.full(len(data), "")
    if explicit_groups:
        return NameGroups(none, False, "groups are given")
    if not config.group_names:
        return NameGroups(none, False, "switched off (split.group_names)")
    paths = data.index["path"].astype(str).tolist()
    return names_group(data.images, paths, data.class_ids, data.class_names, seed=config.seed)


def _mixed_copies(found: Duplicates, data: LabelledImages) -> tuple[str, ...]:
    """A warning when copies of one image carry several labels."""
    is_copy = found.exact >= 0
    labels = pd.Series(data.class_ids[is_copy]).groupby(found.exact[is_copy]).nunique()
    mixed = int((labels > 1).sum())
    return (f"{mixed} image(s) are there several times under different classes",) if mixed else ()


def _large_sets(found: Duplicates, data: LabelledImages) -> tuple[str, ...]:
    """A warning when near-duplicates hang together as much of a class."""
    counts = data.counts()
    large = [
        f"{size:,} of the {counts[class_id]:,} images of {data.class_names[class_id]!r}"
        for _, class_id, size in large_sets(found.sets, data.class_ids)
    ]
    if not large:
        return ()
    return (
        f"near-duplicates hang together: {_listed(large)}. Each such set stays on one side, so that few images of the class "
        "may be left to test on. Look at some of them (`near_duplicate_set` in split/split.parquet). Where they are no "
        "copies: `--split.near-duplicates false`, with `--data.group-pattern` for what does belong together",
    )


def _own_sides(given: Labels) -> tuple[Labels, list[str]]:
    """The sides that the source says; no `test` among them when it says none."""
    side = np.where(np.isin(given, ["test", "val"]), given, TRAIN).astype(object)
    is_val = side == "val"
    if not is_val.any():
        return side, []
    if (side == TEST).any():
        side[is_val] = TRAIN
        return side, [f"{is_val.sum()} validation images join training: folds inside it validate"]
    side[is_val] = TEST
    return side, [f"there is no test split: the validation split ({is_val.sum()} images) is the test split"]


def _groups(index: pd.DataFrame, found: Duplicates, known: Labels) -> Rows:
    """(N,) int64 number of each row's group, the same whatever the order of rows is."""
    same_set = join_equal(np.where(found.sets >= 0, found.sets.astype(str), ""))
    labels = components(len(index), np.concatenate([join_equal(known.astype(str)), same_set]))
    order = np.lexsort([index["sha256"].astype(str), index["path"].astype(str)])
    _, first, groups = np.unique(labels[order], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    canonical = np.empty(len(index), np.int64)
    canonical[order] = rank[groups]
    return canonical


def _leak_warning(leaks: int, side: Labels) -> str:
    return (
        f"{leaks} training image(s) are copies or near-copies of test images, or of their group, and leave "
        f"training ({(side == TRAIN).sum()} stay): scores on the given test split would be flattered"
    )


def _shared_names(groups: Rows, side: Labels) -> list[str]:
    shared = int(((side == TRAIN) & np.isin(groups, groups[side == TEST])).sum())
    if not shared:
        return []
    return [
        f"by their file names {shared} training images seem to be of one group with test images of the given "
        "split; they stay. If the names do tell groups, say so with --data.group-pattern"
    ]


def _made_sides(data: LabelledImages, groups: Rows, config: SplitConfig) -> Labels:
    is_test = assign_groups(groups, data.class_ids, config.test_share, config.seed)
    return np.where(is_test, TEST, TRAIN).astype(object)


def _few_to_test(
    data: LabelledImages, side: Labels, config: SplitConfig, *, is_guessed: bool
) -> tuple[str, ...]:
    """A warning when classes of many images have less than half of what was asked for in the test split."""
    counts = data.counts()
    tested = np.bincount(data.class_ids[side == TEST], minlength=len(counts))
    few = [
        f"{tested[k]:,} of the {counts[k]:,} images of {data.class_names[k]!r}"
        for k in np.flatnonzero((counts >= _MANY) & (tested < counts * config.test_share / 2))
    ]
    if not few:
        return ()
    guess = ", and of file names that seem to tell groups (`--split.group-names false`)" if is_guessed else ""
    return (
        f"few images are left to test on: {_listed(few)}, where `split.test_share` asks for "
        f"{config.test_share:.0%}. Groups stay whole, and these are large (`group` in split/split.parquet): they are "
        f"made of what you name, of near-duplicates (`--split.near-duplicates false`){guess}",
    )


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def _check_sides(data: LabelledImages, side: Labels) -> None:
    """Every class can train and be tested."""
    for part, missing in ((TRAIN, "train on"), (TEST, "test on")):
        has = np.bincount(data.class_ids[side == part], minlength=len(data.class_names))
        lacking = [
            name
            for name, count, total in zip(data.class_names, has, data.counts(), strict=True)
            if count == 0 and total > 0
        ]
        if lacking:
            raise DatasetError(
                f"class(es) {lacking} have no image left to {missing}: all their images are of one group (the "
                "same photograph, burst or copies), or the given split puts them on one side. Add images of "
                "other groups, leave these classes out, or, if the images only look alike, switch the search "
                "off: --split.near-duplicates false --split.group-names false."
            )


def _cut_training(
    data: LabelledImages, side: Labels, config: SplitConfig, carried: Carried | None = None
) -> int:
    """Take images of `keep` and `long_tail` out of training, in place; returns how many."""
    limits = _limits(np.bincount(data.class_ids[side == TRAIN], minlength=len(data.class_names)), config)
    for name, limit in config.keep.items():
        limits[data.class_names.index(name)] = limit
    order = np.lexsort([data.index["sha256"].astype(str), data.index["path"].astype(str)])
    draw = np.empty(len(data))
    draw[order] = np.random.default_rng([config.seed, 1]).random(len(data))
    if carried is not None:
        # Who trained before goes on, so that a class that has not grown is as it was.
        draw += carried.sides_of(data) != TRAIN
    cut = 0
    for class_id, limit in limits.items():
        own = np.flatnonzero((side == TRAIN) & (data.class_ids == class_id))
        gone = own[np.argsort(draw[own])[limit:]]
        side[gone] = UNUSED
        cut += len(gone)
    return cut


def _limits(counts: Rows, config: SplitConfig) -> dict[int, int]:
    if config.long_tail is None:
        return {}
    last = max(1, len(counts) - 1)
    return {k: max(1, int(counts.max() * config.long_tail ** (-k / last))) for k in range(len(counts))}


def _summary(
    data: LabelledImages,
    side: Labels,
    groups: Rows,
    found: Duplicates,
    names: NameGroups,
    explicit_groups: bool,
) -> dict[str, Any]:
    def per_class(part: str) -> dict[str, int]:
        has = np.bincount(data.class_ids[side == part], minlength=len(data.class_names))
        return dict(zip(data.class_names, has.tolist(), strict=True))

    return {
        "train": per_class(TRAIN),
        "test": per_class(TEST),
        "groups": int(groups.max()) + 1,
        "explicit_groups": explicit_groups,
        "duplicate_sets": found.set_count,
        "images_in_duplicate_sets": found.image_count,
        "exact_duplicate_images": int((found.exact >= 0).sum()),
        "near_duplicate_limits": {way: round(limit, 3) for way, limit in found.limits.items()},
        "file_names_group": names.adopted,
        "file_names_reason": names.reason,
    }


def save_split(split: Split, folder: Path) -> None:
    """Write the dataset's index with its sides, `split.parquet` and, last, the lock `split.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    split.data.save(folder)
    index = split.data.index
    table = index[["path", "sha256", "group", "split"]].copy()
    table.insert(2, "class_name", np.array(split.data.class_names, object)[split.data.class_ids])
    table["near_duplicate_set"] = split.near_duplicate_sets
    beside = folder / f"{SPLIT_FILE}.part"
    table.to_parquet(beside, index=False)
    digest = hashlib.sha256(beside.read_bytes()).hexdigest()
    beside.replace(folder / SPLIT_FILE)
    lock = {"sha256": digest, **split.summary, "warnings": split.warnings}
    beside = folder / f"{LOCK_FILE}.part"
    beside.write_text(json.dumps(lock, indent=2, ensure_ascii=False), encoding="utf-8")
    beside.replace(folder / LOCK_FILE)


def check_lock(folder: Path) -> None:
    """Make sure that the split is as it was when it was locked.

    Raises:
        RunFolderError: `split.parquet` or the index was changed, or the lock is missing.
    """
    try:
        lock = json.loads((folder / LOCK_FILE).read_text(encoding="utf-8"))
        found = hashlib.sha256((folder / SPLIT_FILE).read_bytes()).hexdigest()
        expected = lock["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunFolderError(
            f"{folder} has no readable {SPLIT_FILE} and {LOCK_FILE} ({error}); make the split again in a new "
            "run folder."
        ) from error
    table = pd.read_parquet(folder / SPLIT_FILE) if found == expected else None
    index = LabelledImages.load(folder).index
    same = ["path", "sha256", "split"]
    if table is None or not table[same].astype(str).equals(index[same].astype(str)):
        raise RunFolderError(
            f"the test split in {folder} was changed after it was locked (locked {str(expected)[:12]}, found "
            f"{found[:12]}), so scores on it would mean nothing. Restore the folder, or start a new run."
        )


def load_split(folder: Path) -> LabelledImages:
    """The images with their sides, mapped from disk, after the lock was checked.

    Raises:
        RunFolderError: The split was changed after it was locked.
    """
    check_lock(folder)
    return LabelledImages.load(folder)
