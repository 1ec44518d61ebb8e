"""GanOverSampler: imbalanced-learn's way of filling up rare classes, with a GAN.

A sampler gets a training set and gives it back with synthetic samples after it. This one trains
a conditional GAN on that set and on nothing else, so that in a pipeline under cross-validation
no fold sees another; or it takes a model that is there already, and then needs no torch.
"""

# X and y are scikit-learn's names, capital and all.
# ruff: noqa: N802, N803, N806
from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from imblearn.over_sampling.base import BaseOverSampler
from imblearn.utils import check_target_type
from pydantic import ValidationError
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data

from ganaug.adapters.sampler_pixels import Pixels
from ganaug.config import TrainConfig, explain
from ganaug.errors import MissingExtraError, ModelError, SettingsError, UnmatchedLabelError
from ganaug.generate import Generator

if TYPE_CHECKING:
    from ganaug.training.in_memory import TrainedGenerator

RECIPES = ("auto", "pair", "cgan", "dcgan", "strided", "sgan", "multi-discriminator", "long-tail", "modern")
"""Recipes that learn all classes together."""
_DIRECT = ("recipe", "steps", "batch", "learning_rate")
_UNUSED = ("scope", "class_steps", "processes", "keep_discriminator", "seed")
"""Training settings that a sampler has no use for: one GAN of all classes, in this process."""


