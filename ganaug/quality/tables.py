"""The tables of `ganaug evaluate-generator`, with what a reader must know under them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ganaug.quality.evaluate import Evaluation

if TYPE_CHECKING:
    from ganaug.training.measure import ClassQuality, Quality

FEW = 20
"""Held-out images of a class below which its numbers are hardly worth reading."""


def tables(evaluation: Evaluation) -> tuple[Table, Table]:
    """The numbers as two tables, a row per class and overall, the notes under the second."""
    quality = evaluation.quality
    likeness, use = Table(title=Text(evaluation.title)), Table(title="Labels, use and memory")
    use.caption, use.caption_justify = Text("\n".join((*evaluation.notes, *_reading(quality)))), "left"
    for table, columns in ((likeness, _LIKENESS), (use, _USE)):
        table.title_justify = "left"
        table.add_column("class")
        for heading, *_ in columns:
            table.add_column(heading, justify="right")
        for row in (*quality.classes, quality.overall):
            is_overall = row is quality.overall
            if is_overall:
                table.add_section()
            cells = [_cell(row, name, form) for _, name, form in columns]
            table.add_row(Text(row.class_name), *cells, style="bold" if is_overall else "")
    return likeness, use


_LIKENESS = (
    ("synthetic", "synthetic", ",d"),
    ("held-out", "held_out", ",d"),
    ("Fréchet distance", "frechet_distance", ".2f"),
    ("kernel distance", "kernel_distance", ".3f"),
    ("precision", "precision", ".2f"),
    ("recall", "recall", ".2f"),
    ("density", "density", ".2f"),
    ("coverage", "coverage", ".2f"),
)
_USE = (
    ("right label", "right_label_rate", ".1%"),
    ("CAS recall", "score_recall", ".1%"),
    ("of real images", "real_score_recall", ".1%"),
    ("memorisation (features)", "memorisation_features", ".2f"),
    ("memorisation (pixels)", "memorisation_pixels", ".2f"),
    ("copies", "copies", ".1%"),
)
"""Heading, field of `ClassQuality` and format of each column."""


def _cell(row: ClassQuality, name: str, form: str) -> str:
    value = getattr(row, name)
    return "-" if value is None else format(value, form)


def _reading(quality: Quality) -> list[str]:
    """How to read the columns."""
    lines = [
        "Features are those of a classifier of this dataset: numbers compare its generators with each other, at "
        "the same counts of images, and with nothing that was published.",
        "Fréchet and kernel distance: lower is better. Precision, density: are the images realistic; recall, "
        f"coverage: are all kinds there (k = {quality.overall.k or '-'}, less in smaller classes).",
        "Memorisation: distance to the nearest training image, over that of held-out images; below 1 is nearer "
        f"than real images are. Copies: nearer than {quality.copy_distance:.3f} in pixels.",
    ]
    few = [f"{row.class_name} ({row.held_out})" for row in quality.classes if row.held_out < FEW]
    if few:
        lines.append(
            f"Their rows are mostly noise, for they have fewer than {FEW} held-out images: {', '.join(few)}. "
            "Fréchet distances are too large with fewer images than features (128), all in the same way."
        )
    for score, trained in (
        (quality.score, "synthetic images only"),
        (quality.real_score, "real training images"),
    ):
        if score is not None:
            lines.append(
                f"Classifier trained on {trained}, tested on held-out real images: accuracy {score.accuracy:.1%}, "
                f"macro-F1 {score.macro_f1:.1%}" + (" (CAS)." if score is quality.score else ".")
            )
    return lines
