"""Pictures for the page: single images as data addresses, and one sheet of a whole run."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from ganaug.dataset import Images, LabelledImages
from ganaug.plan import PLAN_FILE, BalancePlan, ClassPlan
from ganaug.run import STEP_FILE
from ganaug.screen import KEPT_FILE

SHOWN_PX = 72
"""Small images are enlarged by the whole factor that comes nearest to this."""
LARGEST_PX = 96
"""Larger images are scaled down to this before they are embedded."""
LOSSLESS_PX = 48
"""Up to this size images are embedded as PNG, pixel by pixel; above as JPEG, for the page's size."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Picture:
    """An image ready for the page.

    Attributes:
        source: A `data:` address.
        width_px: Width at which it is shown.
        height_px: Height at which it is shown.
    """

    source: str
    width_px: int
    height_px: int


@dataclass(frozen=True)
class RealImages:
    """The training part of a run's split, mapped from disk: only the rows shown are read.

    Attributes:
        data: All images of the split.
        train_rows: Row in `data` of each training image; `nearest_real` counts in these.
    """

    data: LabelledImages
    train_rows: Rows

    @classmethod
    def load(cls, split_folder: Path) -> RealImages:
        """Map the images of a finished `split` step."""
        data = LabelledImages.load(split_folder)
        return cls(data, np.flatnonzero(data.index["split"].to_numpy() == "train"))

    def nearest(self, row: int) -> Images:
        """(H, W, C) uint8 image at a row of the training part."""
        return np.asarray(self.data.images[self.train_rows[row]])

    def examples(self, class_id: int, count: int) -> list[Images]:
        """Up to `count` training images of a class, evenly spaced: nobody picked them."""
        rows = self.train_rows[self.data.class_ids[self.train_rows] == class_id]
        return [np.asarray(self.data.images[row]) for row in rows[evenly(len(rows), count)]]


def evenly(total: int, count: int) -> Rows:
    """Positions of up to `count` of `total` things, evenly spaced.

    >>> evenly(10, 3).tolist()
    [0, 4, 9]
    >>> evenly(2, 3).tolist()
    [0, 1]
    """
    return np.unique(np.linspace(0, total - 1, min(total, count)).astype(np.int64))


def picture(image: Images) -> Picture:
    """Embed one (H, W, C) uint8 image, so that it needs no file beside the page."""
    height, width = image.shape[:2]
    shown = _pil(image)
    if max(height, width) > LARGEST_PX:
        shown.thumbnail((LARGEST_PX, LARGEST_PX), Image.Resampling.BOX)
        width, height = shown.size
    factor = enlargement(max(height, width))
    buffer = io.BytesIO()
    if max(height, width) > LOSSLESS_PX and shown.mode != "RGBA":
        shown.save(buffer, "JPEG", quality=88, subsampling=0)
        kind = "jpeg"
    else:
        shown.save(buffer, "PNG", optimize=True)
        kind = "png"
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/{kind};base64,{text}", width * factor, height * factor)


def enlargement(longest_px: int) -> int:
    """Whole factor by which an image is enlarged, so that each pixel stays a square.

    >>> [enlargement(px) for px in (8, 16, 32, 64, 96)]
    [9, 4, 2, 1, 1]
    """
    return max(1, SHOWN_PX // longest_px)


def run_sheet(run_folder: Path, columns: int = 8, most_classes: int = 12) -> bytes | None:
    """One PNG of a run: per wanted class real training images left, kept synthetic ones right.

    Args:
        run_folder: The run; its `split`, `plan` and `screen` steps are read.
        columns: Images of each kind per class.
        most_classes: Classes shown at most.

    Returns:
        The PNG file, or nothing when no class has been screened yet.
    """
    if not all((run_folder / step / STEP_FILE).is_file() for step in ("split", "plan")):
        return None
    if not (run_folder / "plan" / PLAN_FILE).is_file():
        return None
    wanted = BalancePlan.load(run_folder / "plan").wanted
    screened = [plan for plan in wanted if (run_folder / "screen" / plan.part / STEP_FILE).is_file()]
    if not screened:
        return None
    real = RealImages.load(run_folder / "split")
    rows = [_sheet_row(run_folder, real, plan, columns) for plan in screened[:most_classes]]
    return _png(_join(rows, [plan.class_name for plan in screened[:most_classes]], columns))


def _sheet_row(
    run_folder: Path, real: RealImages, plan: ClassPlan, columns: int
) -> tuple[list[Images], list[Images]]:
    kept = load_images(run_folder / "screen" / plan.part / KEPT_FILE)
    synthetic = [np.asarray(kept[row]) for row in evenly(len(kept), columns)]
    return real.examples(plan.class_id, columns), synthetic


def load_images(path: Path) -> Images:
    """Map (N, H, W, C) uint8 images, or none where the file is missing."""
    if not path.is_file():
        return np.empty((0, 1, 1, 1), np.uint8)
    images: Images = np.load(path, mmap_mode="r", allow_pickle=False)
    return images


def load_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table, or an empty one where the file is missing."""
    return pd.read_parquet(path) if path.is_file() else pd.DataFrame()


def _join(rows: list[tuple[list[Images], list[Images]]], names: list[str], columns: int) -> Image.Image:
    """Draw rows of images with the class names at their left."""
    shapes = [image.shape[:2] for pair in rows for side in pair for image in side] or [(1, 1)]
    factor = enlargement(max(shapes[0]))
    height, width = shapes[0][0] * factor + 4, shapes[0][1] * factor + 4
    label_px, gap_px = 120, 24
    sheet = Image.new("RGB", (label_px + gap_px + 2 * columns * width, len(rows) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        draw.text((8, number * height + height // 2 - 8), name[:14], fill="black", font=font)
        for side, images in enumerate(row):
            left = label_px + side * (columns * width + gap_px)
            for column, image in enumerate(images):
                enlarged = _pil(image).convert("RGB")
                enlarged = enlarged.resize((width - 4, height - 4), Image.Resampling.NEAREST)
                sheet.paste(enlarged, (left + column * width + 2, number * height + 2))
    return sheet


def _pil(image: Images) -> Image.Image:
    pixels = np.ascontiguousarray(image)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
