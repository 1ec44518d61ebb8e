"""Reads real images, whatever they lie in, into one array on disk and one index.

`read` and `read_unlabelled` are the whole face: they list the source (one small module per kind,
chosen by `registry`), settle size and channels, decode in threads and stream into `images.npy`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ganaug.config import DataConfig
from ganaug.dataset import IMAGES_FILE, Images, LabelledImages
from ganaug.errors import DatasetError
from ganaug.progress import Progress, silent
from ganaug.readers import checks, decode, stream
from ganaug.readers.groups import groups_of
from ganaug.readers.identity import fingerprint
from ganaug.readers.layout import natural_key
from ganaug.readers.registry import list_source
from ganaug.readers.source import Item, Source, Unreadable
from ganaug.readers.stream import copy_rows
from ganaug.readers.survey import Survey, survey

__all__ = ["PREVIEWS_FILE", "Reading", "Unreadable", "copy_rows", "fingerprint", "read", "read_unlabelled"]

PREVIEWS_FILE = "previews.npy"


@dataclass(frozen=True)
class Reading:
    """A dataset that was read.

    Attributes:
        data: The images, mapped from `images.npy`. Its index has `path` (inside the source),
            `class_id`, `split` (train, val, test or empty, as the source says), `group` (empty
            when unknown), `sha256` (of the encoded file; of the pixels for arrays), `height`
            and `width` (original px, upright).
        unreadable: What was left out, and why.
        notes: What its owner should know: how sizes were settled, what was ignored.
        target: What every image was brought to.
        previews: (N, 96, 96) uint8 grey, stretched, mapped from `previews.npy`; None unless
            they were asked for and the originals are mostly larger than 48 px.
    """

    data: LabelledImages
    unreadable: tuple[Unreadable, ...]
    notes: tuple[str, ...]
    target: decode.Target
    previews: Images | None


def read(config: DataConfig, folder: Path, *, previews: bool, progress: Progress = silent) -> Reading:
    """Read a dataset into `folder`; memory does not grow with its pixels.

    Rows are in natural order of the paths (tables: of the rows), whatever the container, the
    threads or the order inside an archive, so the same images give the same dataset.

    Args:
        config: Where the images are and how they are read.
        folder: Gets `images.npy`, and `previews.npy` if wanted; made if need be.
        previews: Whether grey previews are wanted for the search of near-duplicates.
        progress: Hears of the images read.

    Raises:
        PathNotFoundError: The path does not exist.
        UnsafeArchiveError: An archive that could do harm.
        TooManyUnreadableError: More than `max_bad_share` of the images, or all, are unreadable.
        DatasetError: It cannot be read or used as it is; the message says what to do.
    """
    return _read(config, folder, progress, previews=previews)


def read_unlabelled(config: DataConfig, folder: Path, like: Reading, progress: Progress = silent) -> Reading:
    """Read `config.unlabelled` as `read` does, whether or not the source has labels.

    Args:
        config: As for the labelled images; columns of labels, splits and groups are not looked for.
        folder: As for `read`; another one than that of `like`.
        like: The labelled images, whose size and channels these are brought to.
        progress: Hears of the images read.

    Returns:
        The images as one class, named `unlabelled`; with previews when `like` has some.

    Raises:
        PathNotFoundError, UnsafeArchiveError, TooManyUnreadableError, DatasetError: As `read`.
    """
    own = config.model_copy(update={"path": config.unlabelled, "label_column": None, "group_pattern": None})
    return _read(own, folder, progress, like=like.target)


def _read(
    config: DataConfig,
    folder: Path,
    progress: Progress,
    *,
    previews: bool = False,
    like: decode.Target | None = None,
) -> Reading:
    folder.mkdir(parents=True, exist_ok=True)
    with list_source(config) as source:
        total = len(source.items) + len(source.unreadable)
        if total == 0:
            raise DatasetError(f"{config.path} holds no images: its tables or arrays have no rows")
        checks.check_unreadable(source.unreadable, total, config)
        checks.check_classes(source.items, config)
        groups, notes = groups_of(source.items, config)
        with decode.pillow_set_up(config.max_pixels):
            settled, rows = _decode(source, config, folder, previews, like, progress)
    unreadable = source.unreadable + [
        Unreadable(source.items[row].path, rows.reasons[row]) for row in sorted(rows.reasons)
    ]
    try:
        checks.check_unreadable(unreadable, total, config)
        items = [item for row, item in enumerate(source.items) if row not in rows.reasons]
        notes += checks.check_classes(items, config)
    except DatasetError:
        for name in (IMAGES_FILE, PREVIEWS_FILE):
            (folder / name).unlink(missing_ok=True)
        raise
    class_names = _class_names(items, source.class_names)
    notes += [f"no image of class {name!r} can be read" for name in _lost(source.items, class_names)]
    index = _index(source, rows, groups, class_names)
    # Resolved, as LabelledImages.save compares it with its target.
    images = np.load((folder / IMAGES_FILE).resolve(), mmap_mode="r", allow_pickle=False)
    return Reading(
        LabelledImages(images, index, class_names),
        tuple(unreadable),
        (*source.notes, *settled.notes, *notes),
        settled.target,
        np.load(folder / PREVIEWS_FILE, mmap_mode="r", allow_pickle=False)
        if settled.target.has_preview
        else None,
    )


def _decode(
    source: Source,
    config: DataConfig,
    folder: Path,
    previews: bool,
    like: decode.Target | None,
    progress: Progress,
) -> tuple[Survey, stream.Rows]:
    """Settle the target on a sample; when a later image contradicts it, on all, and begin again."""
    if like is not None:
        settled = Survey(like, expected_size=None, expects_grey=False, notes=())
        return settled, _decode_to(source, settled, config, folder, progress)
    settled = survey(source, config, previews=previews, whole=False)
    try:
        return settled, _decode_to(source, settled, config, folder, progress)
    except stream.MisledError:
        # A damaged image may still decode to something else than its header says: brought to the target too.
        settled = replace(
            survey(source, config, previews=previews, whole=True), expected_size=None, expects_grey=False
        )
        return settled, _decode_to(source, settled, config, folder, progress)


def _decode_to(
    source: Source, settled: Survey, config: DataConfig, folder: Path, progress: Progress
) -> stream.Rows:
    target, count = settled.target, len(source.items)
    (folder / PREVIEWS_FILE).unlink(missing_ok=True)
    with contextlib.ExitStack() as files:
        shape = (target.height, target.width, target.channels)
        images = files.enter_context(stream.RowsFile(folder / IMAGES_FILE, count, shape))
        previews = None
        if target.has_preview:
            side = decode.PREVIEW_PX
            previews = files.enter_context(stream.RowsFile(folder / PREVIEWS_FILE, count, (side, side)))
        rows = stream.decode_all(source, settled, images, previews, config.workers, progress)
        for file in (images, previews):
            if file is not None:
                file.keep(rows.is_read)
    return rows


def _lost(listed: list[Item], class_names: tuple[str, ...]) -> list[str]:
    return sorted({item.class_name for item in listed}.difference(class_names))


def _class_names(items: list[Item], given: tuple[str, ...] | None) -> tuple[str, ...]:
    """Names of the classes that have images: in the order given, else by value, else naturally."""
    found = {item.class_name for item in items}
    if given is not None:
        named = tuple(dict.fromkeys(name for name in given if name in found))
        return named + tuple(sorted(found.difference(named), key=natural_key))
    try:
        return tuple(sorted(found, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(found, key=natural_key))


def _index(
    source: Source, rows: stream.Rows, groups: list[str], class_names: tuple[str, ...]
) -> pd.DataFrame:
    kept: npt.NDArray[np.int64] = np.flatnonzero(rows.is_read)
    items = [source.items[row] for row in kept]
    ids = {name: class_id for class_id, name in enumerate(class_names)}
    return pd.DataFrame(
        {
            "path": [item.path for item in items],
            "class_id": np.array([ids[item.class_name] for item in items], np.int64),
            "split": [item.split for item in items],
            "group": [groups[row] for row in kept],
            "sha256": [rows.sha256[row] for row in kept],
            "height": rows.height[kept],
            "width": rows.width[kept],
        }
    )
