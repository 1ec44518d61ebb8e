"""A folder with a folder per class, on disk."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ganaug.config import DataConfig
from ganaug.errors import DatasetError, UnreadableImageError
from ganaug.readers import layout
from ganaug.readers.source import Item, Source, Unreadable, at_random, printable


def list_folder(config: DataConfig) -> Source:
    """List the images of a folder of class folders, optionally under splits; unlabelled, of any folder.

    Raises:
        DatasetError: There is no image, or none in a class folder, or it may not be read.
    """
    assert config.path is not None
    root = config.path
    found, unreadable, ignored = _scan(root)
    if not found:
        raise DatasetError(_nothing_here(root, ignored, unreadable))
    found.sort(key=layout.natural_key)
    try:
        placed, strays = layout.place(found, str(root), has_labels=config.has_labels)
    except DatasetError as error:
        tables = sorted(path.name for path in root.glob("*.csv"))
        hint = f" {root / tables[0]} looks like such a table: give its path." if tables else ""
        raise DatasetError(f"{error}{hint}") from error
    files = [found[one.number] for one in placed]
    limit = file_limit_bytes(config)
    return Source(
        items=[Item(printable(found[one.number]), printable(one.class_name), one.split) for one in placed],
        payloads=at_random(lambda row: read_file(root / files[row], limit)),
        unreadable=unreadable + [Unreadable(printable(stray.path), stray.reason) for stray in strays],
        notes=ignored_note(ignored),
    )


def has_images(root: Path) -> bool:
    """Whether any file below `root` claims to be an image."""
    return any(layout.is_image(name) for _, name in _walk(root, []))


def file_limit_bytes(config: DataConfig) -> int:
    """Largest encoded file that is read: what `max_pixels` take as uncompressed 16-bit RGBA."""
    return config.max_pixels * 8 + 2**20


def read_file(path: Path, limit_bytes: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        UnreadableImageError: It is no regular file, too large, or may not be read.
    """
    try:
        # Not blocking: a named pipe with an image's name would hold the run for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImageError("is not a regular file")
            if status.st_size > limit_bytes:
                raise UnreadableImageError(too_large(status.st_size, limit_bytes))
            return file.read(limit_bytes)
    except OSError as error:
        raise UnreadableImageError(explain(error)) from error


def too_large(size_bytes: int, limit_bytes: int) -> str:
    """The reason for leaving out a file that is larger than an image can be."""
    return f"has {size_bytes:,} bytes, more than an image of data.max_pixels can have ({limit_bytes:,})"


def explain(error: OSError) -> str:
    """An operating system's refusal in words."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "may not be read: no permission"
    if error.errno == errno.ENOENT:
        return "does not exist"
    return f"cannot be read: {error.strerror or error}"


def ignored_note(ignored: Counter[str]) -> list[str]:
    """One line on the files that are not images, if there are any."""
    if not ignored:
        return []
    kinds = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in ignored.most_common(5))
    return [f"{ignored.total()} files that are not images were ignored ({kinds})"]


def link_refusal(path: Path, root: Path) -> str | None:
    """Why a symbolic link is not followed; None for one that may be."""
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(root)):
        return f"is a link out of the data folder, to {printable(str(target))}; copy the file instead"
    if target.is_dir():
        return "is a link to a folder, which is not followed; move the folder here instead"
    return None


def _scan(root: Path) -> tuple[list[str], list[Unreadable], Counter[str]]:
    """All image files below `root` (with /), what cannot be listed, and suffixes of the rest."""
    found: list[str] = []
    unreadable: list[Unreadable] = []
    ignored: Counter[str] = Counter()
    for entry, name in _walk(root, unreadable):
        if entry.is_symlink():
            refusal = link_refusal(Path(entry.path), root)
            if refusal is not None:
                unreadable.append(Unreadable(printable(name), refusal))
                continue
        if not layout.is_image(name):
            ignored[Path(name).suffix.lower()] += 1
        else:
            found.append(name)
    return found, unreadable, ignored


def _walk(root: Path, unreadable: list[Unreadable]) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Every file and link below `root` that is not clutter; an explicit stack, for deep trees."""
    stack = [""]
    while stack:
        prefix = stack.pop()
        try:
            with os.scandir(root / prefix) as entries:
                here = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not prefix:
                raise DatasetError(f"the folder {root} {explain(error)}") from error
            unreadable.append(Unreadable(printable(prefix), f"the folder {explain(error)}"))
            continue
        for entry in here:
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            if layout.is_clutter((entry.name,)):
                continue
            if entry.is_dir(follow_symlinks=False):
                stack.append(name)
            else:
                yield entry, name


def _nothing_here(root: Path, ignored: Counter[str], unreadable: Sequence[Unreadable]) -> str:
    kinds = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in ignored.most_common(5))
    refused = "; ".join(f"{one.path} {one.reason}" for one in unreadable[:3])
    holds = f" It holds other files: {kinds}." if kinds else ""
    holds += f" Left out: {refused}." if refused else ""
    return (
        f"{root} holds no image files.{holds} A dataset is a folder per class (for unlabelled images: any "
        "folder) with PNG, JPEG, BMP, GIF, TIFF, WebP or PPM images, or Parquet files with an image column."
    )
