"""Model stores of tests: in a folder, at a real S3 server, in memory; and what lies in them."""

from __future__ import annotations

from pathlib import Path

import fsspec

from ganaug import card, store


class Held:
    """The files of a store as they lie there, below its root."""

    def __init__(self, place: Path | str) -> None:
        self._files, self._root = fsspec.core.url_to_fs(str(place))

    def read(self, file: str) -> bytes:
        """A file's content."""
        return self._files.cat_file(f"{self._root}/{file}")

    def write(self, file: str, content: bytes) -> None:
        """Write it, whatever was there."""
        self._files.makedirs(f"{self._root}/{file}".rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(f"{self._root}/{file}", content)

    def remove(self, file: str) -> None:
        """Remove it."""
        self._files.rm_file(f"{self._root}/{file}")

    def tree(self) -> dict[str, bytes]:
        """Every file but locks."""
        self._files.invalidate_cache()
        root = self._root.rstrip("/")
        return {
            name.removeprefix(f"{root}/"): self._files.cat_file(name)
            for name in self._files.find(root)
            if not name.endswith("/.lock")
        }


def ask(place: Path | str, name: str) -> card.ModelCard:
    """The card of a model that a reader finds, whole and verified."""
    if isinstance(place, Path):
        return store.verify(name, place)
    return card.verify(store.resolve(f"{place}/{name}"))
