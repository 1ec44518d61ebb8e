"""README.md and samples.png beside a model: what makes its folder a Hugging Face model repository."""

from __future__ import annotations

from pathlib import Path

from ganaug.card import ModelCard
from ganaug.generate import Generator
from ganaug.model_readme import README_FILE, SAMPLES_FILE, model_readme
from ganaug.run import writing
from ganaug.sample_sheet import COLUMNS, MOST_ROWS, sample_sheet


def write_model_page(folder: Path, card: ModelCard, *, license: str, source: str = "") -> None:  # noqa: A002
    """Write both files, or write them anew; the graphs and `card.json` stay as they are.

    Args:
        folder: The model.
        card: Its card.
        license: Licence of the model, as `model_readme` takes it.
        source: Where the training images are from, in a sentence.

    Raises:
        ModelError: A graph is missing, damaged or cannot run, so that there are no samples.
        OutputError: The folder cannot be written.
    """
    # On the CPU, where they are the same whatever the machine has.
    generator = Generator(folder, card, device="cpu", batch=COLUMNS)
    samples = sample_sheet({name: generator.sample(name, COLUMNS) for name in card.makes[:MOST_ROWS]})
    text = model_readme(card, license=license, source=source)
    with writing(folder):
        for file, content in ((SAMPLES_FILE, samples), (README_FILE, text.encode())):
            beside = folder / f"{file}.new"
            beside.write_bytes(content)
            beside.replace(folder / file)
