"""The README.md of a model folder: its card in words, with the front matter of a Hugging Face model repository.

For people and for the hub alone: loading a model reads `card.json`, never this.
"""

from __future__ import annotations

import json
import math

from ganaug.card import ModelCard
from ganaug.hub_card import front_matter, license_fields, license_words, plain, size_words, table
from ganaug.sample_sheet import COLUMNS, MOST_ROWS

README_FILE, SAMPLES_FILE = "README.md", "samples.png"
FEW = 20
"""Real images of a class under which its limits are told by name."""

_MEANING = {
    "helps": "a classifier trained with these synthetic images scored better than the best found without them.",
    "no difference": "these synthetic images made no difference that matters to a classifier trained with them.",
    "hurts": "a classifier trained with these synthetic images scored worse than the best found without them.",
    "cannot tell": "the data cannot tell whether these synthetic images help a classifier.",
}


def model_readme(card: ModelCard, *, license: str, source: str = "") -> str:  # noqa: A002 - what the hub calls it
    """README.md of a model, in Markdown with YAML front matter; it shows `samples.png` beside it.

    Args:
        card: What the model is.
        license: Licence of the model, in Hugging Face's words: `cc-by-4.0`, `mit`, `unknown`. Any
            other text becomes `license: other` with that name.
        source: Where the training images are from, in a sentence; what attribution their licence asks for.
    """
    return f"""\
{_front_matter(license)}
# {plain(card.label)}

A GAN that makes labelled synthetic images, {size_words(card.image_shape)}; classes: {len(card.makes)}.
ganaug {plain(card.ganaug)} trained it (recipe {plain(card.recipe)}) and exported it on {card.created:%Y-%m-%d}.
It runs with ONNX Runtime, without torch.

![Samples, a row for each class]({SAMPLES_FILE})

{_samples_words(card)}

## Classes

{_classes(card)}

## Use

```python
{_snippet(card)}
```

A copy from the Hugging Face hub opens as `ganaug.load(huggingface_hub.snapshot_download("owner/name"))`.
Hashes of all graphs stand in `card.json`; ganaug compares them before it runs anything.

## Intended use

To add images of rare classes to the training set of an image classifier, where the images to be classified
are like those that this model was trained on. Whether that helps can only be measured on real held-out
images: `ganaug run` does it on yours.

## Training data

{_training_data(card, source)}

## Evaluation

{_evaluation(card)}

## Limits

{_limits(card)}

## Licence

{license_words(license, "this model is")}
"""


def verdict_words(card: ModelCard) -> str:
    """What the evaluation said, with the difference that was measured; for text that is escaped after.

    >>> from ganaug.store import packaged_store
    >>> verdict_words(ModelCard.load(packaged_store() / "digits" / "1"))
    'cannot tell (+0.4 points of macro-F1, interval -0.5 to +1.5)'
    """
    said = card.verdict or "not evaluated"
    numbers = [card.metrics.get(key) for key in ("difference", "low", "high")]
    points = [100 * number for number in numbers if isinstance(number, int | float)]
    if len(points) < len(numbers):
        return said
    return f"{said} ({points[0]:+.1f} points of macro-F1, interval {points[1]:+.1f} to {points[2]:+.1f})"


def _front_matter(license: str) -> str:  # noqa: A002
    return front_matter(
        {
            **license_fields(license or "unknown"),
            "library_name": "ganaug",
            "pipeline_tag": "unconditional-image-generation",
            "tags": ["ganaug", "gan", "onnx", "synthetic", "data-augmentation", "class-imbalance"],
        }
    )


def _samples_words(card: ModelCard) -> str:
    which = f"the first {MOST_ROWS} classes" if len(card.makes) > MOST_ROWS else "each class"
    return f"The first {COLUMNS} images of seed 0 of {which}, as they come: nobody chose them."


def _classes(card: ModelCard) -> str:
    rows = []
    for name in card.makes:
        graph = card.graph_for(name)
        held = 0 if graph.exemplar_counts is None else graph.exemplar_counts[graph.classes.index(name)]
        made_from = f"a latent and one of {held} real images" if held else "a latent"
        trained_on = card.trained_on.get(name, "not recorded")
        rows.append([card.class_id(name), name, trained_on, graph.file, made_from])
    lacking = [plain(name) for name in card.class_names if name not in card.makes]
    not_made = f"\n\nOf the dataset's classes it does not make: {', '.join(lacking)}." if lacking else ""
    return table(["class id", "class", "real training images", "graph", "made from"], rows) + not_made


def _snippet(card: ModelCard) -> str:
    height, width, channels = card.image_shape
    rarest = min(card.makes, key=lambda name: card.trained_on.get(name, math.inf))
    # A JSON text is a Python one, on one line.
    name = json.dumps(rarest, ensure_ascii=False)
    return f"""\
import ganaug

generator = ganaug.load(".")  # the path of this folder
images = generator.sample({name}, count=16, seed=0)  # uint8 (16, {height}, {width}, {channels})
ganaug.to_parquet(generator, "images/", counts={{{name}: 500}}, seed=0)  # labelled files, for load_dataset"""


def _training_data(card: ModelCard, source: str) -> str:
    total = f"{sum(card.trained_on.values()):,} real images" if card.trained_on else "real images"
    parts = [
        f"{plain(source)} " if source else "",
        f"Trained on {total}, by class as above. ",
        f"Fingerprint of the dataset (SHA-256): {plain(card.dataset_sha256)}.",
    ]
    if any(graph.exemplar_counts is not None for graph in card.graphs):
        parts.append(
            "\n\n**The graphs hold real training images**, those that they vary. Who has the files can get them "
            "out: share this model only where those images may be shared."
        )
    return "".join(parts)


def _evaluation(card: ModelCard) -> str:
    if card.verdict is None:
        return "Not evaluated: nobody has measured whether training with images of this model helps."
    meaning = f": {_MEANING[card.verdict]}" if card.verdict in _MEANING else "."
    rows = [
        [key, round(value, 4) if isinstance(value, float) else value] for key, value in card.metrics.items()
    ]
    numbers = f"\n\nThe numbers behind it:\n\n{table(['metric', 'value'], rows)}" if rows else ""
    return f"Verdict, measured on real held-out images: **{plain(verdict_words(card))}**{meaning}{numbers}"


def _limits(card: ModelCard) -> str:
    few = [
        f"{plain(name)} ({card.trained_on[name]})"
        for name in card.makes
        if card.trained_on.get(name, FEW) < FEW
    ]
    lines = [
        f"Learned from fewer than {FEW} real images: {', '.join(few)}. Their images vary those few and show nothing "
        "that these do not show."
        if few
        else "",
        "Images come as the generators make them. Some are of another class than they are labelled, or of none; "
        "a run's screener sorts them out (`ganaug produce --screener`).",
        "The images inherit the bias of the training images, and may add their own.",
        "They are no evidence of anything, and not for testing: scores on them say nothing about real images.",
        "A verdict is about the dataset with the fingerprint above and the classifiers that were compared on it.",
    ]
    return "\n".join(f"- {line}" for line in lines if line)
