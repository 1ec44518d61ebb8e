"""LabelledImages: the real images as every step sees them, in memory or mapped from disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ganaug.errors import DatasetError

Images = npt.NDArray[np.uint8]
ClassIds = npt.NDArray[np.int64]

IMAGES_FILE = "images.npy"
INDEX_FILE = "index.parquet"
DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class LabelledImages:
    """Images of one size with their classes.

    Attributes:
        images: (N, H, W, C) uint8; may be mapped from disk.
        index: One row per image, in order: `path` (inside the source), `class_id`, `split`
            (`train`, `test`, or empty when not yet parted), `group` (images of one group
            stand on one side), `sha256` (of the encoded file).
        class_names: Name of each class id.
    """

    images: Images
    index: pd.DataFrame
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_ids(self) -> ClassIds:
        """(N,) int64 class of each image."""
        return self.index["class_id"].to_numpy(np.int64)

    def counts(self) -> ClassIds:
        """(K,) int64 images per class."""
        return np.bincount(self.class_ids, minlength=len(self.class_names)).astype(np.int64)

    def part(self, split: str) -> LabelledImages:
        """The images of one split, copied into memory."""
        chosen = np.flatnonzero(self.index["split"].to_numpy() == split)
        return self.take(chosen)

    def take(self, rows: npt.NDArray[np.int64]) -> LabelledImages:
        """The images at these row numbers, copied into memory."""
        return LabelledImages(
            np.ascontiguousarray(self.images[rows]),
            self.index.iloc[rows].reset_index(drop=True),
            self.class_names,
        )

    def save(self, folder: Path) -> None:
        """Write `images.npy`, `index.parquet` and `dataset.json`; images that already lie there stay."""
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / IMAGES_FILE
        if not (isinstance(self.images, np.memmap) and Path(str(self.images.filename)) == target.resolve()):
            np.save(target, self.images)
        self.index.to_parquet(folder / INDEX_FILE, index=False)
        (folder / DATASET_FILE).write_text(json.dumps({"class_names": self.class_names}, indent=2))

    @classmethod
    def load(cls, folder: Path) -> LabelledImages:
        """Map a saved dataset from disk.

        Raises:
            DatasetError: A file is missing or damaged, or they do not belong together.
        """
        try:
            names = json.loads((folder / DATASET_FILE).read_text(encoding="utf-8"))["class_names"]
            images = np.load(folder / IMAGES_FILE, mmap_mode="r", allow_pickle=False)
            data = cls(images, pd.read_parquet(folder / INDEX_FILE), tuple(map(str, names)))
            fits = len(data.index) == len(images) and images.dtype == np.uint8 and images.ndim == 4
        except Exception as error:
            # numpy, json and Arrow raise whatever they stumble over.
            raise DatasetError(
                f"{folder} holds no dataset that can be read ({error}); make it again in a new run folder"
            ) from error
        if not fits:
            raise DatasetError(
                f"{folder} has {len(data.index)} rows in {INDEX_FILE} and {images.dtype} {images.shape} in "
                f"{IMAGES_FILE}, which do not belong together; make it again in a new run folder"
            )
        return data
