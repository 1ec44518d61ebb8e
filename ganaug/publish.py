"""The gate: a model version reaches the store only when its verdict allows it.

A refusal is a result, not a failure: the earlier version stays current, and the reason says what
it takes. Who wants a failure asks for it (`publish.require_gain`), and gets it when all is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ganaug import store
from ganaug.card import ModelCard
from ganaug.config import PublishConfig
from ganaug.errors import NotPublishedError
from ganaug.hub_card import UNKNOWN
from ganaug.model_page import write_model_page
from ganaug.model_readme import README_FILE, SAMPLES_FILE

PUBLISH_FILE = "publish.json"


def publish_model(
    folders: Sequence[Path],
    verdict: Mapping[str, Any],
    store_folder: Path | str,
    name: str,
    out: Path,
    *,
    accept: str = "helps",
    license: str = UNKNOWN,  # noqa: A002 - what the setting is called
    source: str = "",
    rejected: str = "",
    promote: Literal["auto", "manual"] = "auto",
    sign_with: Path | None = None,
    run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Publish exported generators as one model version, if the verdict allows it.

    A class's own generator whose images were refused before the arena was not measured, and is left out.

    Args:
        folders: Export folders, the base first.
        verdict: What `evaluate` left in `verdict.json`.
        store_folder: The model store, a folder or an address.
        name: Name of the model in the store.
        out: Folder of the step; gets `publish.json`.
        accept: `helps`: nothing else ships; `no difference`: that ships too.
        license: Licence of the model for its README.md.
        source: Where the real images are from, in a sentence for its README.md.
        rejected: That a review rejected the images, in words; then nothing is published.
        promote: auto: the version goes into production; manual: it is the candidate, until somebody
            promotes it.
        sign_with: Secret key that its card is signed with.
        run: What is known of the run, for the store's history; verdict and reason are added.

    Returns:
        `published`, `version`, `path`, `current` (the version in production now, None without any)
        and the `reason` in words.

    Raises:
        MissingExtraError: The store's address, or signing, needs packages that are not installed.
        ModelError: A generator is missing or damaged, or the key cannot be used.
        OutputError: The store cannot be written.
    """
    result: dict[str, Any] = {"published": False, "version": None, "path": None}
    obstacle = f"the images were {rejected}" if rejected else _obstacle(verdict, accept)
    if obstacle:
        current = store.aliases(store_folder, name).get(store.PRODUCTION)
        stays = f"version {current} of {name!r} stays current" if current else "nothing was published before"
        result |= {"current": current, "reason": f"not published: {obstacle} ({stays})."}
    else:
        refused = _refused(verdict)
        measured = [folder for folder in folders if not _makes_only(folder, refused)]
        without = f"; without own generators of {', '.join(refused)}, which were refused" if refused else ""
        reason = f"published: the verdict is {verdict['verdict']!r}{without}"
        to = _Target(
            store_folder,
            name,
            partial(write_model_page, license=license, source=source),
            promote == "auto",
            sign_with,
            {**(run or {}), "verdict": verdict["verdict"], "reason": reason},
        )
        version = _publish(measured, verdict, to, out / "model")
        current = store.aliases(store_folder, name).get(store.PRODUCTION)
        if promote == "manual" and current != version:
            reason += f"; it is the candidate: `ganaug promote {name}@{version} --store {store_folder}` is left to you"
        result |= {
            "published": True,
            "version": version,
            "path": f"{store_folder.as_posix() if isinstance(store_folder, Path) else store_folder}/{name}/{version}",
            "current": current,
            "reason": reason,
        }
    (out / PUBLISH_FILE).write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result


def fail_without_gain(result: Mapping[str, Any], config: PublishConfig) -> None:
    """Make a refusal a failure where the settings ask for that; to be called when all is written.

    Args:
        result: What `publish_model` returned.
        config: The settings.

    Raises:
        NotPublishedError: `require_gain` is set, and nothing was published.
    """
    if config.require_gain and not result["published"]:
        raise NotPublishedError(result["reason"])


