"""What tells the workers of a torch DataLoader apart, so that their augmentations differ.

A loader starts its workers as copies of one dataset, in every epoch anew: random generators
inside it, those of albumentations among them, are at the same point in each.
"""

from __future__ import annotations

import functools
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from ganaug.errors import TransformError

MAX_ITEMS = 1000
"""Longer lists are data, in which no transforms are looked for."""
_LEAVES = (str, bytes, int, float, complex, type(None), type, types.ModuleType, np.ndarray)


def worker_info() -> Any | None:
    """The description by torch of the loader's worker that this process is; None elsewhere."""
    # Never imported here: who has no torch in this process is no worker of its loader.
    data = sys.modules.get("torch.utils.data")
    return None if data is None else data.get_worker_info()


def worker_init_fn(worker_id: int) -> None:
    """Let albumentations draw other numbers in each worker and each epoch of a torch DataLoader.

    Give it to the loader: `DataLoader(..., worker_init_fn=ganaug.worker_init_fn)`. All pipelines and
    transforms of albumentations that the dataset holds are reseeded: as attributes, in datasets that it
    wraps (`Subset`, `ConcatDataset`), in lists, tuples and dicts, in `functools.partial`, and in functions
    that close over them. Seeds follow `torch.manual_seed`, and the pipeline's own seed where it has one.

    Args:
        worker_id: Number of the worker, as torch gives it; the worker's seed holds it already.

    Raises:
        TransformError: This is no worker of a loader.

    Warns:
        UserWarning: The dataset holds no transforms of albumentations.
    """
    info = worker_info()
    if info is None:
        raise TransformError(
            f"worker_init_fn({worker_id}) was called outside of a loader's worker; "
            "give it to torch: DataLoader(..., worker_init_fn=ganaug.worker_init_fn)"
        )
    transforms = list(find_transforms(info.dataset))
    if not transforms:
        warnings.warn(
            f"worker_init_fn found no transforms of albumentations in {type(info.dataset).__name__}, so "
            "they draw the same numbers in every worker. Hold the pipeline as an attribute of the dataset.",
            stacklevel=2,
        )
    for position, transform in enumerate(transforms):
        own = [] if transform.seed is None else [transform.seed]
        state = np.random.SeedSequence([info.seed, position, *own]).generate_state(1, np.uint64)
        transform.set_random_seed(int(state[0]))


def find_transforms(root: object) -> Iterator[Any]:
    """The outermost pipelines and transforms of albumentations that an object holds, in a fixed order."""
    albumentations = sys.modules.get("albumentations")
    if albumentations is None:
        return
    wanted = (albumentations.BaseCompose, albumentations.BasicTransform)
    waiting, seen = [root], set[int]()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, _LEAVES):
            continue
        seen.add(id(thing))
        if isinstance(thing, wanted):
            yield thing
        else:
            waiting.extend(reversed([*_items(thing), *_attributes(thing)]))


def _items(thing: Any) -> list[Any]:
    if isinstance(thing, dict):
        return list(thing.values()) if len(thing) <= MAX_ITEMS else []
    if isinstance(thing, list | tuple):
        return list(thing) if len(thing) <= MAX_ITEMS else []
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, types.MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, types.FunctionType):
        return [*_closed_over(thing), *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
    return []


def _closed_over(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            # A variable that has no value yet.
            continue


def _attributes(thing: Any) -> list[Any]:
    try:
        values = list(vars(thing).values())
    except TypeError:
        values = []
    slots = [name for kind in type(thing).__mro__ for name in vars(kind).get("__slots__", ())]
    return values + [getattr(thing, name) for name in slots if hasattr(thing, name)]
