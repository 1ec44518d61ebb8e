"""A store in a folder of this machine.

A version is written beside and renamed into place, which fails for all but one of those who want
the same number; the pointer is replaced in one step, under a lock that the system lets go when its
holder dies. Killed anywhere, the store is as it was or as it was to become.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ganaug import card as cards
from ganaug.card import ModelCard
from ganaug.errors import ModelError, OutputError
from ganaug.run import writing
from ganaug.store.names import POINTER_FILE
from ganaug.store.pointer import MAX_POINTER_BYTES, Pointer, read_pointer, write_pointer
from ganaug.store.shelf import STALE_S, Leftover

_LOCK_FILE = ".lock"
_INCOMING = ".incoming-"
_LOCK_S = 60


class LocalShelf:
    """A folder of models; it need not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def address(self) -> str:
        """Its path."""
        return str(self._folder)

    def names(self) -> list[str]:
        """Models that have a version."""
        return sorted(home.name for home in self._folder.glob("*") if self.versions(home.name))

    def versions(self, name: str) -> list[int]:
        """Numbers that lie there; what a folder of one holds may be damaged."""
        return versions_in(self._folder / name)

    def read(self, name: str, file: str, most: int) -> bytes | None:
        """The first bytes of a file."""
        path = self._folder / name / file
        try:
            with path.open("rb") as opened:
                return opened.read(most)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error

    def write(self, name: str, file: str, content: bytes) -> None:
        """Write beside and rename."""
        home = self._folder / name
        with writing(home):
            (home / file).parent.mkdir(parents=True, exist_ok=True)
            beside = home / f"{_INCOMING}{_own()}"
            try:
                write_synced(beside, content)
                beside.replace(home / file)
            finally:
                beside.unlink(missing_ok=True)
            _sync((home / file).parent)

    def files(self, name: str, folder: str) -> list[str]:
        """Names of the files in a folder."""
        where = self._folder / name / folder
        return sorted(path.name for path in where.iterdir() if path.is_file()) if where.is_dir() else []

    def load_card(self, name: str, version: int) -> ModelCard:
        """The card of a version."""
        return ModelCard.load(self._folder / name / str(version))

    def check_graphs(self, name: str, version: int, card: ModelCard, *, hashes: bool) -> bool:  # noqa: ARG002
        """Check sizes and hashes, which costs little here."""
        for graph in card.graphs:
            cards.read_graph(self._folder / name / str(version), graph)
        return True

    def add(
        self,
        name: str,
        card: ModelCard,
        fill: Callable[[Path], None],
        finish: Callable[[Path, ModelCard], None],
    ) -> int:
        """Write a version beside, and rename it to the next free number."""
        home = self._folder / name
        with writing(home):
            home.mkdir(parents=True, exist_ok=True)
            for leftover in self.leftovers(name):
                self.sweep(name, leftover)
            incoming = home / f"{_INCOMING}{_own()}"
            incoming.mkdir()
            try:
                fill(incoming)
                return self._claim(incoming, home, card, finish)
            finally:
                shutil.rmtree(incoming, ignore_errors=True)

    def _claim(
        self, incoming: Path, home: Path, card: ModelCard, finish: Callable[[Path, ModelCard], None]
    ) -> int:
        while True:
            version = max([*versions_in(home), 0]) + 1
            numbered = card.model_copy(update={"version": version})
            numbered.save(incoming)
            finish(incoming, numbered)
            _sync(incoming)
            try:
                # Renaming onto a folder that has files in it fails: the number is taken.
                incoming.rename(home / str(version))
            except OSError:
                if not (home / str(version)).exists():
                    raise
                continue
            _sync(home)
            return version

    def change_pointer(self, name: str, change: Callable[[Pointer | None], Pointer]) -> None:
        """Read and replace it under the lock."""
        home = self._folder / name
        with writing(home), _locked(home):
            before, content = None, self.read(name, POINTER_FILE, MAX_POINTER_BYTES + 1)
            # One that cannot be read at all is an error: its aliases would be lost.
            with contextlib.suppress(ValueError):
                before = read_pointer(content or b"")
            after = change(before)
            if after != before:
                self.write(name, POINTER_FILE, write_pointer(after))

    def size(self, name: str, version: int) -> int:
        """Bytes of a version."""
        return _size(self._folder / name / str(version))

    def remove(self, name: str, version: int) -> None:
        """Rename a version away, and then remove it."""
        home = self._folder / name
        aside = home / f"{_INCOMING}{_own()}"
        # Another `gc` may be quicker.
        with writing(home), contextlib.suppress(FileNotFoundError):
            (home / str(version)).rename(aside)
            _sync(home)
            shutil.rmtree(aside)

    def leftovers(self, name: str) -> list[Leftover]:
        """What was written beside, long ago."""
        found = []
        for path in sorted((self._folder / name).glob(f"{_INCOMING}*")):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_S:
                    found.append(Leftover(path.name, _size(path)))
        return found

    def sweep(self, name: str, leftover: Leftover) -> None:
        """Remove it."""
        path = self._folder / name / leftover.path
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def versions_in(home: Path) -> list[int]:
    """Numbers of the versions that lie in a model's folder, ascending."""
    if not home.is_dir():
        return []
    return sorted(int(path.name) for path in home.iterdir() if re.fullmatch(r"[1-9]\d{0,8}", path.name))


def write_synced(path: Path, content: bytes) -> None:
    """Write a file that outlasts a power cut."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _own() -> str:
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _sync(folder: Path) -> None:
    """Make renames in a folder last through a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    try:
        with FileLock(home / _LOCK_FILE, timeout=_LOCK_S):
            yield
    except Timeout as error:
        raise OutputError(
            f"another process has held {home / _LOCK_FILE} for {_LOCK_S} s; end it and give the command again"
        ) from error
