"""Whose models may be loaded: signatures of cards, which hold the hashes of all graphs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ganaug import minisign
from ganaug.card import CARD_FILE
from ganaug.errors import ModelError
from ganaug.minisign import PublicKey, SecretKey

SIGNATURE_FILE = f"{CARD_FILE}.minisig"
PUBLIC_KEY = "GANAUG_PUBLIC_KEY"
"""Environment variable: the key that every model must be signed with."""

Key = Path | str | Literal[False] | None
"""A public key, as a word or a file; None: that of the environment, if it names one; False: none is needed."""


def required_key(public_key: Key) -> PublicKey | None:
    """The key that a model must be signed with; None when none is required.

    Raises:
        ModelError: It is not a key.
    """
    if public_key is False:
        return None
    asked = public_key or os.environ.get(PUBLIC_KEY, "").strip()
    return minisign.read_public(asked) if asked else None


def check_signature(card: bytes, signature: bytes | None, key: PublicKey, model: str) -> None:
    """Check that a card is signed.

    Args:
        card: Content of `card.json`.
        signature: Content of the file beside it; None when there is none.
        key: The key that must have signed it.
        model: What the user calls the model.

    Raises:
        MissingExtraError: `cryptography` is not installed.
        ModelError: It is not signed, or not by this key, or was changed.
    """
    if signature is None:
        raise ModelError(
            f"{model} is not signed, and a signature of key {minisign.shown(key.key_id)} is required. If you trust "
            f"the model, sign it with `ganaug sign MODEL --key KEY`; or load it without public_key and ${PUBLIC_KEY}."
        )
    try:
        minisign.check(card, signature, key)
    except ModelError as error:
        raise ModelError(
            f"{model} is not to be trusted: {error}. Get it again from who published it, or, if you trust what is "
            "there, sign it anew with `ganaug sign MODEL --key KEY`."
        ) from error


def check_folder(folder: Path, key: PublicKey) -> None:
    """Check the signature of a model that is here.

    Raises:
        MissingExtraError, ModelError: As `check_signature`.
    """
    check_signature(_read(folder / CARD_FILE) or b"", _read(folder / SIGNATURE_FILE), key, str(folder))


def signature_of(card: bytes, secret: SecretKey) -> bytes:
    """The content of a signature file.

    Raises:
        MissingExtraError: `cryptography` is not installed.
    """
    return minisign.sign(card, secret, f"file:{CARD_FILE}\thashed").encode()


def state(card: bytes, signature: bytes | None, key: PublicKey | None) -> str:
    """What is to be told of a signature: unsigned, unchecked (no key to check it with), signed or bad."""
    if signature is None:
        return "unsigned"
    if key is None:
        return "unchecked"
    try:
        minisign.check(card, signature, key)
    except ModelError:
        return "bad"
    return "signed"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
