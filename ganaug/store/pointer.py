"""The pointer: which version of a model is in production, and which other aliases name one.

It is one small file, and all that ever changes in a store; whatever moves an alias replaces it whole.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from ganaug.errors import ModelError
from ganaug.store.names import CANDIDATE, PRODUCTION, is_alias

MAX_POINTER_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Pointer:
    """Versions by alias.

    Attributes:
        version: The one in production; None before any was promoted.
        aliases: Versions of all other aliases.
        removing: Versions that `gc` is removing: no alias may be moved to them any more.
    """

    version: int | None = None
    aliases: Mapping[str, int] = field(default_factory=dict)
    removing: frozenset[int] = frozenset()

    @property
    def named(self) -> dict[str, int]:
        """Every alias with its version, production first."""
        production = {} if self.version is None else {PRODUCTION: self.version}
        return {**production, **dict(sorted(self.aliases.items()))}

    def names_of(self, version: int) -> tuple[str, ...]:
        """Aliases of a version."""
        return tuple(alias for alias, its in self.named.items() if its == version)

    def moved(self, alias: str, version: int) -> Pointer:
        """With an alias at a version."""
        if alias == PRODUCTION:
            return replace(self, version=version)
        return replace(self, aliases={**self.aliases, alias: version})

    def published(self, version: int, *, promote: bool) -> Pointer:
        """With a version that was just published as candidate, and in production if it is promoted.

        Of two who publish at once the one with the lower number may come here last, and changes nothing.
        """
        moved = self
        for alias in (CANDIDATE, PRODUCTION) if promote else (CANDIDATE,):
            if version > self.named.get(alias, 0):
                moved = moved.moved(alias, version)
        return moved


def read_pointer(content: bytes) -> Pointer:
    """Understand a pointer file.

    Raises:
        ValueError: It is damaged.
    """
    if len(content) > MAX_POINTER_BYTES:
        raise ValueError(f"it is larger than {MAX_POINTER_BYTES} bytes")
    try:
        tree = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    try:
        aliases, removing = dict(tree.get("aliases", {})), list(tree.get("removing", []))
        version = tree.get("version")
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(_damage(tree)) from error
    numbers = [*aliases.values(), *removing, *([] if version is None else [version])]
    names = all(is_alias(alias) and alias != PRODUCTION for alias in aliases)
    if not numbers or not names or not all(type(number) is int and number >= 1 for number in numbers):
        raise ValueError(_damage(tree))
    return Pointer(version, aliases, frozenset(removing))


def write_pointer(pointer: Pointer, **more: str) -> bytes:
    """The content of a pointer file; `more` is for whoever stores it, and nobody else reads it.

    Raises:
        ModelError: It has become too large.
    """
    tree: dict[str, object] = {}
    if pointer.version is not None:
        tree["version"] = pointer.version
    if pointer.aliases:
        tree["aliases"] = dict(sorted(pointer.aliases.items()))
    if pointer.removing:
        tree["removing"] = sorted(pointer.removing)
    content = json.dumps({**tree, **more}).encode()
    if len(content) > MAX_POINTER_BYTES:
        raise ModelError(f"a model can have {MAX_POINTER_BYTES} bytes of aliases and no more; remove some")
    return content


def version_of(
    pointer: Pointer | None, asked: int | str | None, place: str, versions: Collection[int] = ()
) -> int:
    """The version that a suffix means.

    Args:
        pointer: The model's pointer; None when it has none.
        asked: A version, an alias, or None for production.
        place: The model, for the message.
        versions: Those that there are, for the message.

    Raises:
        ModelError: The alias names none.
    """
    if isinstance(asked, int):
        return asked
    named = pointer.named if pointer is not None else {}
    if (version := named.get(asked or PRODUCTION)) is not None:
        return version
    known = ", ".join(f"{alias} {its}" for alias, its in named.items()) or "none"
    there = f"; versions: {', '.join(map(str, versions))}" if versions else ""
    name = place.rstrip("/").rpartition("/")[2]
    what = f"alias {asked!r}" if asked else "current version"
    raise ModelError(
        f"{place} has no {what} (aliases: {known}{there}). Ask for a version, as {name}@1, or give one the alias "
        f"with `ganaug promote {name}@1{'' if asked in {None, PRODUCTION} else f' --to {asked}'}`."
    )


def _damage(tree: object) -> str:
    return f'it holds {str(tree)[:200]}, not {{"version": number, "aliases": {{"candidate": number}}}}'
