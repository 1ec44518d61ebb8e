"""From torch to ONNX: one self-contained graph per generator, proved against torch, with a card.

Scaling, rounding, clipping and layout are inside the graph: uint8 NHWC leaves it, ready to be
written, and a quarter of the bytes cross from the device. Nothing is written before the graph
has made the same images as torch.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import ganaug
from ganaug.card import CARD_FILE, Kind, ModelCard, describe_graph, graph_metadata, now
from ganaug.config import ExportConfig
from ganaug.errors import ParityError
from ganaug.latents import draw
from ganaug.run import writing
from ganaug.runtime import check_ports, open_session
from ganaug.training.networks.conditioning import to_float, to_uint8
from ganaug.training.onnx_file import to_onnx, write_beside

GENERATOR_FILE = "generator.onnx"
PARITY_IMAGES = 256
"""Images that torch and the graph make both, of all classes in turn."""
PARITY_PROBABILITY = 1e-3
"""Largest difference of a classifier's probabilities that is accepted."""


def export_generator(
    model: Path,
    folder: Path,
    config: ExportConfig,
    *,
    class_names: Sequence[str],
    dataset_sha256: str,
    trained_on: Mapping[str, int] | None = None,
) -> ModelCard:
    """Export the generator that a training step left.

    Args:
        model: Folder of the training step.
        folder: Gets `generator.onnx` and `card.json`.
        config: Operator set and accepted difference.
        class_names: Every class of the dataset, by id.
        dataset_sha256: Fingerprint of the dataset.
        trained_on: Real training images per class name.

    Returns:
        The card.

    Raises:
        ModelError: The folder holds no generator that can be loaded.
        ParityError: The graph does not make the images that torch makes; nothing is written.
        OutputError: The folder cannot be written.
    """
    from ganaug.training.networks import NETWORK_FILE, load_generator

    module = load_generator(model)
    notes: dict[str, Any] = json.loads((model / NETWORK_FILE).read_text(encoding="utf-8"))
    spec = notes.pop("spec")
    return export_module(
        module,
        folder,
        config,
        class_names=class_names,
        dataset_sha256=dataset_sha256,
        trained_on=trained_on,
        name=model.name.removesuffix(".partial"),
        recipe=spec["network"],
        settings=notes,
    )


