"""A program: what several processes do to one store at once.

    python at_once.py publish STORE MODEL COUNT      prints each version
    python at_once.py promote STORE MODEL COUNT      gives all versions aliases in turn, prints each
    python at_once.py read STORE MODEL               until its input ends; prints how many it read

`flags` behind it: as if the store knew no conditional writes.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.stores import ask

from ganaug import card, store
from ganaug.store.conditional import Conditional


def publish(place: Path | str, model: Path, count: int) -> None:
    """Publish `count` versions; for ever when it is 0."""
    done = 0
    while not count or done < count:
        _tell(store.publish(model, place, "pets"))
        done += 1


def promote(place: Path | str, count: int) -> None:
    """Move aliases of one's own, so that each changes the pointer."""
    for number in range(count):
        _tell(store.promote(place, "pets", 1, to=f"own-{sys.argv[4]}-{number}")[0])


def read(place: Path | str) -> None:
    """Resolve, list and verify until told to stop; the last version never goes back."""
    told, last, reads = threading.Event(), 0, 0
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
    _tell("reading")
    while not told.is_set():
        version = _look(place)
        assert version >= last, f"{version} after {last}"
        last, reads = version, reads + (version > 0)
    _tell(reads)


def _look(place: Path | str) -> int:
    """The version in production; 0 before there is one."""
    listed = store.list_models(place, hashes=True)
    problems = [entry.problem for entry in listed if entry.problem]
    assert not problems, problems
    if not any(entry.is_current for entry in listed):
        return 0
    found: card.ModelCard = ask(place, "pets")
    assert found.version is not None
    return found.version


def _tell(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    """One of the three."""
    verb, where, model = sys.argv[1:4]
    place = where if "://" in where else Path(where)
    if "flags" in sys.argv:
        Conditional._native = lambda self: False  # type: ignore[method-assign]
    if verb == "publish":
        publish(place, Path(model), int(sys.argv[4]))
    elif verb == "promote":
        promote(place, int(sys.argv[5]))
    else:
        read(place)


if __name__ == "__main__":
    main()
