"""What models, versions and aliases are called, and how a name that was asked for is read."""

from __future__ import annotations

import re
from pathlib import Path

from ganaug.errors import ModelError

STORE = Path("exported")
POINTER_FILE = "current.json"
HISTORY = "history"
PRODUCTION = "production"
"""The alias that a name without a version means."""
CANDIDATE = "candidate"
"""The alias of the version that was published last."""

_NAME = re.compile(r"[^\x00-\x1f./\\@:*?\"<>|][^\x00-\x1f/\\@:*?\"<>|]{0,99}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,49}")
_VERSION = re.compile(r"\d{1,9}")


def packaged_store() -> Path:
    """The models that come with ganaug: inside the installed package, or in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "exported"
    return installed if installed.is_dir() else package.parent / "exported"


def check_name(name: str) -> None:
    """Refuse what cannot be a model's name.

    Raises:
        ModelError: It cannot.
    """
    if not _NAME.fullmatch(name):
        raise ModelError(
            f'{name!r} cannot be the name of a model: up to 100 characters, none of / \\ @ : * ? " < > |, '
            "and no dot at the front. Choose one with --publish.name."
        )


def is_alias(text: object) -> bool:
    """Whether something can be an alias."""
    return isinstance(text, str) and _ALIAS.fullmatch(text) is not None


def check_alias(alias: str) -> None:
    """Refuse what cannot be an alias.

    Raises:
        ModelError: It cannot.
    """
    if not is_alias(alias):
        raise ModelError(
            f"{alias!r} cannot be an alias: a letter first, then up to 49 letters, digits, dots, dashes and underscores"
        )


def split_suffix(text: str) -> tuple[str, int | str | None]:
    """A name, and the version or alias behind its `@`; None without one.

    >>> split_suffix("digits@3"), split_suffix("s3://bucket/models/digits@candidate")
    (('digits', 3), ('s3://bucket/models/digits', 'candidate'))
    >>> split_suffix("digits")
    ('digits', None)
    """
    name, at, suffix = text.rpartition("@")
    if at and name and not name.endswith("/"):
        if _VERSION.fullmatch(suffix):
            return name, int(suffix)
        # `ftp://user@host` names no alias.
        if is_alias(suffix) and not name.partition("://")[2].count("/") < name.count("://"):
            return name, suffix
    return text, None