class GanOverSampler(BaseOverSampler):  # type: ignore[misc]
    """Over-sample rare classes with a conditional GAN, trained on the data or given.

    The originals come first, in their order; then the synthetic samples, class by class. X is:

    - rows of a table, (N, d), dense, sparse or a DataFrame: features are scaled by their
      distribution, and what comes out lies between a feature's smallest and largest value, whole
      where all its values are. A GAN of perceptrons is trained, in a second or two;
    - images, (N, H, W, C) or (N, H, W), or (N, H * W * C) with `image_shape`: integers are 0 (black)
      to 255 (white), floats 0 to 1; `white` says otherwise. Inside they are 8-bit. A GAN is trained each
      time that `fit_resample` is called: seconds at 8 px on a CPU, minutes for larger images.

    A class of one sample is varied by what the other classes teach; of how it looks otherwise,
    nobody knows. A class of two is the least that the GAN itself learns from.

    Args:
        sampling_strategy: As in every over-sampler of imbalanced-learn: `auto`, `minority`,
            `not minority`, `not majority`, `all`, a ratio (two classes), a dict or a function.
        model: A `ganaug.Generator`, a model folder or a name (`digits@1`) to sample from; None
            trains one. **What a given model was trained on must not be in your test folds.**
        class_names: Which class of the given model a label of y means, as `{0: "cat"}`; labels
            that are not named mean the class that is called `str(label)`.
        image_shape: (height, width) or (height, width, channels) where X holds flattened images;
            None takes rows for a table, or for images of the given model.
        white: The value that is white; None is 255 in integers and 1 in floats.
        recipe: The GAN, as `train.recipe`; `auto` is `pair`. Rows take those of perceptrons.
        steps: Training steps; `auto` is 300 for rows, 600 for images below 16 px, else 400.
        batch: Samples per step.
        learning_rate: The optimisers' step size; `auto` is the recipe's.
        train: Further settings of `ganaug.config.TrainConfig`, as `{"loss": "hinge", "flips": True}`;
            `augment` is off below 16 px, and for rows always.
        device: `auto` takes the GPU if there is one; `cpu`; `cuda`.
        random_state: As in scikit-learn; by default a fixed seed, so that the same data gives the
            same result (of images, with the same number of threads); None draws a seed.

    Attributes:
        generator_: What the samples are from: `ganaug.training.in_memory.TrainedGenerator` or the
            model that was given; `generator_.sample(class_name, count, seed=...)` makes more.
            None where no class lacked anything.
        sampling_strategy_: Samples to make per label.
        n_features_in_: Features of X.
        feature_names_in_: Their names, where X has any.

    Raises:
        DatasetError: X does not hold images as said.
        DeviceError: `cuda` was asked for and is not there.
        MissingExtraError: There is no torch, and no model was given.
        ModelError: There is no such model, or its images have another shape than those of X.
        SettingsError: Settings that do not go together.
        TrainingError: There is nothing to learn from, or training diverged again and again.
        UnmatchedLabelError: A label of y means no class of the given model.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> X, y = X[:110], y[:110]
    >>> X_more, y_more = GanOverSampler(steps=20).fit_resample(X, y)
    >>> np.bincount(y), np.bincount(y_more)
    (array([50, 50, 10]), array([50, 50, 50]))
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        **BaseOverSampler._parameter_constraints,
        "model": [str, os.PathLike, Generator, None],
        "class_names": [Mapping, None],
        "image_shape": ["array-like", None],
        "white": [Interval(Real, 0, None, closed="neither"), None],
        "recipe": [StrOptions(set(RECIPES))],
        "steps": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "batch": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "train": [Mapping, None],
        "device": [StrOptions({"auto", "cpu", "cuda"})],
    }

    def __init__(
        self,
        *,
        sampling_strategy: Any = "auto",
        model: Generator | Path | str | None = None,
        class_names: Mapping[Any, str] | None = None,
        image_shape: tuple[int, ...] | None = None,
        white: float | None = None,
        recipe: str = "auto",
        steps: int | str = "auto",
        batch: int = 64,
        learning_rate: float | str = "auto",
        train: Mapping[str, Any] | None = None,
        device: str = "auto",
        random_state: Any = 0,
    ) -> None:
        super().__init__(sampling_strategy=sampling_strategy)
        self.model = model
        self.class_names = class_names
        self.image_shape = image_shape
        self.white = white
        self.recipe = recipe
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate
        self.train = train
        self.device = device
        self.random_state = random_state

    def _check_X_y(self, X: Any, y: Any, accept_sparse: Any = None) -> tuple[Any, Any, bool]:
        y, binarize_y = check_target_type(y, indicate_one_vs_all=True)
        X, y = validate_data(
            self, X=X, y=y, reset=True, accept_sparse=accept_sparse or ["csr", "csc"], allow_nd=True
        )
        return X, y, binarize_y

    def _fit_resample(self, X: Any, y: npt.NDArray[Any]) -> tuple[Any, npt.NDArray[Any]]:
        wanted = {label: count for label, count in self.sampling_strategy_.items() if count}
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        dense = X.toarray() if sparse.issparse(X) else X
        self.generator_: Generator | TrainedGenerator | None = None
        if not wanted:
            return X.copy(), y.copy()
        model = self._open_model()
        pixels = self._pixels(dense, model)
        if model is None:
            self.generator_ = self._train(dense, y, pixels, seed)
            names = [str(label) for label in wanted]
        else:
            self.generator_ = model
            names = self._names(wanted, model)
        made = self.generator_.sample(names, list(wanted.values()), seed=seed)
        values = made if pixels is None else pixels.given(made, dense)
        made_y = np.repeat(np.array(list(wanted), dtype=y.dtype), list(wanted.values()))
        return _append(X, values.astype(dense.dtype, copy=False)), np.concatenate([y, made_y])

    def _open_model(self) -> Generator | None:
        if self.model is None or isinstance(self.model, Generator):
            return self.model
        return Generator.open(self.model, device=self.device)

    def _pixels(self, dense: npt.NDArray[Any], model: Generator | None) -> Pixels | None:
        """How X holds images; None where it is a table."""
        shape = self.image_shape
        if model is not None and shape is None and dense.ndim == 2:
            shape = model.image_shape
        if shape is None and dense.ndim == 2:
            return None
        pixels = Pixels.of(dense, shape, self.white)
        if model is not None and pixels.shape != model.image_shape:
            raise ModelError(
                f"X holds images of {pixels.shape} (height, width, channels), and {model} makes images of "
                f"{model.image_shape}. Bring X to that shape first, or give a model that was trained on such images."
            )
        return pixels

    def _train(
        self, dense: npt.NDArray[Any], y: npt.NDArray[Any], pixels: Pixels | None, seed: int
    ) -> TrainedGenerator:
        config = self._config(seed)
        try:
            from ganaug.training.in_memory import train_on_images, train_on_rows
        except ImportError as error:
            raise MissingExtraError("GanOverSampler without a model", "train") from error
        labels, class_ids = np.unique(y, return_inverse=True)
        names, class_ids = [str(label) for label in labels], class_ids.astype(np.int64)
        if pixels is None:
            return train_on_rows(dense.astype(np.float64), class_ids, names, config, self.device)
        return train_on_images(pixels.images(dense), class_ids, names, config, self.device)

    def _config(self, seed: int) -> TrainConfig:
        settings = dict(self.train or {})
        problems = [
            f"{name}: {'is a parameter of its own' if name in _DIRECT else 'has no use in a sampler'}"
            for name in settings
            if name in _DIRECT + _UNUSED
        ]
        if settings.get("conditioning") == "none":
            problems.append("conditioning: 'none' learns no classes, and a sampler asks for classes")
        direct = {name: getattr(self, name) for name in _DIRECT}
        try:
            config = TrainConfig(**{**settings, **direct, "seed": seed})
        except ValidationError as error:
            problems += explain(error, TrainConfig)
        if problems:
            raise SettingsError([f"GanOverSampler(train=...): {problem}" for problem in problems])
        return config

    def _names(self, wanted: Mapping[Any, int], model: Generator) -> list[str]:
        """The model's class for each label."""
        given = dict(self.class_names or {})
        names = {label: given.get(label, str(label)) for label in wanted}
        unknown = {np.asarray(k).item(): name for k, name in names.items() if name not in model.class_names}
        if unknown:
            raise UnmatchedLabelError(unknown, model.class_names, model.card.name)
        return list(names.values())


def _append(X: Any, values: npt.NDArray[Any]) -> Any:
    if sparse.issparse(X):
        return sparse.vstack([X, sparse.csr_matrix(values)], format=X.format)
    return np.concatenate([X, values])
