"""What the cards of datasets and of models share: front matter, licence, and names shown as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml

UNKNOWN = "unknown"
"""The hub's word for a licence that nobody has said."""


def front_matter(fields: Mapping[str, object]) -> str:
    """What the Hugging Face hub reads of a README.md: YAML between two lines of dashes."""
    return f"---\n{yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True)}---\n"


def license_fields(license: str | None) -> dict[str, str]:  # noqa: A002 - what the hub calls it
    """A licence as the hub takes it: its own word, or the name of another one.

    >>> license_fields("CC-BY-4.0"), license_fields("Our own terms"), license_fields(None)
    ({'license': 'cc-by-4.0'}, {'license': 'other', 'license_name': 'Our own terms'}, {})
    """
    if not license:
        return {}
    if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license.lower()):
        return {"license": license.lower()}
    return {"license": "other", "license_name": license}


def license_words(license: str | None, what: str) -> str:  # noqa: A002
    """The licence of what a card is about, for people.

    >>> license_words(UNKNOWN, "the images are")
    'The owner has not said under which licence the images are.'
    """
    if license in {None, "", UNKNOWN}:
        return f"The owner has not said under which licence {what}."
    return plain(str(license))


def size_words(image_shape: tuple[int, int, int]) -> str:
    """Size and kind of images.

    >>> size_words((48, 32, 3))
    '32 x 48 px (width x height), RGB'
    """
    height, width, channels = image_shape
    return f"{width} x {height} px (width x height), { ({1: 'grey', 3: 'RGB', 4: 'RGBA'}[channels]) }"


def table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; its cells are shown as they are."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(plain(str(cell)) for cell in line)} |" for line in lines)


def plain(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    >>> print(plain("a|b <i> &amp; $x$"))
    a\|b \<i\> \&amp; \$x\$
    """
    return "".join(f"\\{sign}" if sign in "\\`*_|<>[]#&~$" else sign for sign in " ".join(text.split()))
