"""The history of a model: who moved what, when, and of which run it was.

Each event is a file of its own, so that writing one changes no other. It is a log, not what the
store goes by: an event whose writer is killed before it is missing, and nothing else is wrong.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from ganaug.errors import ModelError
from ganaug.store.names import HISTORY, STORE
from ganaug.store.shelf import Shelf, known_versions, open_shelf

WHO = "GANAUG_WHO"
"""Environment variable: who is named in the history; else user@host."""
What = Literal["publish", "promote", "rollback", "gc"]
_MAX_EVENT_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Event:
    """Something that was done to a model.

    Attributes:
        when: Time in UTC, ISO 8601, by the clock of whoever did it.
        who: user@host, or what `$GANAUG_WHO` said.
        what: publish, promote, rollback or gc.
        version: The version that it was done to.
        alias: The alias that was moved to it; empty when none was.
        before: The version that had the alias before.
        run: What is known of the run that it is from.
    """

    when: str
    who: str
    what: What
    version: int
    alias: str = ""
    before: int | None = None
    run: Mapping[str, Any] = field(default_factory=dict)


def history(name: str, store: Path | str = STORE) -> list[Event]:
    """Everything that was done to a model, oldest first; what cannot be read is left out.

    Raises:
        MissingExtraError, ModelError: There is no such model, or its store cannot be read.
    """
    shelf = open_shelf(store)
    known_versions(shelf, name)
    return events(shelf, name)


def events(shelf: Shelf, name: str) -> list[Event]:
    """The events of a model, oldest first."""
    found = []
    for file in shelf.files(name, HISTORY):
        content = shelf.read(name, f"{HISTORY}/{file}", _MAX_EVENT_BYTES) if file.endswith(".json") else None
        if content is not None and (event := _read(content)) is not None:
            found.append((event.when, event.version, file, event))
    return [event for *_, event in sorted(found, key=lambda entry: entry[:3])]


def record(
    shelf: Shelf,
    name: str,
    what: What,
    version: int,
    *,
    alias: str = "",
    before: int | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Write an event.

    Raises:
        OutputError: The store cannot be written.
    """
    now = datetime.now(UTC)
    event = Event(
        now.isoformat(timespec="milliseconds"), who(), what, version, alias, before, dict(run or {})
    )
    file = f"{now:%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(4)}.json"
    content = json.dumps(asdict(event), indent=2, ensure_ascii=False) + "\n"
    shelf.write(name, f"{HISTORY}/{file}", content.encode())


def who() -> str:
    """Who is named in the history."""
    if said := os.environ.get(WHO, "").strip():
        return said[:200]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # In a container the user may have no name.
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"


def _read(content: bytes) -> Event | None:
    try:
        tree = json.loads(content)
        event = Event(**tree)
    except (ValueError, TypeError, RecursionError):
        return None
    whole = (
        isinstance(event.when, str)
        and isinstance(event.who, str)
        and event.what in get_args(What)
        and type(event.version) is int
        and isinstance(event.alias, str)
        and (event.before is None or type(event.before) is int)
        and isinstance(event.run, dict)
    )
    return event if whole else None


def production_before(shelf: Shelf, name: str, current: int | None) -> int:
    """The version that was in production before the one that is, by the history.

    A rollback is no new state: after one from 3 to 2, what came before 2 is what came before it then.

    Raises:
        ModelError: The history does not say, or the version is gone.
    """
    versions = shelf.versions(name)
    if current is None:
        raise ModelError(
            f"no version of {name!r} is in production, so there is nothing to go back from; it has "
            f"{', '.join(map(str, versions))}: `ganaug promote {name}@{versions[-1]}` puts one there"
        )
    came = [
        event
        for event in events(shelf, name)
        if event.alias == "production" and event.version == current and event.what in {"publish", "promote"}
    ]
    before = came[-1].before if came else None
    if before is None or before not in versions:
        why = "is no longer there" if before is not None else "is not known from its history"
        raise ModelError(
            f"which version of {name!r} was in production before {current} {why}. It has "
            f"{', '.join(map(str, versions))}: say which, as `ganaug rollback {name} --to {versions[0]}`."
        )
    return before
