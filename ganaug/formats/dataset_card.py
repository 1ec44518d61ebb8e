"""The README.md of a production: what the images are, and what they must not be taken for.

Its front matter is what the Hugging Face hub and `datasets` read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ganaug.formats.registry import FORMATS
from ganaug.hub_card import front_matter, license_fields, license_words, plain, size_words, table

_SIZES = (
    "n<1K",
    "1K<n<10K",
    "10K<n<100K",
    "100K<n<1M",
    "1M<n<10M",
    "10M<n<100M",
    "100M<n<1B",
    "1B<n<10B",
    "10B<n<100B",
    "100B<n<1T",
    "n>1T",
)


@dataclass(frozen=True)
class ProducedModel:
    """The model that made the images of a class.

    Attributes:
        name: Its name in the store.
        version: Its number there; None where it was never published.
        sha256: Hash of the graph.
        verdict: What its evaluation on real held-out images said; None before one.
    """

    name: str
    version: int | None
    sha256: str
    verdict: str | None = None


@dataclass(frozen=True)
class ProducedClass:
    """The images of one class.

    Attributes:
        class_name: Its name.
        kept: Images in the dataset.
        model: What made them.
        truncation: Scale of the latents; 1 where they were left as they are.
        tried: Images made; more than `kept` where some were screened out.
        rejected: Images screened out, by reason.
    """

    class_name: str
    kept: int
    model: ProducedModel
    truncation: float
    tried: int
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ProducedAbout:
    """What the card says.

    Attributes:
        title: Name of the dataset.
        license: The owner's licence, as Hugging Face abbreviates it (`cc-by-4.0`); None if not said.
        format: One of `FORMATS`.
        encoding: One of `ENCODINGS`, or `none`.
        image_shape: (height, width, channels).
        seed: The seed of all latents.
        classes: What was made, class by class.
        ganaug: Version of ganaug that made it.
        is_found: Whether ganaug only screened images that something else made.
    """

    title: str
    license: str | None
    format: str
    encoding: str
    image_shape: tuple[int, int, int]
    seed: int
    classes: Sequence[ProducedClass]
    ganaug: str
    is_found: bool = False


def dataset_card(about: ProducedAbout) -> str:
    """README.md of a folder of produced images, in Markdown with YAML front matter."""
    total = sum(row.kept for row in about.classes)
    origin = _found(about.classes) if about.is_found else _made(about.classes)
    who = f"Something else made them, and ganaug {about.ganaug} screened them; {total:,} were kept."
    if not about.is_found:
        who = f"A GAN of ganaug {about.ganaug} made all {total:,} of them, with seed {about.seed}."
    return f"""\
{_front_matter(about, total)}
# {plain(about.title)}

**Every image here is synthetic**; none shows anything that exists. {who}
They are {size_words(about.image_shape)}; format {about.format}, encoding {about.encoding}.

## Classes

{_counts(about.classes)}

{origin}
## Use

```python
{FORMATS[about.format].snippet}
```

`manifest/` has a row for every image that was tried: where it lies, or why it was not kept.

## Limits

- The images inherit the bias of the images that the models were trained on, and may add their own.
- They are no evidence of anything: do not use them to show that a thing exists or looks so.
- Use them for training only. Evaluate on real images; scores on these say nothing about real ones.

## Licence

{license_words(about.license, "the images are")}
"""


def _front_matter(about: ProducedAbout, total: int) -> str:
    chosen = FORMATS[about.format]
    config = {
        "config_name": "default",
        # Named, or the tables of manifest/ would be taken for images as well.
        "data_files": [{"split": "train", "path": chosen.pattern}],
        **chosen.loader_options,
    }
    fields = {
        **license_fields(about.license),
        "pretty_name": about.title,
        "task_categories": ["image-classification"],
        "tags": ["synthetic", "gan", "ganaug"],
        "size_categories": [_size(total)],
        "configs": [config],
    }
    return front_matter(fields)


def _size(total: int) -> str:
    """The hub's word for so many images.

    >>> _size(999), _size(1000), _size(10**12)
    ('n<1K', '1K<n<10K', 'n>1T')
    """
    return _SIZES[sum(total >= 10**power for power in range(3, 13))]


def _counts(classes: Sequence[ProducedClass]) -> str:
    """Kept, tried and rejected; a column for each reason that occurs."""
    reasons = list(dict.fromkeys(reason for row in classes for reason in row.rejected))
    rows = [
        [row.class_name, row.kept, row.tried, *(row.rejected.get(reason, 0) for reason in reasons)]
        for row in classes
    ]
    return table(["class", "images", "tried", *(f"rejected: {reason}" for reason in reasons)], rows)


def _found(classes: Sequence[ProducedClass]) -> str:
    names = ", ".join(dict.fromkeys(plain(row.model.name) for row in classes))
    return f"The images came from {names}; the manifest has the path of each.\n"


def _made(classes: Sequence[ProducedClass]) -> str:
    verdicts = {f"{row.model.name} {row.model.version or ''}": row.model.verdict for row in classes}
    said = [f"- {plain(model)}: {plain(verdict or 'not evaluated')}" for model, verdict in verdicts.items()]
    return f"""\
## Models

{_models(classes)}

Whether training with such images helped, measured on real held-out images:

{chr(10).join(said)}

Any image can be made again, to the bit on the same kind of machine; rows are those of `manifest/`:

```
ganaug reproduce path/to/this/folder --row 0
```
"""


def _models(classes: Sequence[ProducedClass]) -> str:
    rows = [
        [
            row.class_name,
            row.model.name,
            row.model.version or "not published",
            row.model.sha256,
            row.truncation,
        ]
        for row in classes
    ]
    return table(["class", "model", "version", "SHA-256", "truncation"], rows)
