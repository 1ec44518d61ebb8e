"""What a notebook shows of a model: samples of each class, and its card as a small table.

One piece of HTML that needs nothing beside it, takes its colours from the notebook, and stays
under some 200 kB however many classes a model has and however large its images are.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from ganaug.card import ModelCard
from ganaug.hub_card import size_words
from ganaug.model_readme import verdict_words

if TYPE_CHECKING:
    from ganaug.dataset import Images

MOST_CLASSES = 20
COLUMNS, FEWEST_COLUMNS = 8, 4
"""Images of a class: fewer of large ones, before they are made smaller."""
_SHOWN_PX = 56
"""Small images are enlarged to about this."""
_RAW_BYTES = 110_000
"""Pixels of all images together; as PNG in base64, with tags around, about 200 kB at the worst."""
_MOST_GRAPHS = 4
_MOST_SIGNS = 40

_STYLE = """\
.ganaug-model table { border-collapse: collapse; margin: 0.5em 0; font-size: 90%; }
.ganaug-model th, .ganaug-model td { text-align: left; vertical-align: middle; padding: 2px 10px 2px 0;
  border: 0; border-bottom: 1px solid rgba(128, 128, 128, 0.3); background: none; color: inherit; }
.ganaug-model th { font-weight: 600; white-space: nowrap; }
.ganaug-model img { display: inline-block; margin: 2px 4px 2px 0; image-rendering: pixelated; }
.ganaug-model caption { caption-side: bottom; text-align: left; padding: 4px 0; opacity: 0.75; color: inherit; }"""


def model_html(card: ModelCard, first: Callable[[str, int], Images]) -> str:
    """A model as HTML; never raises.

    Args:
        card: What the model is.
        first: Makes the first images of a class, (count, H, W, C) uint8, from its name and a count.
    """
    return (
        f'<div class="ganaug-model"><style>{_STYLE}</style>'
        f"<strong>{_text(card.label)}</strong>{_facts(card)}{_samples(card, first)}</div>"
    )


def _facts(card: ModelCard) -> str:
    rows = {
        "classes": f"{len(card.makes)}: {_listed(card.makes, MOST_CLASSES)}",
        "images": size_words(card.image_shape),
        "recipe": card.recipe,
        "trained on": _trained_on(card),
        "verdict": verdict_words(card),
        "SHA-256": _listed([f"{graph.file} {graph.sha256[:12]}…" for graph in card.graphs], _MOST_GRAPHS),
    }
    lines = [f'<tr><th scope="row">{name}</th><td>{escape(value)}</td></tr>' for name, value in rows.items()]
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def _trained_on(card: ModelCard) -> str:
    counts = {name: card.trained_on[name] for name in card.makes if name in card.trained_on}
    if not counts:
        return "not recorded"
    fewest = min(counts.values())
    rarest = [name for name, count in counts.items() if count == fewest]
    return f"{sum(card.trained_on.values()):,} real images; fewest of class {_listed(rarest, 5)}: {fewest:,} each"


def _samples(card: ModelCard, first: Callable[[str, int], Images]) -> str:
    names = card.makes[:MOST_CLASSES]
    columns, size = _fitting(card.image_shape, len(names))
    try:
        rows = [_row(name, first(name, columns), size) for name in names]
    except Exception as error:  # noqa: BLE001 - whatever it is, a notebook shows it in place of the samples
        return f"<p>There are no samples: {escape(f'{type(error).__name__}: {error}')}</p>"
    rest = len(card.makes) - len(names)
    caption = f"The first {columns} images of each class, seed 0" + (f"; {rest} more classes" if rest else "")
    return f"<table><caption>{caption}</caption><tbody>{''.join(rows)}</tbody></table>"


def _fitting(image_shape: tuple[int, int, int], classes: int) -> tuple[int, tuple[int, int]]:
    """Images of a class that fit, and their (height, width).

    >>> _fitting((8, 8, 1), 20), _fitting((32, 32, 3), 10), _fitting((256, 256, 3), 10)
    ((8, (8, 8)), (4, (30, 30)), (4, (30, 30)))
    """
    height, width, channels = image_shape
    most = _RAW_BYTES // classes
    columns = max(FEWEST_COLUMNS, min(COLUMNS, most // (height * width * channels)))
    scale = min(1.0, (most / columns / (height * width * channels)) ** 0.5)
    return columns, (max(1, int(height * scale)), max(1, int(width * scale)))


def _row(name: str, images: Images, size: tuple[int, int]) -> str:
    pictures = [_picture(image, size, f"{_short(name)}, image {index}") for index, image in enumerate(images)]
    return f'<tr><th scope="row">{_text(name)}</th><td>{"".join(pictures)}</td></tr>'


def _picture(image: Images, size: tuple[int, int], alt: str) -> str:
    height, width = size
    shown = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if shown.size != (width, height):
        shown = shown.resize((width, height), Image.Resampling.BOX)
    buffer = io.BytesIO()
    shown.save(buffer, "PNG", optimize=True)
    # The browser enlarges it, pixel by pixel: an enlarged file would be larger too.
    times = max(1, round(_SHOWN_PX / max(height, width)))
    source = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/png;base64,{source}" width="{width * times}" height="{height * times}" '
        f'alt="{escape(alt)}">'
    )


def _listed(names: Sequence[str], most: int) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(_short, names[:most])) + rest


def _short(name: str) -> str:
    """A name that a table has room for, on one line."""
    line = " ".join(name.split())
    return line if len(line) <= _MOST_SIGNS else f"{line[: _MOST_SIGNS - 1]}…"


def _text(name: str) -> str:
    return escape(_short(name))
