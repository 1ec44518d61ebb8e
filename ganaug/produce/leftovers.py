"""What a larger or another production left: shards that are not wanted, files that no manifest names."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ganaug.formats.container import DATA
from ganaug.places import Place
from ganaug.produce import manifest


@dataclass(frozen=True)
class Mine:
    """What one part has to do with: a class, and each `parts`-th unit of it.

    Attributes:
        prefix: What the names of the class's shards begin with.
        part: Which part, from 0.
        parts: Of how many.
        shards: Names of the shards that are wanted, and how many files each has.
    """

    prefix: str
    part: int
    parts: int
    shards: Mapping[str, int]

    def has(self, unit: int) -> bool:
        """Whether a unit is one of this part's."""
        return unit % self.parts == self.part


def drop_shards(place: Place, pieces: Collection[str], mine: Mine) -> None:
    """Remove shards of a class and part that are not wanted.

    Args:
        place: Where they are.
        pieces: Names of the files of the manifest.
        mine: The class, the part and what is wanted.
    """
    for file in pieces:
        name = file.removesuffix(".parquet")
        number = name.removeprefix(mine.prefix)
        is_of_class = name != number and number.isdecimal()
        if is_of_class and mine.has(int(number)) and name not in mine.shards:
            remove_shard(place, name)


def drop_unnamed(place: Place, folder: str, shard_images: int, mine: Mine) -> None:
    """Remove files of a class and part that no manifest names.

    Args:
        place: Where they are.
        folder: The folder of the class's files: `data`, or one of its own with a file per image.
        shard_images: Images of a unit.
        mine: The class, the part and what is wanted.
    """
    is_per_image = folder != DATA
    found: dict[str, list[str]] = {}
    for file in place.names(folder):
        stem = file.rpartition(".")[0]
        number = stem if is_per_image else stem.removeprefix(mine.prefix)
        if not number.isdecimal() or not (is_per_image or stem.startswith(mine.prefix)):
            continue
        unit = int(number) // shard_images if is_per_image else int(number)
        if mine.has(unit):
            found.setdefault(f"{mine.prefix}{unit:05d}", []).append(f"{folder}/{file}")
    for name, files in found.items():
        # As many as were written are those that were written.
        if len(files) > mine.shards.get(name, 0):
            for file in set(files) - _files(place, name):
                place.remove(file)


def remove_shard(place: Place, name: str) -> None:
    """Remove a shard's files and its piece; the piece last, by which a killed call finds the rest."""
    for file in _files(place, name):
        place.remove(file)
    place.remove(f"{manifest.FOLDER}/{name}.parquet")


def _files(place: Place, name: str) -> set[str]:
    """Files of a shard, as its piece of the manifest names them."""
    with contextlib.suppress(OSError):
        found = manifest.read_piece(place.read(f"{manifest.FOLDER}/{name}.parquet"), ["file"])
        if found is not None:
            return {file for file in found[1].column("file").to_pylist() if file is not None}
    return set()