def export_module(
    module: nn.Module,
    folder: Path,
    config: ExportConfig,
    *,
    class_names: Sequence[str],
    dataset_sha256: str,
    trained_on: Mapping[str, int] | None = None,
    name: str = "generator",
    recipe: str = "",
    settings: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Export a generator module.

    Args:
        module: `forward(z, class_id[, exemplar])` to (N, C, H, W) in [-1, 1], with attributes
            `z_dim`, `image_shape`, `class_ids` and `exemplar_counts`.
        folder: Gets `generator.onnx` and `card.json`.
        config: Operator set and accepted difference.
        class_names: Every class of the dataset, by id.
        dataset_sha256: Fingerprint of the dataset.
        trained_on: Real training images per class name.
        name: Name for the card.
        recipe: Architecture for the card.
        settings: Notes of the training for the card.

    Returns:
        The card.

    Raises:
        ModelError: The graph has operators of its own, or a fixed batch size.
        ParityError: The graph does not make the images that torch makes; nothing is written.
        OutputError: The folder cannot be written.
    """
    module = copy.deepcopy(module).cpu().eval()
    about = _About.of(module, class_names)
    feed = _parity_inputs(about)
    graph = _GeneratorGraph(module)
    expected = _expected_images(graph, feed, name)
    content = to_onnx(graph, feed, ["image"], config.opset, about.metadata())
    session = open_session(content, name=f"the exported graph of {name}", device="cpu")
    _check_generator_ports(session, about, name)
    _check_parity(session, feed, expected, config.parity_levels, name)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_beside(folder / GENERATOR_FILE, content)
        card = ModelCard(
            name=name,
            graphs=(
                describe_graph(
                    folder,
                    GENERATOR_FILE,
                    kind=about.kind,
                    classes=about.classes,
                    z_dim=about.z_dim,
                    exemplar_counts=about.exemplar_counts,
                ),
            ),
            class_names=tuple(class_names),
            image_shape=about.image_shape,
            recipe=recipe,
            settings=dict(settings or {}),
            dataset_sha256=dataset_sha256,
            trained_on=dict(trained_on or {}),
            created=now(),
            ganaug=ganaug.__version__,
        )
        card.save(folder)
    return card


def export_classifiers(model: Path, folder: Path, config: ExportConfig) -> None:
    """Export the screening classifiers, so that screening needs no torch.

    Args:
        model: Folder of the training step.
        folder: Gets `classifier-0.onnx` and so on, and `card.json` with their hashes.
        config: Operator set.

    Raises:
        ModelError: The folder holds no classifiers that can be loaded.
        ParityError: A graph's probabilities are not torch's.
        OutputError: The folder cannot be written.
    """
    from ganaug.training.classifier import CLASSIFIER_FILE, load_classifiers

    modules = load_classifiers(model)
    spec = json.loads((model / CLASSIFIER_FILE).read_text(encoding="utf-8"))
    height, width, channels = spec["image_shape"]
    graphs = [
        export_classifier_module(
            module, (height, width, channels), folder / f"classifier-{number}.onnx", config.opset
        )
        for number, module in enumerate(modules)
    ]
    card = {
        "format": 1,
        "kind": "classifier",
        "graphs": graphs,
        "class_names": spec["class_names"],
        "image_shape": [height, width, channels],
        "ganaug": ganaug.__version__,
    }
    with writing(folder):
        write_beside(folder / CARD_FILE, json.dumps(card, indent=2, ensure_ascii=False).encode())


def export_classifier_module(
    module: nn.Module, image_shape: tuple[int, int, int], path: Path, opset: int
) -> dict[str, Any]:
    """Export a classifier: `image` uint8 (N, H, W, C) to `probability` (N, K) and `features` (N, F).

    Args:
        module: `forward(images)`, (N, C, H, W) float32 in [-1, 1], to logits (N, K) and features (N, F).
        image_shape: (height, width, channels).
        path: The file to write.
        opset: ONNX operator set.

    Returns:
        `file`, `sha256` and `bytes` of what was written.

    Raises:
        ParityError: The graph's probabilities are not torch's; nothing is written.
        OutputError: The file cannot be written.
    """
    graph = _ClassifierGraph(copy.deepcopy(module).cpu().eval())
    images = np.random.default_rng(0).integers(0, 256, (32, *image_shape), dtype=np.uint8)
    metadata = {
        "ganaug.format": "1",
        "ganaug.kind": '"classifier"',
        "ganaug.image_shape": json.dumps(image_shape),
    }
    content = to_onnx(graph, {"image": images}, ["probability", "features"], opset, metadata)
    session = open_session(content, name=f"the exported graph {path.name}", device="cpu")
    with torch.inference_mode():
        expected = [output.numpy() for output in graph(torch.from_numpy(images))]
    found = session.run(None, {"image": images})
    for output, want, have in zip(("probability", "features"), expected, found, strict=True):
        scale = max(1.0, float(np.abs(want).max()))
        difference = float(np.abs(want - have).max()) / scale if want.shape == have.shape else np.inf
        # "not <=": a difference that is not a number must not pass.
        if not difference <= PARITY_PROBABILITY:
            raise ParityError(
                f"the exported classifier differs from torch by {difference:.2g} in {output}; up to "
                f"{PARITY_PROBABILITY} is accepted. Another --export.opset may help."
            )
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_beside(path, content)
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


class _GeneratorGraph(nn.Module):
    """A generator whose images leave as uint8 NHWC."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, z: Tensor, class_id: Tensor, exemplar: Tensor | None = None) -> Tensor:
        inputs = (z, class_id) if exemplar is None else (z, class_id, exemplar)
        # Rounds half to even in torch as in ONNX.
        return to_uint8(self.module(*inputs)).permute(0, 2, 3, 1)


class _ClassifierGraph(nn.Module):
    """A classifier that takes uint8 NHWC and gives probabilities."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.module(to_float(image.permute(0, 3, 1, 2)))
        return logits.softmax(1), features.flatten(1)


@dataclass(frozen=True)
class _About:
    """What a generator module says of itself."""

    kind: Kind
    class_ids: tuple[int, ...]
    classes: tuple[str, ...]
    z_dim: int
    exemplar_counts: tuple[int, ...] | None
    image_shape: tuple[int, int, int]

    @classmethod
    def of(cls, module: Any, class_names: Sequence[str]) -> _About:
        ids, counts = tuple(map(int, module.class_ids)), module.exemplar_counts
        return cls(
            kind="class-conditional" if counts is None else "exemplar-conditional",
            class_ids=ids,
            classes=tuple(class_names[class_id] for class_id in ids),
            z_dim=int(module.z_dim),
            exemplar_counts=None if counts is None else tuple(map(int, counts)),
            image_shape=tuple(module.image_shape),
        )

    def metadata(self) -> dict[str, str]:
        """What the graph will carry inside."""
        return graph_metadata(**{field.name: getattr(self, field.name) for field in fields(self)})


def _parity_inputs(about: _About) -> dict[str, npt.NDArray[Any]]:
    """Latents of all classes in turn, as production will draw them."""
    each = -(-PARITY_IMAGES // len(about.class_ids))
    parts = []
    for position, class_id in enumerate(about.class_ids):
        exemplars = 1 if about.exemplar_counts is None else about.exemplar_counts[position]
        parts.append((*draw(0, class_id, 0, each, about.z_dim, exemplars), np.full(each, class_id)))
    z, exemplar, class_id_column = (np.concatenate(column) for column in zip(*parts, strict=True))
    feed: dict[str, npt.NDArray[Any]] = {"z": z, "class_id": class_id_column.astype(np.int64)}
    return feed if about.exemplar_counts is None else {**feed, "exemplar": exemplar}


def _check_generator_ports(session: Any, about: _About, name: str) -> None:
    inputs: dict[str, tuple[str, tuple[int, ...]]] = {
        "z": ("tensor(float)", (about.z_dim,)),
        "class_id": ("tensor(int64)", ()),
    }
    if about.exemplar_counts is not None:
        inputs["exemplar"] = ("tensor(int64)", ())
    check_ports(name, "inputs", session.get_inputs(), inputs)
    check_ports(name, "outputs", session.get_outputs(), {"image": ("tensor(uint8)", about.image_shape)})


def _expected_images(
    graph: _GeneratorGraph, feed: Mapping[str, npt.NDArray[Any]], name: str
) -> npt.NDArray[np.uint8]:
    """(N, H, W, C) uint8, what torch makes of the inputs."""
    inputs = [torch.from_numpy(values) for values in feed.values()]
    with torch.inference_mode():
        if not graph.module(*inputs).isfinite().all():
            raise ParityError(
                f"the generator {name} makes pixels that are not numbers: its training diverged. Train it "
                "again with a smaller --train.learning-rate or a larger --train.gamma."
            )
        images: npt.NDArray[np.uint8] = graph(*inputs).numpy()
    return images


def _check_parity(
    session: Any,
    feed: Mapping[str, npt.NDArray[Any]],
    expected: npt.NDArray[np.uint8],
    levels: int,
    name: str,
) -> None:
    # A second, odd batch size: a graph that has learnt the first by heart fails here.
    for part in (slice(None), slice(0, 7)):
        found = session.run(None, {key: values[part] for key, values in feed.items()})[0]
        differences = np.abs(found.astype(np.int16) - expected[part])
        if differences.max() > levels:
            share = float((differences > levels).mean())
            raise ParityError(
                f"the exported graph of {name} differs from torch by {differences.max()} grey levels ({share:.2%} of the "
                f"values by more than {levels}, which export.parity_levels accepts); nothing was written. "
                "Another --export.opset may help."
            )
