"""SyntheticDataset: synthetic images as a map-style torch dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import Dataset

from ganaug.adapters.torch_samples import (
    check_known,
    check_whole,
    listing,
    open_for_loading,
    position_in,
    to_picture,
)
from ganaug.generate import Generator
from ganaug.latents import draw_at

if TYPE_CHECKING:
    # Not at run time: it brings pandas, which every worker would load.
    from ganaug.dataset import Images

CACHE_BYTES = 256 * 2**20
BLOCK = 64
"""Neighbours that are made together when one is asked for."""


class SyntheticDataset(Dataset[tuple[Any, Any]]):
    """Synthetic images as a map-style dataset: position i is the same image in any order, batch or worker.

    The classes come one after the other. Labels are the model's class ids, those of the dataset that it
    was trained on, whichever classes are asked for.

    Images that were made are kept, in each process, up to `cache_bytes`; with
    `DataLoader(persistent_workers=True)` that lasts from epoch to epoch. Those for which there is no
    room, the last positions, are made anew each time.

    Args:
        model: A generator, a model folder or a name in the store. By name it runs on the CPU, and so does
            a generator whose device is `auto`: a GPU cannot be used in forked workers.
        counts: Images of each class that the model can make, or `{class name: images}`.
        seed: Another one gives other images.
        start: Index of the first image of each class: sets that share no index share no image.
        truncation: Scale of the latents; below 1 images are more typical, less varied.
        transform: Makes of a PIL image (mode L, RGB or RGBA) what a sample holds, as torchvision's
            do. Nothing: (C, H, W) float32 tensors from 0 to 1.
        target_transform: Makes of a class id what a sample holds.
        cache_bytes: Room for images that were made, per process.

    Attributes:
        generator: What makes the images.
        counts: Images of each class, by name.
        classes: Name of each class id.
        class_to_idx: Class id of each name.

    Raises:
        UnknownClassError: A class that the model cannot make.
        ModelError: There is no such model, or its card is damaged.
        SettingsError: A count, seed, start, truncation or size that cannot be used.
    """

    def __init__(
        self,
        model: Generator | Path | str,
        counts: int | Mapping[str, int],
        *,
        seed: int = 0,
        start: int = 0,
        truncation: float = 1.0,
        transform: Callable[[Image.Image], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.generator = open_for_loading(model)
        names = self.generator.class_names
        self.counts = dict(counts) if isinstance(counts, Mapping) else dict.fromkeys(names, counts)
        check_whole(self.counts)
        check_whole({"seed": seed, "start": start, "cache_bytes": cache_bytes})
        check_known(self.counts, self.generator)
        self.seed, self.start, self.truncation = seed, start, truncation
        self.transform, self.target_transform = transform, target_transform
        self.cache_bytes = cache_bytes
        self.classes = list(self.generator.card.class_names)
        self.class_to_idx = {name: class_id for class_id, name in enumerate(self.classes)}
        self._ends = np.cumsum(list(self.counts.values()), dtype=np.int64)
        self._length = int(self._ends[-1]) if len(self._ends) else 0
        self._class_ids = np.array([self.class_to_idx[name] for name in self.counts], np.int64)
        self._kept: _Kept | None = None
        # In shared memory: workers that stay from epoch to epoch see what `set_epoch` writes.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self.set_epoch(0)
        self.generator.sample_at([], [], truncation=truncation)

    def set_epoch(self, epoch: int) -> None:
        """Go over to other images: those of no two epochs are the same.

        Epoch e of a class of n images has the indices from start + e * n on. Workers of a `DataLoader`
        see it, persistent ones too, when it is called before the loader is iterated over.

        Raises:
            SettingsError: It is not a whole number from 0 on, or there are no indices left.
        """
        check_whole({"epoch": epoch})
        # Told now, in the words of those who draw, not by a worker later.
        last = self.start + (epoch + 1) * max(self.counts.values(), default=0)
        draw_at(self.seed, 0, [self.start, last], z_dim=1)
        self._epoch.fill_(epoch)

    @cached_property
    def targets(self) -> list[int]:
        """The class id at each position, before `target_transform`."""
        return [self.class_to_idx[name] for name, count in self.counts.items() for _ in range(count)]

    def images(self, positions: Sequence[int] | npt.NDArray[np.int64]) -> Images:
        """The images at these positions, made in one go as far as they are not there yet.

        Returns:
            (N, H, W, C) uint8.
        """
        where, kept = np.asarray(positions, np.int64), self._room()
        has_room = where < len(kept.is_there)
        is_new = ~has_room
        is_new[has_room] = ~kept.is_there[where[has_room]]
        images = np.empty((len(where), *self.generator.image_shape), np.uint8)
        images[~is_new] = kept.images[where[~is_new]]
        if is_new.any():
            new, rows = np.unique(where[is_new], return_inverse=True)
            made = self._make(new)
            images[is_new] = made[rows]
            has_room = new < len(kept.is_there)
            kept.images[new[has_room]] = made[has_room]
            kept.is_there[new[has_room]] = True
        return images

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        position, kept = position_in(self._length, index), self._room()
        has_room = position < len(kept.is_there)
        if has_room and not kept.is_there[position]:
            first = position - position % BLOCK
            self.images(range(first, min(first + BLOCK, len(kept.is_there))))
        image = kept.images[position : position + 1] if has_room else self.images([position])
        return self._samples(image, [position])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """The samples of a batch: one call of ONNX Runtime for each graph of the model."""
        positions = [position_in(self._length, index) for index in indices]
        return self._samples(self.images(positions), positions)

    def _samples(self, images: Images, positions: Sequence[int]) -> list[tuple[Any, Any]]:
        labels: list[Any] = self._class_ids[self._class_rows(np.asarray(positions))].tolist()
        if self.target_transform is not None:
            labels = [self.target_transform(label) for label in labels]
        if self.transform is not None:
            pictures = map(to_picture, images)
            return [(self.transform(picture), label) for picture, label in zip(pictures, labels, strict=True)]
        tensors = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float().div_(255)
        return list(zip(tensors, labels, strict=True))

    def _make(self, positions: npt.NDArray[np.int64]) -> Images:
        names, counts = list(self.counts), np.array(list(self.counts.values()), np.int64)
        rows = self._class_rows(positions)
        inside = positions - (self._ends - counts)[rows]
        indices = self.start + int(self._epoch) * counts[rows] + inside
        return self.generator.sample_at(
            [names[row] for row in rows], indices, seed=self.seed, truncation=self.truncation
        )

    def _class_rows(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which of the classes in `counts` each position belongs to."""
        return np.searchsorted(self._ends, positions, side="right")

    def _room(self) -> _Kept:
        """What this process has made in this epoch."""
        epoch = int(self._epoch)
        if self._kept is None or self._kept.epoch != epoch:
            shape = self.generator.image_shape
            number = min(self._length, self.cache_bytes // int(np.prod(shape)))
            # Memory that nothing was written to is not taken yet.
            self._kept = _Kept(epoch, np.empty((number, *shape), np.uint8), np.zeros(number, bool))
        return self._kept

    def __getstate__(self) -> dict[str, Any]:
        # Another process makes its own again, rather than being sent them.
        return {**vars(self), "_kept": None}

    def __repr__(self) -> str:
        shown = listing([f"{name}: {count}" for name, count in self.counts.items()])
        return f"<SyntheticDataset of {self.generator.card.name}: {len(self)} images ({shown})>"


@dataclass(frozen=True)
class _Kept:
    """The images of the first positions, as many as there is room for, so that none has to go again."""

    epoch: int
    images: Images
    is_there: npt.NDArray[np.bool_]