def _obstacle(verdict: Mapping[str, Any], accept: str) -> str:
    """Why this verdict does not ship, and what it takes; empty when it does."""
    answer = verdict["verdict"]
    if not verdict["after"]:
        # Whatever the verdict says: what was not compared has shown nothing.
        return _nothing_compared(verdict)
    if answer == "helps" or answer == accept == "no difference":
        return ""
    return f"{_WHY.get(answer, f'the verdict is {answer!r}')}. {_TAKES.get(answer, _BETTER_IMAGES)}"


_BETTER_IMAGES = (
    "To ship, the images must be better: train longer (train.steps), give more real images, or train on a GPU"
)
_WHY = {
    "hurts": "on real held-out images the synthetic images made things worse",
    "no difference": "on real held-out images the synthetic images made no difference that matters, and "
    "publish.accept asks for a gain",
    "cannot tell": "these data cannot tell whether the synthetic images help",
}
_TAKES = {
    "no difference": f"{_BETTER_IMAGES}; or ask for less with --publish.accept 'no difference'",
    "cannot tell": "To ship, the whole interval of the difference must lie above zero: more test images "
    "(split.test_share), classifier seeds (evaluate.seeds) or splits (evaluate.splits) make it narrower, better images "
    "move it",
}


def _nothing_compared(verdict: Mapping[str, Any]) -> str:
    if refused := _refused(verdict):
        rates = [rate for rate in verdict["label_rates"] if rate["is_refused"]]
        shares = ", ".join(f"{rate['class_name']} {rate['right_label']:.0%}" for rate in rates)
        return (
            f"the images of {', '.join(refused)} were refused before the arena, because too few are of their class "
            f"({shares}; evaluate.min_right_label asks for {rates[0]['limit']:.0%}), and no others were left to "
            f"compare. {_BETTER_IMAGES}"
        )
    return (
        "no arm with synthetic images was compared, so nothing was measured. To ship, the screen must keep "
        "images (the report says why it rejected them) and evaluate.arms must hold an arm that uses them"
    )


def _refused(verdict: Mapping[str, Any]) -> list[str]:
    """Classes whose images were refused before the arena; older verdicts know of none."""
    return [str(rate["class_name"]) for rate in verdict.get("label_rates", ()) if rate["is_refused"]]


def _makes_only(folder: Path, refused: Sequence[str]) -> bool:
    return bool(refused) and all(
        set(graph.classes) <= set(refused) for graph in ModelCard.load(folder).graphs
    )


@dataclass(frozen=True)
class _Target:
    """Where a model goes, and how."""

    store: Path | str
    name: str
    page: Callable[[Path, ModelCard], None]
    promote: bool
    sign_with: Path | None
    run: Mapping[str, Any]


def _publish(folders: Sequence[Path], verdict: Mapping[str, Any], to: _Target, model: Path) -> int:
    shutil.rmtree(model, ignore_errors=True)
    metrics = {key: verdict[key] for key in ("difference", "low", "high") if verdict.get(key) is not None}
    card = store.assemble_model(folders, model, name=to.name, verdict=verdict["verdict"], metrics=metrics)
    # A run that was killed after publishing adds none.
    known = store.version_with(to.store, to.name, card)
    if known is None:
        version = store.publish(
            model, to.store, to.name, to.page, promote=to.promote, sign_with=to.sign_with, run=to.run
        )
    else:
        version = known[0]
        _renew(model, *known, to)
    shutil.rmtree(model)
    return version


def _renew(model: Path, version: int, card: ModelCard, to: _Target) -> None:
    """What may have been asked for anew of a version that stays as it is: its page, signature and aliases."""
    to.page(model, card)
    pages = {file: (model / file).read_bytes() for file in (README_FILE, SAMPLES_FILE)}
    store.put_beside(to.store, to.name, version, pages)
    if to.sign_with is not None:
        store.sign(f"{to.name}@{version}", to.sign_with, to.store)
    store.announce(to.store, to.name, version, promote=to.promote, run=to.run)
