"""What `evaluate.classifier` may be: a built-in one, a function that makes one, or a command."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["built-in", "function", "command"]
BUILT_IN = ("small-cnn", "resnet-32")
"""Those that come with ganaug; `training.classifiers.presets` has what they are."""
DEFAULT = BUILT_IN[0]
PLACEHOLDERS = ("folder", "predictions", "seed")
"""What stands in braces in a command and is filled in for each fit; the first two are a must."""
_COMMAND = re.compile(r"command:\s+(\S.*)", re.DOTALL)
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_BRACES = re.compile(r"\{([A-Za-z_]\w*)\}")


def kind_of(name: str) -> Kind:
    """Tell what a name means.

    Raises:
        ValueError: It means nothing.

    >>> kind_of("resnet-32"), kind_of("mine.models:make"), kind_of("command: ./train {folder} {predictions}")
    ('built-in', 'function', 'command')
    """
    if name in BUILT_IN:
        return "built-in"
    if _COMMAND.fullmatch(name):
        command_words(name)
        return "command"
    if _FUNCTION.fullmatch(name):
        return "function"
    near = difflib.get_close_matches(name, BUILT_IN, n=1)
    raise ValueError(
        f"is no classifier; {f'did you mean {near[0]}? ' if near else ''}known: {', '.join(BUILT_IN)}, "
        "your own function as package.module:function, or 'command: program {folder} {predictions}'"
    )


def command_words(name: str) -> list[str]:
    """The words of a command, as a shell would part them; no shell runs it.

    Raises:
        ValueError: A quote is not closed, or placeholders are missing or unknown.

    >>> command_words("command: python 'my train.py' {folder} {predictions}.csv")
    ['python', 'my train.py', '{folder}', '{predictions}.csv']
    """
    found = _COMMAND.fullmatch(name)
    try:
        words = shlex.split(found[1]) if found is not None else []
    except ValueError as error:
        raise ValueError(f"is no command: {error}") from error
    named = {one for word in words for one in _BRACES.findall(word)}
    missing = [f"{{{one}}}" for one in PLACEHOLDERS[:2] if one not in named]
    unknown = [f"{{{one}}}" for one in sorted(named - set(PLACEHOLDERS))]
    if missing:
        raise ValueError(
            f"is a command without {' and '.join(missing)}: {{folder}} is where its training images and "
            "test.npy lie, {predictions} the file that it writes"
        )
    if unknown:
        raise ValueError(
            f"is a command with {', '.join(unknown)}; known: {{folder}}, {{predictions}}, {{seed}}"
        )
    return words


def filled(words: list[str], values: Mapping[str, str]) -> list[str]:
    """The words with values in the place of placeholders.

    >>> filled(["--seed={seed}", "{folder}"], {"seed": "3", "folder": "/here"})
    ['--seed=3', '/here']
    """
    return [_BRACES.sub(lambda found: values.get(found[1], found[0]), word) for word in words]


def as_text(given: Any) -> Any:
    """One text, also where YAML reads `command: python ...` without quotes as a table.

    >>> as_text({"command": "./train {folder} {predictions}"})
    'command: ./train {folder} {predictions}'
    """
    if isinstance(given, Mapping) and set(given) == {"command"} and isinstance(given["command"], str):
        return f"command: {given['command']}"
    return given
