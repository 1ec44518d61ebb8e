"""The registry of formats."""

from __future__ import annotations

from ganaug.formats.container import Format
from ganaug.formats.folder import FOLDER
from ganaug.formats.npz import NPZ
from ganaug.formats.parquet import PARQUET
from ganaug.formats.webdataset import WEBDATASET

FORMATS: dict[str, Format] = {
    "parquet": PARQUET,
    "webdataset": WEBDATASET,
    "npz": NPZ,
    "folder": FOLDER,
}
"""Every format by its name in the settings."""
