"""Signing a model that is in a store already."""

from __future__ import annotations

from pathlib import Path

from ganaug.card import CARD_FILE, MAX_CARD_BYTES
from ganaug.errors import ModelError
from ganaug.fetch import is_address
from ganaug.minisign import read_secret
from ganaug.store.finding import resolve, version_address
from ganaug.store.names import STORE
from ganaug.store.shelf import open_shelf
from ganaug.store.signatures import SIGNATURE_FILE, signature_of


def sign(model: Path | str, key: Path, store: Path | str = STORE) -> str:
    """Sign a model's card, and so all of its graphs; an earlier signature is replaced.

    Args:
        model: A model folder, a name in `store`, or an address, as in `resolve`.
        key: File of the secret key.
        store: A folder, or the address of a store.

    Returns:
        Where the signature lies.

    Raises:
        MissingExtraError: `cryptography`, or what an address needs, is not installed.
        ModelError: There is no such model, or the key cannot be used.
        OutputError: The signature cannot be written.
    """
    secret = read_secret(key)
    if is_address(store) and not is_address(model):
        model = f"{str(store).rstrip('/')}/{model}"
    # A version's folder is to its model what a model's is to the store, as far as its files go.
    if is_address(model):
        place = version_address(str(model))
        parent, _, name = place.rpartition("/")
        shelf = open_shelf(parent)
    else:
        folder = resolve(model, Path(store), public_key=False).absolute()
        place, name, shelf = str(folder), folder.name, open_shelf(folder.parent)
    card = shelf.read(name, CARD_FILE, MAX_CARD_BYTES + 1)
    if card is None:
        raise ModelError(f"there is no model at {place}: it has no {CARD_FILE}")
    shelf.write(name, SIGNATURE_FILE, signature_of(card, secret))
    return f"{place}/{SIGNATURE_FILE}"
