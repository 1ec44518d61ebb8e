"""A store at an address, as `s3://bucket/models`.

Objects cannot be renamed, so a version is there when its card is: the number is claimed first, in a
way that only one can, graphs and pages follow, and the card is written last. Killed before it, a
publisher leaves a claim and files that nobody reads. A claim is never removed: no number is given twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ganaug.card import CARD_FILE, MAX_CARD_BYTES, GraphCard, ModelCard
from ganaug.errors import GanaugError, MissingExtraError, ModelError, OutputError
from ganaug.run import writing
from ganaug.store.conditional import FLAG, Conditional, written
from ganaug.store.names import POINTER_FILE
from ganaug.store.pointer import Pointer, read_pointer, write_pointer
from ganaug.store.shelf import STALE_S, Leftover

CLAIM_FILE = ".claim"
_BLOCK = 2**20


class RemoteShelf:
    """Models at an address that fsspec opens.

    Raises:
        MissingExtraError: fsspec, or its file system, is not installed.
        ModelError: The address cannot be understood.
    """

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        try:
            import fsspec

            self._files, root = fsspec.core.url_to_fs(self._address)
        except ImportError as error:
            raise MissingExtraError(f"a store at {address} ({error})", "remote") from error
        except (ValueError, OSError) as error:
            raise ModelError(f"cannot use the address {address}: {error}") from error
        self._root = root.rstrip("/")
        self._conditional = Conditional(self._files, self._root)

    @property
    def address(self) -> str:
        """Its address."""
        return self._address

    def names(self) -> list[str]:
        """Models that have a version."""
        with self._refusals("read"):
            self._files.invalidate_cache()
            try:
                found = self._files.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        folders = [
            entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "directory"
        ]
        return sorted(name for name in folders if not name.startswith(".") and self.versions(name))

    def versions(self, name: str) -> list[int]:
        """Versions whose card is there."""
        return sorted(version for version, files in self._by_version(name).items() if CARD_FILE in files)

    def read(self, name: str, file: str, most: int) -> bytes | None:
        """The first bytes of a file."""
        path = f"{self._root}/{name}/{file}"
        with self._refusals("read"):
            self._files.invalidate_cache()
            try:
                size = self._files.info(path)["size"]
                content: bytes = self._files.cat_file(
                    path, **({"start": 0, "end": most} if size > most else {})
                )
            except (FileNotFoundError, IsADirectoryError):
                return None
        return content

    def write(self, name: str, file: str, content: bytes) -> None:
        """Put the whole content in one request."""
        with self._refusals("write"):
            self._files.pipe_file(f"{self._root}/{name}/{file}", content)

    def files(self, name: str, folder: str) -> list[str]:
        """Names of the files in a folder."""
        with self._refusals("read"):
            self._files.invalidate_cache()
            try:
                found = self._files.ls(f"{self._root}/{name}/{folder}", detail=True)
            except FileNotFoundError:
                return []
        return sorted(entry["name"].rpartition("/")[2] for entry in found if entry["type"] == "file")

    def load_card(self, name: str, version: int) -> ModelCard:
        """The card of a version."""
        place = f"{self._address}/{name}/{version}"
        content = self.read(name, f"{version}/{CARD_FILE}", MAX_CARD_BYTES + 1)
        if content is None:
            raise ModelError(f"{place} is not a model: it has no {CARD_FILE}")
        with tempfile.TemporaryDirectory(prefix="ganaug-") as folder:
            (Path(folder) / CARD_FILE).write_bytes(content)
            try:
                return ModelCard.load(Path(folder))
            except ModelError as error:
                raise ModelError(str(error).replace(folder, place)) from error

    def check_graphs(self, name: str, version: int, card: ModelCard, *, hashes: bool) -> bool:
        """Check sizes; where it is asked for also hashes, by reading the graphs."""
        held = self._by_version(name).get(version, {})
        place = f"{self._address}/{name}/{version}"
        for graph in card.graphs:
            if graph.file not in held:
                raise ModelError(f"the card in {place} names the graph {graph.file}, which is not there")
            if (size := held[graph.file]["size"]) != graph.bytes:
                raise ModelError(
                    f"{place}/{graph.file} has {size} bytes, its card says {graph.bytes}: damaged or swapped"
                )
            if hashes and self._sha256(name, version, graph) != graph.sha256:
                raise ModelError(f"{place}/{graph.file} is another than its card says: damaged or swapped")
        return hashes

    def _sha256(self, name: str, version: int, graph: GraphCard) -> str:
        digest = hashlib.sha256()
        with self._refusals("read"):
            for start in range(0, graph.bytes, _BLOCK):
                path = f"{self._root}/{name}/{version}/{graph.file}"
                digest.update(self._files.cat_file(path, start=start, end=min(start + _BLOCK, graph.bytes)))
        return digest.hexdigest()

    def add(
        self,
        name: str,
        card: ModelCard,
        fill: Callable[[Path], None],
        finish: Callable[[Path, ModelCard], None],
    ) -> int:
        """Claim a number, put everything there but the card, and the card at last."""
        began = time.time()
        with tempfile.TemporaryDirectory(prefix="ganaug-") as made:
            with self._refusals("write"):
                version = self._claim(name)
            folder, numbered = Path(made), card.model_copy(update={"version": version})
            with writing(folder):
                fill(folder)
                numbered.save(folder)
                finish(folder, numbered)
            with self._refusals("write"):
                self._put(folder, f"{self._root}/{name}/{version}", began)
        return version

    def _put(self, folder: Path, there: str, began: float) -> None:
        for path in sorted(folder.iterdir()):
            if path.name != CARD_FILE:
                self._files.put_file(str(path), f"{there}/{path.name}")
        # Long before `gc` may take this for what a dead publisher left.
        is_late = not 0 <= time.time() - began < STALE_S / 2
        content = (folder / CARD_FILE).read_bytes()
        if is_late or not self._conditional.create(f"{there}/{CARD_FILE}", content):
            raise OutputError(
                f"publishing to {self._address} took too long, or the clock was set: give the same command again"
            )

    def _claim(self, name: str) -> int:
        version = max([*self._by_version(name), 0]) + 1
        content = json.dumps({"token": secrets.token_hex(16)}).encode()
        while not self._conditional.create(f"{self._root}/{name}/{version}/{CLAIM_FILE}", content):
            version += 1
        return version

    def change_pointer(self, name: str, change: Callable[[Pointer | None], Pointer]) -> None:
        """Read it, and replace it if nobody did in between."""
        path = f"{self._root}/{name}/{POINTER_FILE}"
        with self._refusals("write"):
            while True:
                content, tag = self._conditional.read(path)
                before = None
                with contextlib.suppress(ValueError):
                    before = read_pointer(content or b"")
                after = change(before)
                if after == before:
                    return
                # No two are alike: a store may tell them apart by a hash of their content.
                if self._conditional.swap(
                    path, content, tag, write_pointer(after, edit=secrets.token_hex(8))
                ):
                    return

    def size(self, name: str, version: int) -> int:
        """Bytes of a version."""
        files = self._by_version(name).get(version, {})
        return sum(entry["size"] for file, entry in files.items() if file != CLAIM_FILE)

    def remove(self, name: str, version: int) -> None:
        """Remove the card, and then all else but the claim."""
        with self._refusals("write"):
            self._remove_files(name, version, [CARD_FILE])
            self._remove_files(name, version, sorted(self._by_version(name).get(version, {})))

    def leftovers(self, name: str) -> list[Leftover]:
        """Files of versions without a card, and flags of writers, that nobody wrote to for long."""
        found = []
        with self._refusals("read"):
            now = self._conditional.now()
            groups = {
                str(version): files
                for version, files in self._by_version(name).items()
                if CARD_FILE not in files and set(files) - {CLAIM_FILE}
            }
            flags = self._list(name)
        groups |= {file: {file: entry} for file, entry in flags.items() if file.startswith(FLAG)}
        for path, files in sorted(groups.items()):
            if all(now - written(entry) > STALE_S for entry in files.values()):
                found.append(Leftover(path, sum(entry["size"] for entry in files.values())))
        return found

    def sweep(self, name: str, leftover: Leftover) -> None:
        """Remove it, but for the claim."""
        with self._refusals("write"):
            if leftover.path.isdigit():
                version = int(leftover.path)
                self._remove_files(name, version, sorted(self._by_version(name).get(version, {})))
            else:
                self._files.rm_file(f"{self._root}/{name}/{leftover.path}")

    def _remove_files(self, name: str, version: int, files: list[str]) -> None:
        for file in files:
            if file != CLAIM_FILE:
                with contextlib.suppress(FileNotFoundError):
                    self._files.rm_file(f"{self._root}/{name}/{version}/{file}")

    def _by_version(self, name: str) -> dict[int, dict[str, Any]]:
        """What lies below each number that was ever claimed."""
        found: dict[int, dict[str, Any]] = {}
        for file, entry in self._list(name).items():
            if match := re.fullmatch(r"([1-9]\d{0,8})/([^/]+)", file):
                found.setdefault(int(match[1]), {})[match[2]] = entry
        return found

    def _list(self, name: str) -> dict[str, dict[str, Any]]:
        """Everything below a model, as it is now."""
        home = f"{self._root}/{name}"
        with self._refusals("read"):
            self._files.invalidate_cache()
            found = self._files.find(home, detail=True)
            # Others who read here may not be told of it later.
            self._files.invalidate_cache()
        return {path.removeprefix(f"{home}/"): entry for path, entry in found.items()}

    @contextlib.contextmanager
    def _refusals(self, verb: str) -> Iterator[None]:
        try:
            yield
        except GanaugError:
            raise
        except Exception as error:
            # File systems raise classes of their own libraries, which share no base but this one.
            reason = str(error) or type(error).__name__
            kind = ModelError if verb == "read" else OutputError
            raise kind(
                f"cannot {verb} the store {self._address}: {reason}. Check the address, the connection and what "
                "the environment says of who you are."
            ) from error
