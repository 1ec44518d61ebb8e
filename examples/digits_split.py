"""The real digits, split as `ganaug run` splits them: the generators that ship have seen the training images alone."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from ganaug import config, readers
from ganaug.dataset import LabelledImages
from ganaug.split import make_split

RARE = ("3", "5", "8")


def split_digits() -> tuple[LabelledImages, LabelledImages]:
    """Training images, of which the three rare classes have five each, and held-out ones."""
    settings = config.load()
    with TemporaryDirectory() as folder:
        near = settings.split.near_duplicates
        reading = readers.read(settings.data, Path(folder), previews=near)
        split = make_split(reading.data, settings.split, explicit_groups=False, previews=reading.previews)
        return split.data.part("train"), split.data.part("test")
