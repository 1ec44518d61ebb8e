"""Removing old versions, and what killed publishers left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ganaug.errors import ModelError, SettingsError
from ganaug.store.history import record
from ganaug.store.names import POINTER_FILE, STORE
from ganaug.store.pointer import Pointer
from ganaug.store.shelf import Shelf, known_versions, open_shelf, pointer_of

KEEP = 5


@dataclass(frozen=True)
class Removed:
    """Something that `gc` removed, or would remove.

    Attributes:
        name: Name of the model.
        what: A version, or a leftover of a killed publisher.
        path: Where it lay, below the model: for a version its number.
        bytes: Its size.
    """

    name: str
    what: Literal["version", "leftover"]
    path: str
    bytes: int


def gc(
    store: Path | str = STORE, name: str | None = None, *, keep: int = KEEP, dry_run: bool = False
) -> list[Removed]:
    """Remove all but the newest versions; never one that an alias names.

    A version is gone at once: no reader finds half of one. Whoever has resolved a name and has not
    opened the model yet is told that it is gone.

    Args:
        store: A folder, or an address.
        name: Only this model.
        keep: Newest versions that stay; at least 1, so that no number is given twice.
        dry_run: Tell what would be removed, and remove nothing.

    Returns:
        What was removed, or would be.

    Raises:
        MissingExtraError: The address needs packages that are not installed.
        ModelError: There is no such model, or a pointer is damaged or missing: nobody could say then
            what is needed.
        OutputError: The store cannot be written.
        SettingsError: `keep` is less than 1.
    """
    if keep < 1:
        raise SettingsError([f"keep: {keep}; at least 1, since the newest version always stays"])
    shelf = open_shelf(store)
    if name is not None:
        known_versions(shelf, name)
    removed = []
    for each in shelf.names() if name is None else [name]:
        removed += _versions(shelf, each, keep, dry_run=dry_run)
        for leftover in shelf.leftovers(each):
            removed.append(Removed(each, "leftover", leftover.path, leftover.bytes))
            if not dry_run:
                shelf.sweep(each, leftover)
    return removed


def _versions(shelf: Shelf, name: str, keep: int, *, dry_run: bool) -> list[Removed]:
    pointer = pointer_of(shelf, name)
    doomed = _doomed(shelf, name, pointer, keep)
    if dry_run or not doomed:
        return [Removed(name, "version", str(version), shelf.size(name, version)) for version in doomed]

    def announce(before: Pointer | None) -> Pointer:
        """Say it in the pointer: whoever moves an alias afterwards sees it, whoever did before is seen."""
        nonlocal doomed
        doomed = _doomed(shelf, name, before, keep)
        assert before is not None
        return replace(before, removing=before.removing | set(doomed))

    shelf.change_pointer(name, announce)
    removed = []
    for version in doomed:
        removed.append(Removed(name, "version", str(version), shelf.size(name, version)))
        shelf.remove(name, version)
        record(shelf, name, "gc", version)
    shelf.change_pointer(
        name, lambda before: replace(before or Pointer(), removing=_left(shelf, name, before))
    )
    return removed


def _left(shelf: Shelf, name: str, pointer: Pointer | None) -> frozenset[int]:
    """Versions that another `gc` is still removing."""
    return (pointer or Pointer()).removing & set(shelf.versions(name))


def _doomed(shelf: Shelf, name: str, pointer: Pointer | None, keep: int) -> list[int]:
    if pointer is None:
        raise ModelError(
            f"{shelf.address}/{name} has no readable {POINTER_FILE}, so nobody can say which versions are needed: "
            f"promote one first, as `ganaug promote {name}@{shelf.versions(name)[-1]} --store {shelf.address}`"
        )
    versions, named = shelf.versions(name), set(pointer.named.values())
    # Those too that a `gc` announced and was killed before it removed them.
    old = {*versions[:-keep], *pointer.removing}
    return [version for version in versions if version in old and version not in named]
