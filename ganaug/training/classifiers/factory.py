"""A user's own classifier: a function that makes a torch module or a scikit-learn estimator.

It is called as `function(image_shape, n_classes)`, with (height, width, channels), once for each fit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ganaug.errors import SettingsError
from ganaug.own_arm import load
from ganaug.own_classifier import SETTING
from ganaug.training.classifiers.network import Network

Shape = tuple[int, int, int]


class OwnNetwork(Network):
    """A user's module as the arena trains it; its logits stand for features too.

    Args:
        module: Maps (N, C, H, W) float in [-1, 1] to (N, K) logits.
        image_shape: (height, width, channels).
        n_classes: K.
    """

    # Who writes `view` into a module counts on maps that lie in memory in torch's own order.
    memory_format = torch.contiguous_format
    is_recorded = False

    def __init__(self, module: nn.Module, image_shape: Shape, n_classes: int) -> None:
        super().__init__()
        self.image_shape, self.n_classes, self.feature_count = image_shape, n_classes, n_classes
        self.module = module

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to (N, K) logits, twice."""
        # `contiguous` would leave images of one channel as they are, and convolutions take those for NHWC.
        logits = self.module(images.clone(memory_format=torch.contiguous_format))
        return logits, logits


def make(path: str, image_shape: Shape, n_classes: int) -> OwnNetwork | Any:
    """Let the function make a classifier.

    Args:
        path: `package.module:function`.
        image_shape: (height, width, channels).
        n_classes: K.

    Returns:
        A network, its weights in place, or an estimator with `fit` and `predict_proba`.

    Raises:
        SettingsError: The function cannot be imported, fails, or makes something else.
    """
    function = load(path, SETTING)
    try:
        made = function(image_shape, n_classes)
    except Exception as error:
        raise _refused(
            path, f"failed when called with ({image_shape}, {n_classes}): {type(error).__name__}: {error}"
        ) from error
    if isinstance(made, nn.Module):
        network = OwnNetwork(made, image_shape, n_classes)
        # Lazy layers get their weights here, before an optimiser asks for them.
        _forward(path, network, is_training=False)
        return network
    if isinstance(made, type) or not hasattr(made, "fit"):
        raise _refused(
            path,
            f"made a {type(made).__name__}; a torch.nn.Module or a scikit-learn estimator is expected, as an object",
        )
    if not hasattr(made, "predict_proba"):
        raise _refused(
            path,
            f"made a {type(made).__name__} without predict_proba; wrap it in "
            "sklearn.calibration.CalibratedClassifierCV, or take one that gives probabilities",
        )
    return made


def examine(path: str, image_shape: Shape, n_classes: int) -> OwnNetwork | Any:
    """Make a classifier and try what can be tried without training.

    Raises:
        SettingsError: What `make` refuses; a function that gives the same object again; a module that
            fails on two images, gives another shape than (N, K), or has nothing to learn.
    """
    # The weights are thrown away: torch's generator is to be as if they had never been drawn.
    with torch.random.fork_rng(devices=[]):
        made, again = (make(path, image_shape, n_classes) for _ in range(2))
        is_same = made.module is again.module if isinstance(made, OwnNetwork) else made is again
        if is_same:
            raise _refused(path, "gave the same object twice; let it build a new one each time it is called")
        if isinstance(made, OwnNetwork):
            logits = _forward(path, made, is_training=True)
            if not logits.requires_grad:
                raise _refused(
                    path,
                    "made a module that cannot learn: no parameter with requires_grad reaches its logits",
                )
    return made


def _forward(path: str, network: OwnNetwork, *, is_training: bool) -> Tensor:
    """Logits of two grey images, checked."""
    height, width, channels = network.image_shape
    shape, expected = (2, channels, height, width), (2, network.n_classes)
    try:
        with torch.set_grad_enabled(is_training):
            logits, _ = network.train(is_training)(torch.zeros(shape))
    except Exception as error:
        raise _refused(
            path, f"made a module that fails on images of shape {shape}: {type(error).__name__}: {error}"
        ) from error
    finally:
        network.train()
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        came = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise _refused(
            path,
            f"made a module that maps images of shape {shape} to {came}; logits of shape {expected} are needed, "
            f"one for each of {network.n_classes} classes",
        )
    if not torch.isfinite(logits).all():
        raise _refused(path, "made a module whose logits of two grey images are not all finite numbers")
    return logits


def _refused(path: str, what: str) -> SettingsError:
    return SettingsError([f"{SETTING}: {path!r} {what}"])
