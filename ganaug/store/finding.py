"""Finding a model by what a user calls it, and listing those that there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ganaug import card as cards
from ganaug.card import CARD_FILE, MAX_CARD_BYTES, ModelCard
from ganaug.errors import ModelError
from ganaug.fetch import Source, check_card, fetch, fetched_before, is_address
from ganaug.minisign import MAX_SIGNATURE_BYTES, PublicKey
from ganaug.store.local import LocalShelf, versions_in
from ganaug.store.names import POINTER_FILE, PRODUCTION, STORE, packaged_store, split_suffix
from ganaug.store.pointer import MAX_POINTER_BYTES, Pointer, read_pointer, version_of
from ganaug.store.shelf import Shelf, open_shelf, pointer_of
from ganaug.store.signatures import SIGNATURE_FILE, Key, check_folder, check_signature, required_key, state


@dataclass(frozen=True)
class StoredModel:
    """One version in the store.

    Attributes:
        name: Name of the model.
        version: Its number.
        aliases: Aliases that name it, production first.
        address: Where it lies: a folder or an address.
        card: Its card; None when that cannot be read.
        problem: What is wrong with it; None when nothing was found.
        is_verified: Whether every graph was read and has the hash that the card says.
        signature: unsigned, unchecked (no public key was given), signed or bad.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    address: str
    card: ModelCard | None
    problem: str | None
    is_verified: bool
    signature: str

    @property
    def is_current(self) -> bool:
        """Whether it is the one in production."""
        return PRODUCTION in self.aliases

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes that it can make."""
        return self.card.makes if self.card is not None else ()

    @property
    def recipe(self) -> str:
        """Architecture that it was trained with."""
        return self.card.recipe if self.card is not None else ""

    @property
    def verdict(self) -> str:
        """What its evaluation said."""
        return (self.card.verdict if self.card is not None else None) or ""


def resolve(
    model: Path | str, store: Path = STORE, *, sha256: str | None = None, public_key: Key = None
) -> Path:
    """Find the folder of a model version; one at an address is brought here first.

    Args:
        model: A model folder; a folder in a store, such as `exported/digits`, which means its
            version in production; or a name in `store`. `@3` behind it asks for version 3,
            `@candidate` for the one with that alias. Or the address of a model folder, or of a
            model in a store, that fsspec knows.
        store: Where names are looked for first; then among the models that come with ganaug.
        sha256: Hash that `card.json` must have.
        public_key: Key of minisign that the card must be signed with, as the word `RW…` or the file
            that holds it. None: the one that `$GANAUG_PUBLIC_KEY` names, if it does; False: none,
            for models that this machine has just made.

    Raises:
        MissingExtraError: The address, or a signature, needs packages that are not installed.
        ModelError: There is no such model, version or alias, its pointer is damaged, it is another
            one than `sha256` says, or it is not signed as it must be.
    """
    key = required_key(public_key)
    if is_address(model):
        return _fetched(str(model), sha256, key)
    folder = _find(model, store)
    if sha256:
        check_card(cards.card_sha256(folder), sha256, str(folder))
    if key is not None:
        check_folder(folder, key)
    return folder


def verify(model: Path | str, store: Path = STORE, *, public_key: Key = None) -> ModelCard:
    """Check card and hashes of a model, found as in `resolve`.

    Raises:
        ModelError: There is no such model, or something of it is missing, damaged, swapped or not
            signed as it must be.
    """
    return cards.verify(resolve(model, store, public_key=public_key))


def list_models(
    store: Path | str = STORE, *, name: str | None = None, hashes: bool = False, public_key: Key = None
) -> list[StoredModel]:
    """Every version of every model in a store; damage is told, not raised.

    Args:
        store: A folder, or the address of a store.
        name: Only this model.
        hashes: Read the graphs even where that means to download them. Those on this machine are
            read anyway; of others the sizes are compared.
        public_key: As in `resolve`; nothing is refused, `signature` says what was found.

    Raises:
        MissingExtraError, ModelError: The store cannot be read, or the key is none.
    """
    shelf, key = open_shelf(store), required_key(public_key)
    found = []
    for each in shelf.names() if name is None else [name]:
        pointer, problem = None, None
        try:
            pointer = pointer_of(shelf, each)
        except ModelError as error:
            problem = str(error)
        found += [
            _look(shelf, each, version, pointer or Pointer(), problem, hashes, key)
            for version in shelf.versions(each)
        ]
    return found


def _look(
    shelf: Shelf,
    name: str,
    version: int,
    pointer: Pointer,
    problem: str | None,
    hashes: bool,
    key: PublicKey | None,
) -> StoredModel:
    card, is_verified = None, False
    try:
        card = shelf.load_card(name, version)
        is_verified = shelf.check_graphs(name, version, card, hashes=hashes)
    except ModelError as error:
        problem = str(error)
    content = shelf.read(name, f"{version}/{CARD_FILE}", MAX_CARD_BYTES + 1) or b""
    signature = shelf.read(name, f"{version}/{SIGNATURE_FILE}", MAX_SIGNATURE_BYTES)
    return StoredModel(
        name,
        version,
        pointer.names_of(version),
        f"{shelf.address}/{name}/{version}",
        card,
        problem,
        is_verified,
        state(content, signature, key),
    )


def version_address(address: str) -> str:
    """The address of the version's folder that an address means, `@3` and aliases included.

    Raises:
        MissingExtraError, ModelError: It cannot be read, or names no version.
    """
    model, suffix = split_suffix(address)
    model = model.rstrip("/")
    if isinstance(suffix, int):
        return f"{model}/{suffix}"
    content = Source(model).read(POINTER_FILE, MAX_POINTER_BYTES + 1)
    if content is None and suffix is None:
        return model
    try:
        pointer = read_pointer(content) if content is not None else None
    except ValueError as error:
        raise ModelError(
            f"{model}/{POINTER_FILE} is damaged: {error}. Ask for a version, as {model}@1."
        ) from error
    return f"{model}/{version_of(pointer, suffix, model)}"


def _fetched(address: str, sha256: str | None, key: PublicKey | None) -> Path:
    if sha256 and (known := fetched_before(sha256)):
        if key is None:
            return known
        if (known / SIGNATURE_FILE).is_file():
            check_folder(known, key)
            return known
    place = version_address(address)
    folder = fetch(place, sha256)
    if key is not None:
        _bring_signature(place, folder, key)
    return folder


def _bring_signature(place: str, folder: Path, key: PublicKey) -> None:
    """Check the signature that lies at the address now, and keep it with what was fetched."""
    signature = Source(place).read(SIGNATURE_FILE, MAX_SIGNATURE_BYTES)
    check_signature((folder / CARD_FILE).read_bytes(), signature, key, place)
    path = folder / SIGNATURE_FILE
    if signature is not None and not (path.is_file() and path.read_bytes() == signature):
        LocalShelf(folder.parent).write(folder.name, SIGNATURE_FILE, signature)


def _find(model: Path | str, store: Path) -> Path:
    text, suffix = split_suffix(str(model))
    if suffix is not None and Path(str(model)).exists():
        # A folder may have such a name; it is then what was meant.
        text, suffix = str(model), None
    asked = Path(text)
    candidates = [asked]
    # `exported/digits` and `digits` mean the packaged model only where no folder is in the way.
    if len(asked.parts) == 1:
        candidates += [store / asked, packaged_store() / asked]
    elif asked.parts[:1] == (STORE.name,):
        candidates.append(packaged_store().joinpath(*asked.parts[1:]))
    for folder in candidates:
        if suffix is None and (folder / CARD_FILE).is_file():
            return folder
        if (folder / POINTER_FILE).is_file() or versions_in(folder):
            return _version_folder(folder, suffix)
    names = {name for place in (store, packaged_store()) for name in LocalShelf(place).names()}
    raise ModelError(
        f"there is no model {str(model)!r} (looked in {', '.join(map(str, candidates))}). Give a model folder, "
        f"or a name that `ganaug models` lists; here: {', '.join(sorted(names)) or 'none'}."
    )


def _version_folder(home: Path, suffix: int | str | None) -> Path:
    versions = versions_in(home)
    pointer = None if isinstance(suffix, int) else pointer_of(LocalShelf(home.parent), home.name)
    version = version_of(pointer, suffix, str(home), versions)
    if version not in versions:
        raise ModelError(f"{home} has no version {version}; it has {versions or 'none'}")
    return home / str(version)
