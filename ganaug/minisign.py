"""Signatures of small files in minisign's format, which its own tool makes and checks too.

A key pair is two text files; a signature is a text file beside what it signs. Only the prehashed
kind (`ED`) is made and taken, which is what minisign makes unless told otherwise.

Source:
    https://jedisct1.github.io/minisign/ (formats); Ed25519 is RFC 8032, BLAKE2b RFC 7693.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ganaug.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_SIGNATURE_BYTES = 16 * 2**10
SECRET, PUBLIC = ".key", ".pub"
"""Endings of the two files of a key pair."""

_ALGORITHM, _PREHASHED, _CHECKSUM = b"Ed", b"ED", b"B2"
_UNENCRYPTED = b"\0\0"
_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "
_PUBLIC_BYTES, _SECRET_BYTES, _SIGNATURE_BYTES = 2 + 8 + 32, 158, 2 + 8 + 64


@dataclass(frozen=True)
class PublicKey:
    """What checks signatures.

    Attributes:
        key_id: 8 bytes that name the pair.
        key: 32 bytes of Ed25519.
    """

    key_id: bytes
    key: bytes

    @property
    def text(self) -> str:
        """As one word, `RW…`."""
        return base64.b64encode(_ALGORITHM + self.key_id + self.key).decode()


@dataclass(frozen=True)
class SecretKey:
    """What makes signatures.

    Attributes:
        key_id: 8 bytes that name the pair.
        seed: 32 bytes of Ed25519.
    """

    key_id: bytes
    seed: bytes

    @property
    def public(self) -> PublicKey:
        """The other half."""
        return PublicKey(self.key_id, _signer(self.seed).public_key().public_bytes_raw())


def shown(key_id: bytes) -> str:
    """A key's number as minisign prints it, 16 hexadecimal digits."""
    return f"{int.from_bytes(key_id, 'little'):016X}"


def make_keys(path: Path) -> PublicKey:
    """Make a key pair: `path.key`, which only its owner may read, and `path.pub`.

    The secret key is not encrypted: whoever reads the file can sign. minisign uses both files.

    Raises:
        MissingExtraError: `cryptography` is not installed.
        ModelError: One of the files is there already, or cannot be written.
    """
    secret = SecretKey(secrets.token_bytes(8), secrets.token_bytes(32))
    public = secret.public
    # An unencrypted key has zeros where salt, limits and checksum are.
    layout = _ALGORITHM + _UNENCRYPTED + _CHECKSUM + bytes(48)
    layout += secret.key_id + secret.seed + public.key + bytes(32)
    name = f"minisign public key {shown(public.key_id)}"
    try:
        for ending, comment, content in (
            (SECRET, "minisign encrypted secret key", base64.b64encode(layout).decode()),
            (PUBLIC, name, public.text),
        ):
            file = path.with_name(path.name + ending)
            descriptor = os.open(
                file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if ending == SECRET else 0o644
            )
            with os.fdopen(descriptor, "w", encoding="ascii", newline="\n") as out:
                out.write(f"{_UNTRUSTED}{comment}\n{content}\n")
    except FileExistsError as error:
        raise ModelError(
            f"{error.filename} is there already, and what is signed by it is checked by it: choose another path"
        ) from error
    except OSError as error:
        raise ModelError(f"cannot write the key {error.filename}: {error.strerror}") from error
    return public


def read_secret(path: Path) -> SecretKey:
    """Read a secret key that `make_keys` or `minisign -G -W` made.

    Raises:
        ModelError: It cannot be read, is no secret key, or is encrypted.
    """
    content = _decode(
        _second_line(_read(path), str(path)), _SECRET_BYTES, f"{path} is no minisign secret key"
    )
    if content[:2] != _ALGORITHM:
        raise ModelError(f"{path} is no minisign secret key: it is of another kind, {content[:2]!r}")
    if content[2:4] != _UNENCRYPTED:
        raise ModelError(
            f"the secret key {path} is encrypted with a password, and ganaug reads only keys that are not: remove "
            "the password from a copy with `minisign -C -W -s COPY`, or make a pair with `ganaug keys PATH`"
        )
    return SecretKey(key_id=content[54:62], seed=content[62:94])


