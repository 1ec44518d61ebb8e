"""One PNG of sample images, a titled row for each class or reason, drawn with Pillow alone."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from ganaug.dataset import Images

COLUMNS, MOST_ROWS = 12, 24
"""Images of a row, and rows, that a sheet is given at most."""
_CELL_PX, _LABEL_PX, _GAP_PX = 56, 190, 4


def sample_sheet(rows: Mapping[str, Iterable[Images]]) -> bytes:
    """A PNG file with a row of images for each title, enlarged without smoothing.

    Args:
        rows: Up to `COLUMNS` images (H, W, C) uint8 under each title; any C of 1, 3 and 4.

    Returns:
        The file; the same images give the same bytes with one version of Pillow.
    """
    step, font = _CELL_PX + _GAP_PX, ImageFont.load_default(14)
    titles = [_fitting(title, font) for title in rows]
    widest = max(round(font.getlength(title)) for title in titles) + 12
    sheet = Image.new("RGB", (widest + COLUMNS * step, len(rows) * step), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (title, images) in enumerate(zip(titles, rows.values(), strict=True)):
        top = number * step
        draw.text((4, top + _CELL_PX // 2 - 8), title, fill="black", font=font)
        for column, image in enumerate(images):
            sheet.paste(_cell(image), (widest + column * step, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _fitting(title: str, font: Any) -> str:
    """A title short enough for its column."""
    while font.getlength(title) > _LABEL_PX - 12:
        title = title[:-2].rstrip("…") + "…"
    return title


def _cell(image: Images) -> Image.Image:
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGBA")
    scale = _CELL_PX / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX)
    backed = Image.new("RGBA", (_CELL_PX, _CELL_PX), "white")
    backed.alpha_composite(picture)
    return backed.convert("RGB")
