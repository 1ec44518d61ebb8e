"""Samples made in batches and served one by one, each by its address."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ganaug.generate import Generator

if TYPE_CHECKING:
    # Not at run time: it brings pandas, which making images does without.
    from ganaug.dataset import Images

FIRST = 8
"""Images of a class's first batch; each later one has as many as were made before, up to the limit."""
MAX_BYTES = 64 * 2**20
"""What all batches together may hold."""


class Reservoir:
    """Images of a model, class by class from index 0 on, for who asks for one at a time.

    Batches hold up to 64 images of a class: fewer where images are large or classes many, and
    fewer at first, so that a class of which little is asked costs little.

    Attributes:
        seed: Of all its images.
    """

    def __init__(self, generator: Generator, seed: int, classes: int, truncation: float = 1.0) -> None:
        """Of up to `classes` classes, with the latents' scale `truncation`."""
        self.seed = seed
        self._generator, self._truncation = generator, truncation
        room = MAX_BYTES // (max(classes, 1) * math.prod(generator.image_shape))
        self._limit = max(1, min(generator.batch_size(generator.batch), room))
        self._next: dict[str, int] = {}
        self._batches: dict[str, tuple[int, Images]] = {}

    def next_index(self, class_name: str) -> int:
        """Index of the class's next image; no two calls get the same one."""
        index = self._next.get(class_name, 0)
        self._next[class_name] = index + 1
        return index

    def image(self, class_name: str, index: int) -> Images:
        """The image at an address, the same whatever was asked before; quick when indices ascend.

        Returns:
            (H, W, C) uint8, the caller's own.

        Raises:
            ModelError: The model's graph is missing or damaged.
        """
        start, batch = self._batches.get(class_name, (0, None))
        if batch is None or not start <= index < start + len(batch):
            start, batch = index, self._made(class_name, index)
            self._batches[class_name] = start, batch
        # A view would keep the whole batch in memory for as long as the one image is.
        image: Images = batch[index - start].copy()
        return image

    def _made(self, class_name: str, start: int) -> Images:
        # One size on a GPU, where buffers are kept for each.
        wanted = self._limit if self._generator.is_on_gpu(class_name) else min(max(start, FIRST), self._limit)
        return self._generator.make_batch(
            class_name, start, seed=self.seed, truncation=self._truncation, size=wanted
        )

    def __getstate__(self) -> dict[str, Any]:
        # The images can be made again wherever it goes.
        return {**vars(self), "_batches": {}}
