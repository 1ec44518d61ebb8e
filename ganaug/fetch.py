"""Models at an address that fsspec knows: brought here once, checked, and kept by the hash of their card."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from ganaug.card import CARD_FILE, MAX_CARD_BYTES, ModelCard, card_sha256, read_graph
from ganaug.errors import GanaugError, MissingExtraError, ModelError
from ganaug.places import without_secrets

CACHE = "GANAUG_CACHE"
"""Environment variable: the folder of what was fetched."""
_MODELS = "models"
_BLOCK = 2**20
_TRIES = 5
"""How often a file is opened that others replace while it is read."""


def is_address(model: Path | str) -> bool:
    """Whether a model is named by an address, as `s3://bucket/models/digits`."""
    return isinstance(model, str) and "://" in model


def cache_folder() -> Path:
    """Where fetched models are kept: `$GANAUG_CACHE`, or the system's folder for such things."""
    if asked := os.environ.get(CACHE):
        return Path(asked)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "ganaug" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ganaug"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganaug"


class Source:
    """A folder at an address; only what is asked for comes here, and no more of it than is allowed.

    Args:
        address: What `fsspec` opens.

    Raises:
        MissingExtraError: fsspec, or its file system, is not installed.
        ModelError: The address cannot be understood.
    """

    def __init__(self, address: str) -> None:
        self.address = without_secrets(address.rstrip("/"))
        try:
            import fsspec

            self._files, root = fsspec.core.url_to_fs(address.rstrip("/"))
        except ImportError as error:
            raise MissingExtraError(f"a model at {self.address} ({error})", "remote") from error
        except (ValueError, OSError) as error:
            reason = without_secrets(str(error))
            raise ModelError(f"cannot use the address {self.address}: {reason}") from error
        self._root = root.rstrip("/")

    def read(self, name: str, most: int) -> bytes | None:
        """Up to `most` bytes of a file, all of one writing of it; None when there is no such file."""
        tries = _TRIES
        while True:
            tries -= 1
            try:
                blocks = list(self.blocks(name, most))
            except ModelError as error:
                if not tries or not _is_replaced(error):
                    raise
            else:
                return b"".join(blocks) if blocks else None

    def blocks(self, name: str, most: int) -> Iterator[bytes]:
        """A file's first `most` bytes, a block at a time; nothing when there is no such file."""
        left = most
        with self._refusals():
            try:
                file = self._files.open(f"{self._root}/{name}", "rb", block_size=_BLOCK)
            except FileNotFoundError as error:
                # Over HTTP a server that refuses or does not answer is called a missing file too.
                cause = error.__cause__
                if (
                    cause is None
                    or isinstance(cause, FileNotFoundError)
                    or getattr(cause, "status", 0) == 404
                ):
                    return
                raise cause from None
            with file:
                # An empty file is there too.
                yield b""
                while left > 0 and (block := file.read(min(_BLOCK, left))):
                    left -= len(block)
                    yield block

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except GanaugError:
            raise
        except Exception as error:
            # File systems raise classes of their own libraries, which share no base but this one.
            reason = without_secrets(str(error)) or type(error).__name__
            raise ModelError(
                f"cannot read the model at {self.address}: {reason}. Check the address, the connection and what "
                "the environment says of who you are."
            ) from error


def _is_replaced(error: ModelError) -> bool:
    """Whether another file has come in its place since it was opened, as s3fs tells it."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EBUSY


def fetch(address: str, sha256: str | None = None) -> Path:
    """Bring the model of a folder here, unless it is here.

    Args:
        address: A folder that holds `card.json`.
        sha256: Hash that `card.json` must have. With it a model that is here is not looked for again.

    Returns:
        A folder of this machine; named by the hash of its card, which names those of its graphs.

    Raises:
        MissingExtraError: The address needs packages that are not installed.
        ModelError: There is no model, it cannot be read, or it is another one than `sha256` says.
    """
    if sha256 and (known := fetched_before(sha256)):
        return known
    source = Source(address)
    content = source.read(CARD_FILE, MAX_CARD_BYTES + 1)
    if content is None:
        raise ModelError(
            f"there is no model at {source.address}: it has no {CARD_FILE}. Give the address of a model folder, or of a "
            "model in a store, with @3 behind it for version 3."
        )
    digest = hashlib.sha256(content).hexdigest()
    check_card(digest, sha256, source.address)
    home = cache_folder() / _MODELS / digest
    if not _is_whole(home):
        _bring(source, content, home)
    return home


def fetched_before(sha256: str) -> Path | None:
    """Folder of a model that is here, by the hash of its card."""
    home = cache_folder() / _MODELS / sha256
    return home if re.fullmatch(r"[0-9a-f]{64}", sha256) and _is_whole(home) else None


def check_card(found: str, wanted: str | None, model: str) -> None:
    """Compare the hash of a model's card with the one that was asked for.

    Raises:
        ModelError: They differ.
    """
    if wanted and found != wanted:
        raise ModelError(
            f"the card of {model} has SHA-256 {found}, and {wanted} was asked for: it is another model, or somebody "
            "changed it. If the change is meant, ask for the new hash."
        )


def _is_whole(home: Path) -> bool:
    """Whether a model is here, but for a change of a graph that only its hash shows, which is checked when it is opened."""
    try:
        # Others may be able to write here: the folder's name is the hash that was asked for.
        is_asked = card_sha256(home) == home.name
        graphs = ModelCard.load(home).graphs
        return is_asked and all((home / graph.file).stat().st_size == graph.bytes for graph in graphs)
    except (ModelError, OSError):
        return False


def _bring(source: Source, content: bytes, home: Path) -> None:
    beside = home.with_name(f".{home.name[:16]}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        beside.mkdir(parents=True)
        (beside / CARD_FILE).write_bytes(content)
        for graph in ModelCard.load(beside).graphs:
            with (beside / graph.file).open("wb") as file:
                for block in source.blocks(graph.file, graph.bytes + 1):
                    file.write(block)
            read_graph(beside, graph)
        if home.exists() and not _is_whole(home):
            shutil.rmtree(home)
        try:
            beside.rename(home)
        except OSError:
            # Another process was quicker; what it brought has the same hashes.
            if not _is_whole(home):
                raise
    except OSError as error:
        raise ModelError(
            f"cannot keep the model of {source.address} in {home.parent}: {error.strerror}. Free some space, or name "
            f"another folder by the variable {CACHE}."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
