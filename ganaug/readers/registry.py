"""Which reader a path gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ganaug.config import DataConfig
from ganaug.errors import DatasetError, PathNotFoundError
from ganaug.readers.archive import list_tar, list_zip
from ganaug.readers.arrays import list_digits, list_npz
from ganaug.readers.folder import has_images, list_folder
from ganaug.readers.image_parquet import list_parquet, list_parquet_folder, parquet_files
from ganaug.readers.source import Source
from ganaug.readers.table import list_csv

READERS: Mapping[str, Callable[[DataConfig], Source]] = {
    ".zip": list_zip,
    ".tar": list_tar,
    ".tar.gz": list_tar,
    ".tgz": list_tar,
    ".tar.bz2": list_tar,
    ".tbz2": list_tar,
    ".tar.xz": list_tar,
    ".txz": list_tar,
    ".csv": list_csv,
    ".tsv": list_csv,
    ".parquet": list_parquet,
    ".npz": list_npz,
}
"""A new kind of file is one function and one entry here."""


def list_source(config: DataConfig) -> Source:
    """List the images of whatever `config.path` is; nothing means the bundled digits.

    Raises:
        PathNotFoundError: It does not exist.
        DatasetError: It is of no kind that is read, or cannot be listed.
    """
    path = config.path
    if path is None:
        return list_digits(config)
    check_exists(path, "dataset" if config.has_labels else "source of unlabelled images")
    if path.is_dir():
        return list_parquet_folder(config) if _is_parquet_folder(path) else list_folder(config)
    if not path.is_file():
        raise DatasetError(f"{path} is neither a folder nor a plain file")
    name = path.name.lower()
    for suffix, reader in READERS.items():
        if name.endswith(suffix):
            return reader(config)
    raise DatasetError(
        f"{path.name!r} is of no kind that is read. A dataset is a folder with a folder per class, or a file "
        f"that ends in {', '.join(READERS)}."
    )


def check_exists(path: Path, what: str) -> None:
    """Refuse a path that is not there; `what` says for what it was given.

    Raises:
        PathNotFoundError: It does not exist.
        DatasetError: A folder on the way may not be searched.
    """
    try:
        path.stat()
    except PermissionError as error:
        raise DatasetError(f"{path} may not be read: no permission for a folder on the way") from error
    except OSError as error:
        raise PathNotFoundError(path, what) from error


def _is_parquet_folder(folder: Path) -> bool:
    """Parquet files and no folders of images beside them."""
    return bool(parquet_files(folder)) and not has_images(folder)
