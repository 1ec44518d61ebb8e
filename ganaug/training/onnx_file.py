"""From a torch module to the bytes of one self-contained ONNX file."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

import ganaug
from ganaug.errors import MissingExtraError, ModelError

_tracing = Lock()
"""Tracing changes torch's modules for the whole process: two exports at once, in threads, fail."""


def to_onnx(
    graph: nn.Module,
    feed: Mapping[str, npt.NDArray[Any]],
    outputs: list[str],
    opset: int,
    metadata: Mapping[str, str],
) -> bytes:
    """Export a module with a free batch axis.

    Args:
        graph: `forward` takes the inputs by position.
        feed: Example inputs by the name that they get in the graph; the first axis is the batch.
        outputs: Names of the outputs.
        opset: ONNX operator set.
        metadata: What the file carries inside as `metadata_props`.

    Returns:
        The file: weights inside, operators of ONNX alone, no trace of the machine; the same
        bytes for the same module.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ModelError: The module works for one batch size only, or needs operators of its own.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter fails late without it
    except ImportError as error:
        raise MissingExtraError("export to ONNX", "train") from error
    inputs = tuple(torch.from_numpy(values[:4]) for values in feed.values())
    axes = tuple({0: torch.export.Dim("N", min=1)} for _ in inputs)
    with _tracing, _quiet():
        try:
            program = torch.export.export(graph, inputs, dynamic_shapes=axes, strict=False)
        except RuntimeError:
            # A network that asks for len(z) needs the slower way; torch.onnx.export, left to
            # itself, would silently give it this batch size for ever.
            program = _trace_strictly(graph, inputs, axes)
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=list(feed),
            output_names=outputs,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    _strip(model)
    model.producer_name, model.producer_version = "ganaug", ganaug.__version__
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    strange = {node.domain for node in model.graph.node} | {item.domain for item in model.opset_import}
    if strange - {"", "ai.onnx"} or model.functions:
        raise ModelError(f"the exported graph has operators outside ONNX's own: {sorted(strange - {''})}")
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _trace_strictly(graph: nn.Module, inputs: tuple[torch.Tensor, ...], axes: Any) -> Any:
    try:
        return torch.export.export(graph, inputs, dynamic_shapes=axes, strict=True)
    except RuntimeError as error:
        raise ModelError(
            f"{type(graph).__name__} cannot be exported for every batch size: {error}. In the network, take "
            "the batch size from a tensor's shape, never as a fixed number."
        ) from error


def _strip(model: Any) -> None:
    """Remove what the exporter notes of the source: paths of this machine, half of a small file."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about itself off the screen; its errors still come."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def write_beside(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the whole of it or nothing."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    beside.replace(path)
