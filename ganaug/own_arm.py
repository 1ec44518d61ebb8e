"""A user's own arm: a function, named as `package.module:function`, that gives a `Recipe`."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ganaug.dataset import LabelledImages
from ganaug.errors import SettingsError
from ganaug.recipe import Recipe, problems


def is_path(name: str) -> bool:
    """Whether an arm's name is that of a function.

    >>> is_path("mypackage.arms:mine"), is_path("oversampling+mixup")
    (True, False)
    """
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name) is not None


def load(path: str, setting: str = "evaluate.arms") -> Callable[..., Any]:
    """Import the function.

    Args:
        path: `package.module:function`.
        setting: The setting that names it, for errors.

    Raises:
        SettingsError: There is no such module or function, or importing it fails.
    """
    module_name, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            [f"{setting}: {path!r}: {error}; install the package, or put its folder on PYTHONPATH"]
        ) from error
    except AttributeError as error:
        raise SettingsError([f"{setting}: {path!r}: {error}; check the function's name"]) from error
    except Exception as error:
        raise SettingsError(
            [f"{setting}: importing {path!r} failed: {type(error).__name__}: {error}"]
        ) from error
    if not callable(function):
        raise SettingsError([f"{setting}: {path!r} is a {type(function).__name__}, not a function"])
    return function  # type: ignore[no-any-return]


def call(path: str, train: LabelledImages, synthetic: LabelledImages | None, wanted: Sequence[int]) -> Recipe:
    """Let the function build its recipe, and check it.

    Args:
        path: `package.module:function`; called as `function(train, synthetic, wanted)`.
        train: Real training images.
        synthetic: Synthetic images; may be None or empty.
        wanted: Class ids that the plan wants more of.

    Raises:
        SettingsError: The function cannot be imported, fails, or gives what no trainer can follow.
    """
    function = load(path)
    try:
        recipe = function(train, synthetic, tuple(wanted))
    except Exception as error:
        raise SettingsError([f"evaluate.arms: {path!r} failed: {type(error).__name__}: {error}"]) from error
    n_synthetic = 0 if synthetic is None else len(synthetic)
    shape = train.images.shape[1:]
    wrong = problems(recipe, len(train), n_synthetic, len(train.class_names), shape)
    if wrong:
        raise SettingsError([f"evaluate.arms: {path!r}: {problem}" for problem in wrong])
    assert isinstance(recipe, Recipe)
    return recipe


def code_digest(path: str, setting: str = "evaluate.arms") -> str:
    """SHA-256 of the file that the function stands in, or of its name where there is none."""
    function = load(path, setting)
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # callable, but no function: of functools.partial the module's file counts
        file = getattr(sys.modules[path.partition(":")[0]], "__file__", None)
    content = Path(file).read_bytes() if file is not None else path.encode()
    return hashlib.sha256(content).hexdigest()
