"""What is written down of a production: `production.json`, and what each part came to.

No times or machines stand there, so that the same images leave the same bytes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganaug.errors import OutputError, SettingsError
from ganaug.formats.container import DATA
from ganaug.places import Place, without_secrets
from ganaug.produce import manifest
from ganaug.produce.calibrate import Way
from ganaug.produce.finish import CARD_FILE
from ganaug.produce.manifest import PRODUCTION_FILE
from ganaug.produce.order import ClassOrder, Production
from ganaug.produce.source import Source
from ganaug.produce.stream import Layout
from ganaug.produce.tally import Tally, add

if TYPE_CHECKING:
    from ganaug.screen import Screener

FORMAT = 1
_MAY_CHANGE = {"wanted", "models", "max_tries", "license", "model", "title"}
"""More images, or other words, do not make what is there another production."""
_DECIDE_SHARDS = ("wanted", "max_tries")
"""What makes more, fewer or shorter shards of the same production."""


def identity_of(config: Production, source: Source, screener: Screener | None, way: Way) -> dict[str, Any]:
    """What determines the files, beside class, seed, truncation and layout."""
    return {
        "image_shape": list(source.image_shape),
        "screener_sha256": None if screener is None else screener.sha256,
        # The last bits of a pixel may depend on these; on a CPU they do not depend on the batch.
        "provider": "cuda" if source.on_gpu else "cpu",
        "gpu_batch": way.batch if source.on_gpu else None,
        "precision": config.precision,
        "tensorrt": config.tensorrt,
    }


def describe(
    config: Production,
    source: Source,
    layout: Layout,
    identity: Mapping[str, Any],
    orders: Sequence[ClassOrder],
) -> dict[str, Any]:
    """What `production.json` says; no times or machines, so that it is the same for the same images."""
    made_by = without_secrets(config.model) if config.images is None else config.images.name
    return {
        "format": FORMAT,
        "title": f"Synthetic images {'by' if config.images is None else 'from'} {Path(made_by).name}",
        "license": config.license,
        "model": made_by,
        "models": {order.class_name: source.model(order.class_name) for order in orders},
        "class_names": list(source.class_names),
        "seed": source.seed,
        "truncation": source.truncation,
        "layout": asdict(layout),
        "identity": dict(identity),
        "parts": config.parts,
        "until_kept": config.until_kept,
        "max_tries": config.max_tries,
        "wanted": {order.class_name: order.wanted for order in orders},
    }


def begin(place: Place, about: Mapping[str, Any]) -> None:
    """Say what is being made here, unless it is something else.

    Raises:
        SettingsError: Another production lies here.
    """
    old = read_json(place, PRODUCTION_FILE)
    if old is not None:
        differ = [
            f"{key}: {_short(old.get(key))} there, {_short(value)} asked"
            for key, value in about.items()
            if key not in _MAY_CHANGE and old.get(key) != value
        ]
        with _readable(place, PRODUCTION_FILE):
            differ += _other_models(old, about)
        if differ:
            raise SettingsError(
                [
                    f"{place.address} holds another production ({'; '.join(differ)}); choose another --out, "
                    "or delete that folder"
                ]
            )
    elif place.holds(DATA) or place.holds(manifest.FOLDER) or CARD_FILE in place.names(""):
        raise SettingsError(
            [f"{place.address} has files in it and is not a production of ganaug; choose another --out"]
        )
    is_new = old is None or any(old.get(key) != about[key] for key in _DECIDE_SHARDS)
    if is_new or (old or {}).get("state") == "finished":
        write_json(place, PRODUCTION_FILE, {**about, "state": "unfinished"})


def _other_models(old: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """Classes that another graph made; a model may have moved or have another name."""
    there = {name: model["sha256"] for name, model in old.get("models", {}).items()}
    asked = {name: model["sha256"] for name, model in about["models"].items()}
    return [
        f"model of {name}: {there[name][:12]} there, {asked[name][:12]} asked"
        for name in there.keys() & asked.keys()
        if there[name] != asked[name]
    ]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def part_name(part: int, parts: int) -> str:
    """What a part, from 0, is called: its claim and its account.

    >>> part_name(2, 16)
    'part-00003-of-00016'
    """
    return f"part-{part + 1:05d}-of-{parts:05d}"


def end_part(
    place: Place, part: int, parts: int, about: Mapping[str, Any], done: Mapping[str, Tally]
) -> None:
    """Write down what a part came to."""
    tree = {
        "wanted": about["wanted"],
        "max_tries": about["max_tries"],
        "classes": {name: tally.plain() for name, tally in done.items()},
    }
    write_json(place, f".ganaug/{part_name(part, parts)}.json", tree)


def all_parts(place: Place, parts: int, about: Mapping[str, Any]) -> dict[str, Tally] | None:
    """What became of each class over all parts; nothing while one is not done."""
    total: dict[str, Tally] = {}
    for part in range(parts):
        tree = read_json(place, f".ganaug/{part_name(part, parts)}.json")
        if tree is None or any(tree.get(key) != about[key] for key in _DECIDE_SHARDS):
            return None
        with _readable(place, f".ganaug/{part_name(part, parts)}.json"):
            add(total, {name: Tally.of(plain) for name, plain in tree["classes"].items()})
    return total


def read_json(place: Place, name: str) -> dict[str, Any] | None:
    """Read one of these files; nothing when there is none.

    Raises:
        OutputError: It is damaged.
    """
    with _readable(place, name):
        try:
            tree = json.loads(place.read(name))
        except FileNotFoundError:
            return None
    return tree if isinstance(tree, dict) else None


@contextlib.contextmanager
def _readable(place: Place, name: str) -> Iterator[None]:
    """Say of a file that is not as it was written what to do with it.

    Raises:
        OutputError: It is damaged.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise OutputError(
            f"{place.address}/{name} is damaged ({error!r}); delete it and give the command again"
        ) from error


def write_json(place: Place, name: str, tree: Mapping[str, Any]) -> None:
    """Write one of these files."""
    place.write(name, [(json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode()])
