"""A user's own classifier, as far as it can be told without torch: is it there, and what is it made of."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ganaug.arms import Arm
from ganaug.classifier_name import DEFAULT, command_words, kind_of
from ganaug.errors import SettingsError
from ganaug.own_arm import code_digest, load
from ganaug.run import sha256_file

SETTING = "evaluate.classifier"


def check_starts_alike(name: str, arms: Sequence[Arm]) -> None:
    """Refuse arms that would put another network in the place of a classifier that was chosen.

    Args:
        name: The setting.
        arms: The arms that are asked for.

    Raises:
        SettingsError: An arm starts from the discriminator, and the classifier is not the default.
    """
    started = [] if name == DEFAULT else [arm.name for arm in arms if arm.start == "discriminator"]
    if started:
        raise SettingsError(
            [
                f"evaluate.arms: {arm!r} trains the discriminator as the classifier, in the place of {name!r}; "
                f"leave the arm out, or take `{SETTING} {DEFAULT}`"
                for arm in started
            ]
        )


def check_is_there(name: str) -> None:
    """Import a function, or look for a command's program; neither is run.

    Raises:
        SettingsError: It cannot be imported, or is not there.
    """
    kind = kind_of(name)
    if kind == "function":
        load(name, SETTING)
    if kind == "command" and shutil.which(command_words(name)[0]) is None:
        raise SettingsError(
            [
                f"{SETTING}: there is no program {command_words(name)[0]!r}; give its path, from the folder in "
                "which ganaug is started, and make it executable"
            ]
        )


def identity(name: str) -> list[str]:
    """What a classifier's fits depend on: its name, and hashes of the user's code.

    Of a function it is the file that it stands in; of a command every file that one of its words
    names, also behind `=`.
    """
    kind = kind_of(name)
    if kind == "function":
        return [name, code_digest(name, SETTING)]
    if kind == "command":
        files = [Path(word.rpartition("=")[2]) for word in command_words(name)]
        return [name, *(sha256_file(file) for file in files if file.is_file())]
    return [name]
