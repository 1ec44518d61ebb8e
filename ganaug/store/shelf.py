"""Where a store lies: a folder of this machine, or an address. Both keep the same promises.

A version is seen whole or not at all, its number is given once, and a pointer that somebody else
changed in between is read again before it is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ganaug.card import ModelCard
from ganaug.errors import ModelError
from ganaug.fetch import is_address
from ganaug.store.names import POINTER_FILE
from ganaug.store.pointer import MAX_POINTER_BYTES, Pointer, read_pointer

STALE_S = 24 * 3600.0
"""What a publisher left that did nothing for so long is that of one that was killed."""


@dataclass(frozen=True)
class Leftover:
    """What a killed publisher left of a model; no reader sees it.

    Attributes:
        path: Where it lies, below the model.
        bytes: Its size.
    """

    path: str
    bytes: int


class Shelf(Protocol):
    """All models of a store; files are named below their model, with `/` between."""

    @property
    def address(self) -> str:
        """What a user calls it."""

    def names(self) -> list[str]:
        """Models that have a version, sorted."""

    def versions(self, name: str) -> list[int]:
        """Versions of a model that are whole, ascending."""

    def read(self, name: str, file: str, most: int) -> bytes | None:
        """The first `most` bytes of a file; None when there is none.

        Raises:
            ModelError: It cannot be read.
        """

    def write(self, name: str, file: str, content: bytes) -> None:
        """Write a file that a reader sees whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """

    def files(self, name: str, folder: str) -> list[str]:
        """Names of the files right in a folder of a model, sorted."""

    def load_card(self, name: str, version: int) -> ModelCard:
        """The card of a version.

        Raises:
            ModelError: It is missing or damaged.
        """

    def check_graphs(self, name: str, version: int, card: ModelCard, *, hashes: bool) -> bool:
        """Check a version's graphs.

        Returns:
            Whether their hashes were checked: of graphs elsewhere only where that is asked for, since
            it reads them; else their sizes alone.

        Raises:
            ModelError: One is missing, damaged or swapped.
        """

    def add(
        self,
        name: str,
        card: ModelCard,
        fill: Callable[[Path], None],
        finish: Callable[[Path, ModelCard], None],
    ) -> int:
        """Add a version under the next free number.

        Args:
            name: The model.
            card: Its card, yet without number.
            fill: Writes the graphs into a folder.
            finish: Given folder and card with number, writes what else belongs there.

        Raises:
            OutputError: It cannot be written.
        """

    def change_pointer(self, name: str, change: Callable[[Pointer | None], Pointer]) -> None:
        """Replace the pointer by what `change` makes of it; called again when somebody else was quicker.

        A pointer that is damaged is given as None, as one that is missing.

        Raises:
            OutputError: It cannot be written.
        """

    def size(self, name: str, version: int) -> int:
        """Bytes of a version."""

    def remove(self, name: str, version: int) -> None:
        """Remove a version, which is gone at once for all who have not begun to read it."""

    def leftovers(self, name: str) -> list[Leftover]:
        """What killed publishers left of a model long ago."""

    def sweep(self, name: str, leftover: Leftover) -> None:
        """Remove it."""


def open_shelf(store: Path | str) -> Shelf:
    """A store by its folder or address.

    Raises:
        MissingExtraError: The address needs packages that are not installed.
        ModelError: The address cannot be understood.
    """
    # Both are built on this module.
    if is_address(store) and not str(store).startswith("file://"):
        from ganaug.store.remote import RemoteShelf

        return RemoteShelf(str(store))
    from ganaug.store.local import LocalShelf

    return LocalShelf(Path(str(store).removeprefix("file://")))


def pointer_of(shelf: Shelf, name: str) -> Pointer | None:
    """The pointer of a model; None when it has none.

    Raises:
        ModelError: It is damaged.
    """
    content = shelf.read(name, POINTER_FILE, MAX_POINTER_BYTES + 1)
    if content is None:
        return None
    try:
        return read_pointer(content)
    except ValueError as error:
        raise ModelError(
            f"{shelf.address}/{name}/{POINTER_FILE} is damaged: {error}. The versions there are "
            f"{shelf.versions(name)}; ask for one, as {name}@1, or write the pointer again with "
            f"`ganaug promote {name}@1 --store {shelf.address}`."
        ) from error


def known_versions(shelf: Shelf, name: str) -> list[int]:
    """Versions of a model that has to be there.

    Raises:
        ModelError: There is no such model.
    """
    versions = shelf.versions(name)
    if not versions:
        raise ModelError(
            f"there is no model {name!r} in {shelf.address}; it has {', '.join(shelf.names()) or 'none'}. "
            "`ganaug models --store STORE` lists those of a store."
        )
    return versions
