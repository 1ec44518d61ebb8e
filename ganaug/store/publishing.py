"""What moves a model's aliases: publishing a version, promoting one, and rolling back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ganaug import card as cards
from ganaug.card import CARD_FILE, ModelCard
from ganaug.errors import ModelError
from ganaug.minisign import read_secret
from ganaug.store.history import What, production_before, record
from ganaug.store.local import write_synced
from ganaug.store.names import CANDIDATE, POINTER_FILE, PRODUCTION, check_alias, check_name
from ganaug.store.pointer import MAX_POINTER_BYTES, Pointer, read_pointer, version_of
from ganaug.store.shelf import Shelf, known_versions, open_shelf, pointer_of
from ganaug.store.signatures import SIGNATURE_FILE, signature_of


def publish(
    folder: Path,
    store: Path | str,
    name: str,
    beside: Callable[[Path, ModelCard], None] | None = None,
    *,
    promote: bool = True,
    sign_with: Path | None = None,
    run: Mapping[str, Any] | None = None,
) -> int:
    """Copy a model into the store as its next version, the candidate, and put it in production.

    Args:
        folder: The model; it stays as it is.
        store: A folder, made when it does not exist; or an address, as `s3://bucket/models`.
        name: Name of the model.
        beside: Given the version's folder and card before anybody can see it, writes what else
            belongs there.
        promote: Put it in production too; else `ganaug promote` does.
        sign_with: Secret key of minisign that the card is signed with.
        run: What is known of the run that it is from, for the history.

    Returns:
        The version's number.

    Raises:
        MissingExtraError: The address, or signing, needs packages that are not installed.
        ModelError: The model is damaged, `name` cannot be a name, or the key cannot be used.
        OutputError: The store cannot be written.
    """
    check_name(name)
    card, shelf = cards.verify(folder), open_shelf(store)
    secret = read_secret(sign_with) if sign_with is not None else None

    def fill(out: Path) -> None:
        for graph in card.graphs:
            write_synced(out / graph.file, cards.read_graph(folder, graph))

    def finish(out: Path, numbered: ModelCard) -> None:
        if beside is not None:
            beside(out, numbered)
        if secret is not None:
            content = (out / CARD_FILE).read_bytes()
            write_synced(out / SIGNATURE_FILE, signature_of(content, secret))

    version = shelf.add(name, card.model_copy(update={"name": name}), fill, finish)
    was, now = _announce(shelf, name, version, promote=promote)
    _record_publication(shelf, name, version, was, now, run)
    return version


def announce(
    store: Path | str,
    name: str,
    version: int,
    *,
    promote: bool = True,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Do for a version that is there what `publish` does for a new one: candidate, and in production if promoted.

    Nothing happens where it is that already, or a later one is.

    Raises:
        OutputError: The store cannot be written.
    """
    shelf = open_shelf(store)
    was, now = _announce(shelf, name, version, promote=promote)
    if now != was:
        _record_publication(shelf, name, version, was, now, run)


def _announce(shelf: Shelf, name: str, version: int, *, promote: bool) -> tuple[Pointer, Pointer]:
    """Move the aliases; the pointer before and after."""
    was = now = Pointer()

    def change(before: Pointer | None) -> Pointer:
        nonlocal was, now
        # A damaged pointer is mended by the new one.
        was = now = before or Pointer()
        if _is_there(shelf, name, version, was):
            now = was.published(version, promote=promote)
        return now

    shelf.change_pointer(name, change)
    return was, now


def _record_publication(
    shelf: Shelf, name: str, version: int, was: Pointer, now: Pointer, run: Mapping[str, Any] | None
) -> None:
    moved = [alias for alias in (PRODUCTION, CANDIDATE) if now.named.get(alias) != was.named.get(alias)]
    # None was, where one who published at the same time got the later number.
    alias = moved[0] if moved else ""
    record(shelf, name, "publish", version, alias=alias, before=was.named.get(alias), run=run)


