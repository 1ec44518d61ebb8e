"""Screeners for tests: real ONNX graphs that are built in milliseconds, over images of bright and dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from ganaug.config import ScreenConfig
from ganaug.dataset import Images, LabelledImages
from ganaug.screen import ClassScreen, Screener, fit_screener

PLAIN = ScreenConfig(min_confidence=0.6, min_realism=0.0, quota=0.0)
"""Settings of which nothing is measured on folds."""


def brightness_classifier(
    path: Path, steepness: float = 8.0, shape: tuple[int, int, int] = (8, 8, 1), middle: float = 127.5
) -> Path:
    """A graph that calls dark images class 0 and bright ones class 1, unsure in between.

    Its features are the means of the four quarters of the image, in 0..1.
    """
    height, width, _ = shape
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "all_axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["centred"]),
        helper.make_node("Mul", ["centred", "steepness"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["bright"]),
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Unsqueeze", ["bright", "last"], ["bright_column"]),
        helper.make_node("Unsqueeze", ["dark", "last"], ["dark_column"]),
        helper.make_node("Concat", ["dark_column", "bright_column"], ["probability"], axis=1),
        helper.make_node("ReduceMean", ["pixels", "channels"], ["grey"], keepdims=0),
        helper.make_node("Unsqueeze", ["grey", "last"], ["nchw"]),
        helper.make_node(
            "AveragePool",
            ["nchw"],
            ["pooled"],
            kernel_shape=[height // 2, width // 2],
            strides=[height // 2, width // 2],
        ),
        helper.make_node("Flatten", ["pooled"], ["quarters"]),
        helper.make_node("Mul", ["quarters", "to_unit"], ["features"]),
    ]
    constants = {
        "all_axes": np.array([1, 2, 3]),
        "channels": np.array([3]),
        "last": np.array([1]),
        "middle": np.array(middle, np.float32),
        "steepness": np.array(steepness / 127.5, np.float32),
        "one": np.array(1.0, np.float32),
        "to_unit": np.array(1 / 255, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *shape])],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 4]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def noisy(count: int, level: int, rng: np.random.Generator, shape: Sequence[int] = (8, 8, 1)) -> Images:
    """(N, H, W, C) images of a brightness, no two alike: patterns, each pixel within 30 of the level."""
    return rng.integers(level - 30, level + 31, (count, *shape)).astype(np.uint8)


def bright_and_dark(
    dark: int, bright: int, rng: np.random.Generator, shape: tuple[int, int, int] = (8, 8, 1)
) -> LabelledImages:
    """Real images: class 0 dark, class 1 bright."""
    images = np.concatenate([noisy(dark, 40, rng, shape), noisy(bright, 215, rng, shape)])
    index = pd.DataFrame({"class_id": np.repeat([0, 1], [dark, bright]), "group": ""})
    return LabelledImages(images, index, ("dark", "bright"))


def make_screener(
    folder: Path,
    real: LabelledImages,
    config: ScreenConfig = PLAIN,
    *,
    steepness: Sequence[float] = (8.0,),
    folds: Sequence[Path] = (),
) -> Screener:
    """A screener of brightness classifiers, one per steepness."""
    shape = real.images.shape[1:]
    graphs = [
        brightness_classifier(folder / f"graphs/{number}.onnx", steep, (shape[0], shape[1], shape[2]))
        for number, steep in enumerate(steepness)
    ]
    fit_screener(real, graphs, folds, config, folder / "screener")
    return Screener.open(folder / "screener")


def bright_screen(folder: Path, real: LabelledImages, config: ScreenConfig = PLAIN) -> ClassScreen:
    """A screen for bright images."""
    return make_screener(folder, real, config).for_class(1)
