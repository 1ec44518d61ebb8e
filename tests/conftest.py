"""Tiny models: real ONNX graphs that are built in milliseconds, for tests that need no training."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ganaug.card import ModelCard, describe_graph, graph_metadata, now

# Where tests run side by side, each process's torch would take all cores and wait for the others'.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# As `ganaug.training.fits` does: a test of data loaders may start the one fork server that a process has,
# and without this each classifier that a later test trains would import torch for itself, for six seconds.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
multiprocessing.set_forkserver_preload(["ganaug.training.fits", "albumentations", "torch._dynamo"])

CLASS_NAMES = ("cat", "dog", "emu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files whose tests take long: one that came last would run alone, on one of the cores."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def tiny_graph(
    class_ids: Sequence[int] = (0, 1, 2),
    *,
    exemplar_counts: Sequence[int] | None = None,
    z_dim: int = 5,
    image_shape: tuple[int, int, int] = (8, 8, 1),
    class_names: Sequence[str] = CLASS_NAMES,
    seed: int = 0,
) -> Any:
    """A generator as an ONNX model: a random linear map of z around a level (or exemplar) per class."""
    rng = np.random.default_rng(seed)
    pixels = int(np.prod(image_shape))
    rows = [1] * len(class_ids) if exemplar_counts is None else list(exemplar_counts)
    starts = np.zeros(max(class_ids) + 1, np.int64)
    starts[list(class_ids)] = np.cumsum([0, *rows[:-1]])
    constants = {
        "weights": rng.normal(0, 6, (z_dim, pixels)).astype(np.float32),
        "levels": rng.uniform(60, 200, (sum(rows), 1 if exemplar_counts is None else pixels)).astype(
            np.float32
        ),
        "starts": starts,
        "low": np.float32(0),
        "high": np.float32(255),
        "shape": np.array([-1, *image_shape], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["starts", "class_id"], ["first"]),
        *([helper.make_node("Add", ["first", "exemplar"], ["row"])] if exemplar_counts is not None else []),
        helper.make_node("Gather", ["levels", "first" if exemplar_counts is None else "row"], ["level"]),
        helper.make_node("MatMul", ["z", "weights"], ["change"]),
        helper.make_node("Add", ["change", "level"], ["grey"]),
        helper.make_node("Round", ["grey"], ["whole"]),
        helper.make_node("Clip", ["whole", "low", "high"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["flat"], to=TensorProto.UINT8),
        helper.make_node("Reshape", ["flat", "shape"], ["image"]),
    ]
    inputs = [("z", TensorProto.FLOAT, ["N", z_dim]), ("class_id", TensorProto.INT64, ["N"])]
    inputs += [("exemplar", TensorProto.INT64, ["N"])] if exemplar_counts is not None else []
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info(*port) for port in inputs],
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *image_shape])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    metadata = graph_metadata(
        kind="class-conditional" if exemplar_counts is None else "exemplar-conditional",
        class_ids=class_ids,
        classes=[class_names[class_id] for class_id in class_ids],
        z_dim=z_dim,
        exemplar_counts=exemplar_counts,
        image_shape=image_shape,
    )
    helper.set_model_props(model, metadata)
    return model


def write_model(
    folder: Path,
    *,
    file: str = "generator.onnx",
    class_ids: Sequence[int] = (0, 1, 2),
    exemplar_counts: Sequence[int] | None = None,
    z_dim: int = 5,
    image_shape: tuple[int, int, int] = (8, 8, 1),
    class_names: Sequence[str] = CLASS_NAMES,
    seed: int = 0,
    change: Callable[[Any], Any] | None = None,
) -> ModelCard:
    """Write a model folder with one tiny graph; `change` may spoil the graph before it is hashed."""
    folder.mkdir(parents=True, exist_ok=True)
    model = tiny_graph(
        class_ids,
        exemplar_counts=exemplar_counts,
        z_dim=z_dim,
        image_shape=image_shape,
        class_names=class_names,
        seed=seed,
    )
    changed = model if change is None else change(model)
    (folder / file).write_bytes(changed if isinstance(changed, bytes) else changed.SerializeToString())
    graph = describe_graph(
        folder,
        file,
        kind="class-conditional" if exemplar_counts is None else "exemplar-conditional",
        classes=tuple(class_names[class_id] for class_id in class_ids),
        z_dim=z_dim,
        exemplar_counts=None if exemplar_counts is None else tuple(exemplar_counts),
    )
    card = ModelCard(
        name="tiny",
        graphs=(graph,),
        class_names=tuple(class_names),
        image_shape=image_shape,
        recipe="linear",
        dataset_sha256="0" * 64,
        created=now(),
        ganaug="0.1.0",
    )
    card.save(folder)
    return card


@pytest.fixture(name="write_model")
def write_model_fixture() -> Callable[..., ModelCard]:
    """`write_model(folder, ...)`: a tiny class- or exemplar-conditional model on disk."""
    return write_model


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """The folder of a class-conditional model of cat, dog and emu, 8 px grey."""
    write_model(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def tiny_pair_model(tmp_path: Path) -> Path:
    """The folder of an exemplar-conditional model of cat (4 exemplars), dog (2) and emu (3)."""
    write_model(tmp_path / "tiny-pair", exemplar_counts=(4, 2, 3))
    return tmp_path / "tiny-pair"
