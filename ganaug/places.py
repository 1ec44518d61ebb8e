"""Where results go: a local folder, or any address that fsspec knows (`s3://bucket/path`).

Both write whole files that appear at once or not at all, and both keep a second process out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from ganaug.errors import GanaugError, MissingExtraError, OutputError

PART = ".part"
"""Ending of a local file that is being written."""
CLAIM_S = 90.0
"""A remote claim that was not renewed for so long is that of a process which died."""
RENEW_S = 15.0
"""How often it is renewed."""
_BLOCK = 2**20
_SETTLE_S = 1.0
"""Wait between claiming a remote folder and looking who else did."""

Buffer = bytes | bytearray | memoryview


class Place(Protocol):
    """A folder of files, here or elsewhere; names are relative, with `/` between."""

    @property
    def address(self) -> str:
        """What a user calls it."""

    def write(self, name: str, chunks: Sequence[Buffer]) -> None:
        """Write a file that a reader sees whole or not at all."""

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: There is none.
        """

    def sha256(self, names: Sequence[str]) -> tuple[int, str | None]:
        """Size and hash of files, one after the other; no hash where it would cost a download.

        Raises:
            FileNotFoundError: One is not there.
        """

    def names(self, folder: str) -> list[str]:
        """Names of the files right in a folder, sorted; none when it does not exist."""

    def holds(self, folder: str) -> bool:
        """Whether there is anything in a folder, files or folders."""

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens when there is none."""

    def claimed(self, *parts: str) -> contextlib.AbstractContextManager[None]:
        """Keep other processes out of these parts of the work while the block runs.

        Raises:
            OutputError: Another process is at work on one of them.
        """


def open_place(address: Path | str) -> Place:
    """A local folder, or what fsspec opens for an address with `://`.

    Raises:
        MissingExtraError: The address is remote and fsspec, or its file system, is not installed.
        OutputError: The address cannot be understood.
    """
    text = str(address)
    if "://" not in text:
        return LocalPlace(Path(address))
    if text.startswith("file://"):
        return LocalPlace(Path(text.removeprefix("file://")))
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(f"writing to {without_secrets(text)}", "remote") from error
    try:
        files, root = fsspec.core.url_to_fs(text)
    except ImportError as error:
        raise MissingExtraError(f"writing to {without_secrets(text)} ({error})", "remote") from error
    except (ValueError, OSError) as error:
        raise OutputError(without_secrets(f"cannot use the address {text}: {error}")) from error
    return RemotePlace(without_secrets(text.rstrip("/")), files, root.rstrip("/"))


def without_secrets(text: str) -> str:
    """A text whose addresses keep to themselves what would let others in: user, password and query.

    >>> without_secrets("cannot read s3://key:secret@bucket/cats?X-Amz-Signature=ab now")
    'cannot read s3://***@bucket/cats?*** now'
    """
    return _ADDRESS.sub(
        lambda found: found[1] + ("***@" if found[2] else "") + found[3] + ("?***" if found[4] else ""), text
    )


_ADDRESS = re.compile(r"""(\w://)([^/\s"'?]*@)?([^\s"'?]*)(\?[^\s"']*)?""")


def sha256_of(chunks: Iterable[Buffer]) -> str:
    """Hexadecimal SHA-256 of the chunks, one after the other."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def inside(name: str) -> str:
    """A name that stays in its place: names stand in manifests, which somebody else may have written.

    Raises:
        OutputError: It is absolute, or climbs out by `..`.

    >>> inside("data/cat-00000.npz")
    'data/cat-00000.npz'
    """
    plain = name.replace("\\", "/")
    if plain.startswith("/") or plain[1:2] == ":" or ".." in plain.split("/") or "\0" in plain:
        raise OutputError(
            f"the file {name!r} does not lie in the folder that names it: somebody changed that folder. Choose "
            "another, or delete it."
        )
    return name


class LocalPlace:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own = ""

    @property
    def address(self) -> str:
        """Its path."""
        return str(self.folder)

    def write(self, name: str, chunks: Sequence[Buffer]) -> None:
        """Write beside and rename."""
        path = self._at(name)
        # Of its own: two that do different parts may write the same description at once.
        beside = path.with_name(f"{path.name}{self._own}{PART}")
        with _refusals(self.address):
            try:
                # Not mapped: on a full disk a write into a map kills the process without a word.
                with self._opened(beside) as file:
                    for chunk in chunks:
                        whole = memoryview(chunk).cast("B")
                        # Large single writes are up to twice as slow.
                        for start in range(0, len(whole), _BLOCK):
                            file.write(whole[start : start + _BLOCK])
                beside.replace(path)
            except OSError:
                with contextlib.suppress(OSError):
                    beside.unlink()
                raise

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return self._at(name).read_bytes()

    def sha256(self, names: Sequence[str]) -> tuple[int, str | None]:
        """Size and hash of files."""
        digest, size = hashlib.sha256(), 0
        for name in names:
            with self._at(name).open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                    size += len(block)
        return size, digest.hexdigest()

    def names(self, folder: str) -> list[str]:
        """Names of the files right in a folder; what a killed process left half is none."""
        where = self.folder / folder
        if not where.is_dir():
            return []
        return sorted(
            entry.name for entry in os.scandir(where) if entry.is_file() and not entry.name.endswith(PART)
        )

    def holds(self, folder: str) -> bool:
        """Whether there is anything in a folder but what a killed process left half."""
        where = self.folder / folder
        return where.is_dir() and any(not path.name.endswith(PART) for path in where.iterdir())

    def remove(self, name: str) -> None:
        """Remove a file."""
        with _refusals(self.address):
            self._at(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def claimed(self, *parts: str) -> Iterator[None]:
        """Hold lock files, which the system lets go when the process dies."""
        with contextlib.ExitStack() as locks:
            with _refusals(self.address):
                (self.folder / ".ganaug").mkdir(parents=True, exist_ok=True)
                for part in parts:
                    lock = FileLock(self.folder / ".ganaug" / f"{part}.lock", timeout=0, thread_local=False)
                    try:
                        locks.enter_context(lock)
                    except Timeout as error:
                        raise _busy(self.address, part) from error
            self._own = f".{parts[0]}" if parts else ""
            yield

    def _at(self, name: str) -> Path:
        return self.folder / inside(name)

    def _opened(self, path: Path) -> Any:
        try:
            return path.open("wb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("wb")


class RemotePlace:
    """A folder of a file system that fsspec knows; object stores show a file when it is whole."""

    def __init__(self, address: str, files: Any, root: str) -> None:
        self._address, self._files, self._root = address, files, root

    @property
    def address(self) -> str:
        """Its address, without secrets."""
        return self._address

    def write(self, name: str, chunks: Sequence[Buffer]) -> None:
        """Put the whole content in one request."""
        with _refusals(self._address):
            self._files.pipe_file(self._at(name), b"".join(chunks))

    def read(self, name: str) -> bytes:
        """The content of a file."""
        self._files.invalidate_cache()
        content: bytes = self._files.cat_file(self._at(name))
        return content

    def sha256(self, names: Sequence[str]) -> tuple[int, str | None]:
        """Size of files; their hash would cost a download, and a put is whole or not there."""
        return sum(int(self._files.info(self._at(name))["size"]) for name in names), None

    def names(self, folder: str) -> list[str]:
        """Names of the files right in a folder, as they are now."""
        return sorted(
            entry["name"].rpartition("/")[2] for entry in self._list(folder) if entry["type"] == "file"
        )

    def holds(self, folder: str) -> bool:
        """Whether there is anything in a folder."""
        return bool(self._list(folder))

    def _at(self, name: str) -> str:
        return f"{self._root}/{inside(name)}"

    def _list(self, folder: str) -> list[Any]:
        self._files.invalidate_cache()
        with _refusals(self._address):
            try:
                found: list[Any] = self._files.ls(f"{self._root}/{folder}".rstrip("/"), detail=True)
            except FileNotFoundError:
                return []
        return found

    def remove(self, name: str) -> None:
        """Remove a file."""
        with _refusals(self._address), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))

    @contextlib.contextmanager
    def claimed(self, *parts: str) -> Iterator[None]:
        """Write who is at work into a file per part, and renew it while the block runs.

        Object stores have no locks. Of two that claim at the same moment the last writer
        stays; whoever stops renewing for `CLAIM_S` has died.
        """
        names, token = {f".ganaug/{part}.claim": part for part in parts}, secrets.token_hex(8)
        for name, part in names.items():
            other = self._claim(name)
            if other and _lives(other):
                raise _busy(
                    f"{self._address} (on {other['host']}; silent for {CLAIM_S:.0f} s, it counts as dead)",
                    part,
                )
        done = threading.Event()
        renewing = threading.Thread(target=self._keep, args=(list(names), token, done), daemon=True)
        try:
            for name in names:
                self._renew(name, token)
            time.sleep(_SETTLE_S)
            for name, part in names.items():
                if (self._claim(name) or {}).get("token") != token:
                    raise _busy(self._address, part)
            renewing.start()
            yield
        finally:
            done.set()
            if renewing.ident is not None:
                renewing.join()
            for name in names:
                with contextlib.suppress(OutputError):
                    if (self._claim(name) or {}).get("token") == token:
                        self.remove(name)

    def _claim(self, name: str) -> dict[str, Any] | None:
        with _refusals(self._address):
            try:
                claim: dict[str, Any] = json.loads(self.read(name))
            except (FileNotFoundError, ValueError):
                return None
        return claim

    def _renew(self, name: str, token: str) -> None:
        claim = {"token": token, "host": socket.gethostname(), "process": os.getpid(), "time": time.time()}
        self.write(name, [json.dumps(claim).encode()])

    def _keep(self, names: Sequence[str], token: str, done: threading.Event) -> None:
        while not done.wait(RENEW_S):
            for name in names:
                # A store that is away for a moment is the writer's trouble, not the claim's.
                with contextlib.suppress(OutputError):
                    self._renew(name, token)


def _lives(claim: dict[str, Any]) -> bool:
    """Whether who made a claim may still be at work: not long silent, and not a dead process of this machine."""
    if time.time() - float(claim["time"]) >= CLAIM_S:
        return False
    if claim["host"] != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(int(claim["process"]), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _busy(address: str, what: str) -> OutputError:
    return OutputError(
        f"another ganaug process is producing into {address} ({what}); wait for it, choose another folder, "
        "or let them share the work: --shard 1/2 for one and --shard 2/2 for the other"
    )


@contextlib.contextmanager
def _refusals(address: str) -> Iterator[None]:
    """Turn refusals to write into one clear error.

    Raises:
        OutputError: Full disk, forbidden folder, a store that does not answer.
    """
    try:
        yield
    except GanaugError:
        raise
    except Exception as error:
        # Stores raise classes of their own libraries, which share no base but this one.
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] in {
            "builtins",
            "ganaug",
        }:
            raise
        reason = without_secrets(str(getattr(error, "strerror", None) or error))
        raise OutputError(
            f"cannot write to {address}: {reason}. What is finished is kept: free the space, or mend the "
            "permissions or the connection, and give the same command again."
        ) from error
