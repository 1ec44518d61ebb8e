"""A quick identity of a dataset, to notice that a run folder belongs to another one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ganaug.config import DataConfig
from ganaug.readers.layout import is_clutter
from ganaug.readers.registry import check_exists


def fingerprint(config: DataConfig) -> str:
    """SHA-256 over the names, sizes and modification times of the files of all sources.

    Nothing is opened, so that it takes seconds on a million files; where the source lies does
    not count, so that it may be moved. Of a table only the table itself counts.

    Raises:
        PathNotFoundError: A path does not exist.
    """
    digest = hashlib.sha256()
    if config.path is None:
        digest.update(b"scikit-learn digits")
    else:
        check_exists(config.path, "dataset")
        _add_files(digest, config.path)
    if config.unlabelled is not None:
        check_exists(config.unlabelled, "source of unlabelled images")
        digest.update(b"unlabelled\n")
        _add_files(digest, config.unlabelled)
    return digest.hexdigest()


def _add_files(digest: hashlib._Hash, path: Path) -> None:
    for name, size_bytes, changed_ns in _files(path):
        digest.update(f"{name}\0{size_bytes}\0{changed_ns}\n".encode("utf-8", "surrogateescape"))


def _files(path: Path) -> Iterator[tuple[str, int, int]]:
    if not path.is_dir():
        status = path.stat()
        yield path.name, status.st_size, status.st_mtime_ns
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not is_clutter((name,)))
        for name in sorted(files):
            whole = Path(folder) / name
            if not is_clutter((name,)):
                # Of the link itself, not of what it points to, which may be gone.
                status = whole.lstat()
                yield whole.relative_to(path).as_posix(), status.st_size, status.st_mtime_ns