def read_public(key: Path | str) -> PublicKey:
    """Understand a public key: the word `RW…`, or the file that holds it.

    Raises:
        ModelError: It is neither.
    """
    text = str(key).strip()
    is_word = text.startswith("RW") and len(text) == 56 and not Path(text).is_file()
    word = text if is_word else _second_line(_read(Path(text)), text)
    what = f"{text} is no minisign public key"
    content = _decode(word, _PUBLIC_BYTES, what)
    if content[:2] != _ALGORITHM:
        raise ModelError(f"{what}: it is of another kind, {content[:2]!r}")
    return PublicKey(content[2:10], content[10:])


def sign(content: bytes, secret: SecretKey, comment: str) -> str:
    """Sign content.

    Args:
        content: What is signed.
        secret: The key.
        comment: One line that is signed too.

    Returns:
        The text of the signature file.

    Raises:
        MissingExtraError: `cryptography` is not installed.
    """
    signer = _signer(secret.seed)
    signature = signer.sign(_hash(content))
    whole = signer.sign(signature + comment.encode())
    first = base64.b64encode(_PREHASHED + secret.key_id + signature).decode()
    return (
        f"{_UNTRUSTED}signature from ganaug, key {shown(secret.key_id)}\n{first}\n"
        f"{_TRUSTED}{comment}\n{base64.b64encode(whole).decode()}\n"
    )


def signed_by(signature: bytes) -> str:
    """Number of the key that a signature says to be from; nothing is checked.

    Raises:
        ModelError: It is no signature.
    """
    return shown(_parts(signature)[0])


def check(content: bytes, signature: bytes, public: PublicKey) -> str:
    """Check that a signature of this key is over this content.

    Returns:
        The comment, which is signed too.

    Raises:
        MissingExtraError: `cryptography` is not installed.
        ModelError: It is not, or is damaged.
    """
    verifier = _verifier(public.key)
    from cryptography.exceptions import InvalidSignature

    key_id, own, comment, whole = _parts(signature)
    if key_id != public.key_id:
        raise ModelError(f"the signature is of key {shown(key_id)}, and {shown(public.key_id)} was asked for")
    try:
        verifier.verify(own, _hash(content))
        verifier.verify(whole, own + comment)
    except InvalidSignature as error:
        raise ModelError(
            f"the signature of key {shown(key_id)} is not over this content: one of both was changed"
        ) from error
    return comment.decode(errors="replace")


def _parts(text: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Key number, signature, trusted comment, and the signature over both."""
    what = "the signature is damaged, or not minisign's"
    lines = text.replace(b"\r\n", b"\n").split(b"\n")
    if len(text) > MAX_SIGNATURE_BYTES or len(lines) < 4 or not lines[2].startswith(_TRUSTED.encode()):
        raise ModelError(what)
    first = _decode(lines[1].decode("ascii", "replace"), _SIGNATURE_BYTES, what)
    if first[:2] != _PREHASHED:
        raise ModelError(
            f"{what}: it is of kind {first[:2]!r}, and only {_PREHASHED!r} is taken (no minisign -l)"
        )
    whole = _decode(lines[3].decode("ascii", "replace"), 64, what)
    return first[2:10], first[10:], lines[2][len(_TRUSTED) :], whole


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=64).digest()


def _decode(word: str, size: int, what: str) -> bytes:
    try:
        content = base64.b64decode(word.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ModelError(f"{what}: {error}") from error
    if len(content) != size:
        raise ModelError(f"{what}: it has {len(content)} bytes, not {size}")
    return content


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_SIGNATURE_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"cannot read the key {str(path)!r}: {reason}. Give a key file, or a public key as the word RW…; "
            "`ganaug keys PATH` makes a pair."
        ) from error


def _second_line(text: str, what: str) -> str:
    lines = text.splitlines()
    if len(lines) < 2 or not lines[0].startswith(_UNTRUSTED):
        raise ModelError(f"{what} is no minisign key: its first line is no comment")
    return lines[1]


def _signer(seed: bytes) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise MissingExtraError("signing", "sign") from error
    return Ed25519PrivateKey.from_private_bytes(seed)


def _verifier(key: bytes) -> Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise MissingExtraError("checking a signature", "sign") from error
    return Ed25519PublicKey.from_public_bytes(key)