def promote(
    store: Path | str, name: str, version: int | str = CANDIDATE, *, to: str = PRODUCTION
) -> tuple[int, int | None]:
    """Move an alias to a version, which is checked first.

    Args:
        store: A folder, or an address.
        name: Name of the model.
        version: Its number, or an alias that it has.
        to: The alias to move; `production`, `candidate` or one of your own, which is made.

    Returns:
        The version, and the one that had the alias before; None when none had.

    Raises:
        MissingExtraError: The address needs packages that are not installed.
        ModelError: There is no such model, version or alias, or it is damaged.
        OutputError: The store cannot be written.
    """
    check_name(name)
    check_alias(to)
    shelf = open_shelf(store)
    versions = known_versions(shelf, name)
    pointer = None if isinstance(version, int) else pointer_of(shelf, name)
    chosen = version_of(pointer, version, f"{shelf.address}/{name}", versions)
    return chosen, _move(shelf, name, chosen, to, "promote")


def rollback(store: Path | str, name: str, version: int | None = None) -> tuple[int, int | None]:
    """Put an earlier version in production again.

    Args:
        store: A folder, or an address.
        name: Name of the model.
        version: Its number; None: the one that was in production before the one that is.

    Returns:
        The version, and the one that was in production; None when none was.

    Raises:
        MissingExtraError: The address needs packages that are not installed.
        ModelError: It is not there, or damaged; or the history does not say which was before.
        OutputError: The store cannot be written.
    """
    check_name(name)
    shelf = open_shelf(store)
    known_versions(shelf, name)
    if version is None:
        pointer = pointer_of(shelf, name)
        version = production_before(shelf, name, pointer.version if pointer is not None else None)
    return version, _move(shelf, name, version, PRODUCTION, "rollback")


def aliases(store: Path | str, name: str) -> dict[str, int]:
    """Versions of a model by alias, production first; none when its pointer is missing or damaged.

    Raises:
        MissingExtraError, ModelError: The store cannot be read.
    """
    content = open_shelf(store).read(name, POINTER_FILE, MAX_POINTER_BYTES + 1)
    with contextlib.suppress(ValueError):
        return read_pointer(content or b"").named
    return {}


def version_with(store: Path | str, name: str, card: ModelCard) -> tuple[int, ModelCard] | None:
    """The version with an alias that has the same graphs as a model, and its card; None when there is none.

    Raises:
        MissingExtraError, ModelError: The store cannot be read.
    """
    shelf, graphs = open_shelf(store), {graph.sha256 for graph in card.graphs}
    for version in sorted(set(aliases(store, name).values()), reverse=True):
        # What is damaged is none.
        with contextlib.suppress(ModelError):
            known = shelf.load_card(name, version)
            shelf.check_graphs(name, version, known, hashes=False)
            if {graph.sha256 for graph in known.graphs} == graphs:
                return version, known
    return None


def put_beside(store: Path | str, name: str, version: int, files: Mapping[str, bytes]) -> None:
    """Write files that describe a version, such as its README.md, into it; the model stays as it is.

    Raises:
        ModelError: One of them is a part of the model.
        OutputError: The store cannot be written.
    """
    shelf = open_shelf(store)
    for file, content in files.items():
        if file in {CARD_FILE, SIGNATURE_FILE} or file.endswith(".onnx"):
            raise ModelError(f"{file} is a part of version {version} of {name!r}, which never changes")
        shelf.write(name, f"{version}/{file}", content)


def _move(shelf: Shelf, name: str, version: int, alias: str, what: What) -> int | None:
    if version in shelf.versions(name):
        shelf.check_graphs(name, version, shelf.load_card(name, version), hashes=False)
    before: int | None = None

    def change(pointer: Pointer | None) -> Pointer:
        nonlocal before
        was = pointer or Pointer()
        if not _is_there(shelf, name, version, was):
            raise ModelError(
                f"{shelf.address}/{name} has no version {version}; it has {shelf.versions(name) or 'none'}"
            )
        before = was.named.get(alias)
        return was.moved(alias, version)

    shelf.change_pointer(name, change)
    if before != version:
        record(shelf, name, what, version, alias=alias, before=before)
    return before


def _is_there(shelf: Shelf, name: str, version: int, pointer: Pointer) -> bool:
    """Whether an alias may be moved to a version; `gc` says in the pointer which it is removing."""
    return version in shelf.versions(name) and version not in pointer.removing
