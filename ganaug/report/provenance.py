"""How a run can be made again: its command, versions, seeds and hashes."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import ganaug
from ganaug.config import Config, Section, describe, load
from ganaug.run import RunFolder, StepRecord

PACKAGES = ("numpy", "pandas", "scikit-learn", "albumentations", "torch", "onnx", "prefect")
"""Packages whose versions can change a result; the runtime is looked up under both its names."""


@dataclass(frozen=True)
class ModelHash:
    """One exported graph: the part it serves, its file, SHA-256 and size."""

    part: str
    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Provenance:
    """What it takes to make the run again.

    Attributes:
        command: The shell command.
        changed: Settings that differ from the defaults, as (dotted name, value, default).
        settings: All settings, as YAML with their descriptions.
        versions: (package, version).
        seeds: (setting, value).
        fingerprint: Identity of the dataset as it was read.
        models: The exported graphs.
    """

    command: str
    changed: tuple[tuple[str, str, str], ...]
    settings: str
    versions: tuple[tuple[str, str], ...]
    seeds: tuple[tuple[str, str], ...]
    fingerprint: str
    models: tuple[ModelHash, ...]


def read_provenance(run: RunFolder, config: Config, records: Sequence[StepRecord]) -> Provenance:
    """Gather what makes the run repeatable.

    Args:
        run: The run folder.
        config: Its settings.
        records: Its finished steps.
    """
    made_with = sorted({record.ganaug for record in records if record.ganaug})
    changed = _differences(config, Config())
    return Provenance(
        command=command(config),
        changed=tuple((name, _yaml(value), _yaml(default)) for name, value, default in changed),
        settings=describe(config),
        versions=(("ganaug", ", ".join(made_with) or ganaug.__version__), *_versions()),
        seeds=(
            ("split.seed", str(config.split.seed)),
            ("train.seed", str(config.train.seed)),
            ("produce.seed", str(config.produce.seed)),
            (
                "evaluate.seeds",
                f"{config.evaluate.chosen_seeds} (numbers 0 to {config.evaluate.chosen_seeds - 1})",
            ),
        ),
        fingerprint=run.fingerprint,
        models=tuple(_models(run)),
    )


def command(config: Config) -> str:
    """The `ganaug run` command that has these settings.

    >>> command(load(None, {"train.steps": 500}))
    'ganaug run --train.steps 500'
    """
    data = config.data.path
    # Compared with what the bare command would do, which for the bundled digits is not all defaults.
    options = [
        f"--{name.replace('_', '-')} {shlex.quote(_yaml(value))}"
        for name, value, _ in _differences(config, load(None, data=data))
    ]
    return " ".join(["ganaug run", *([shlex.quote(str(data))] if data is not None else []), *options])


def _differences(config: Section, other: Section, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted name, value here, value there) of every field that differs."""
    found: list[tuple[str, Any, Any]] = []
    for name in type(config).model_fields:
        here, there = getattr(config, name), getattr(other, name)
        if isinstance(here, Section):
            found += _differences(here, there, f"{prefix}{name}.")
        elif here != there:
            found.append((prefix + name, here, there))
    return found


def _yaml(value: Any) -> str:
    """A value as it is typed on the command line: YAML on one line."""
    plain = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=100_000)
    return text.removesuffix("\n...\n").strip()


def _versions() -> list[tuple[str, str]]:
    found = [("Python", platform.python_version())]
    for package in (*PACKAGES, "onnxruntime", "onnxruntime-gpu"):
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return found


def _models(run: RunFolder) -> list[ModelHash]:
    """The graphs of every exported generator, from their cards."""
    models = []
    for path in sorted(run.path("export").glob("*/card.json")):
        tree = json.loads(path.read_text(encoding="utf-8"))
        models += [
            ModelHash(path.parent.name, str(graph["file"]), str(graph["sha256"]), int(graph["bytes"]))
            for graph in tree.get("graphs", [])
        ]
    return models
