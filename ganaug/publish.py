"""The gate: a model version reaches the store only when its images did no harm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganaug import store
from ganaug.card import ModelCard

PUBLISH_FILE = "publish.json"


def publish_model(
    folders: Sequence[Path], verdict: Mapping[str, Any], store_folder: Path, name: str, out: Path
) -> dict[str, Any]:
    """Publish exported generators as one model version, unless its images did harm or none was kept.

    Args:
        folders: Export folders, the base first.
        verdict: What `evaluate` left in `verdict.json`.
        store_folder: The model store.
        name: Name of the model in the store.
        out: Folder of the step; gets `publish.json`.

    Returns:
        `published`, `version`, `path` and the `reason` in words.
    """
    result: dict[str, Any] = {"published": False, "version": None, "path": None}
    if verdict["verdict"] == "hurts":
        result["reason"] = "not published: on real held-out images the synthetic images made things worse"
    elif not verdict["after"]:
        result["reason"] = "not published: no synthetic image was kept, so nothing could be measured"
    else:
        model = out / "model"
        shutil.rmtree(model, ignore_errors=True)
        metrics = {key: verdict[key] for key in ("difference", "low", "high") if verdict.get(key) is not None}
        card = store.assemble_model(folders, model, name=name, verdict=verdict["verdict"], metrics=metrics)
        version = _version_of(card, store_folder, name) or store.publish(model, store_folder, name)
        shutil.rmtree(model)
        result |= {
            "published": True,
            "version": version,
            "path": (store_folder / name / str(version)).as_posix(),
            "reason": f"published: the verdict is {verdict['verdict']!r}, which is not worse",
        }
    (out / PUBLISH_FILE).write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result


def _version_of(card: ModelCard, store_folder: Path, name: str) -> int | None:
    """The current version, if it is this very model: a run that was killed after publishing adds none."""
    for stored in store.list_models(store_folder):
        if stored.name == name and stored.is_current and stored.card is not None and stored.problem is None:
            same = {graph.sha256 for graph in stored.card.graphs} == {graph.sha256 for graph in card.graphs}
            return stored.version if same else None
    return None
