"""Groups from file names: what `data.group_pattern` matches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from ganaug.config import DataConfig
from ganaug.errors import DatasetError
from ganaug.readers.source import Item


def groups_of(items: Sequence[Item], config: DataConfig) -> tuple[list[str], list[str]]:
    """The group of each item, and notes.

    A group column that the user named wins over the pattern, the pattern over a guessed column.
    The pattern is searched in the file name without folder and suffix; its first group is
    taken, or the whole match when it has none.

    Raises:
        DatasetError: The pattern matches no file name.
    """
    if config.group_pattern is None or config.group_column != "auto":
        return [item.group for item in items], []
    pattern = re.compile(config.group_pattern)
    stems = [PurePosixPath(item.path).stem for item in items]
    matches = [pattern.search(stem) for stem in stems]
    groups = ["" if match is None else match[1 if pattern.groups else 0] or "" for match in matches]
    without = groups.count("")
    if without == len(groups):
        raise DatasetError(
            f"data.group_pattern {config.group_pattern!r} matches none of the {len(items)} file names; it is "
            f"searched in names without folder and suffix, such as {stems[0]!r}. '^(.*)-' takes the part up "
            "to the last dash."
        )
    if not without:
        return groups, []
    example = stems[groups.index("")]
    return groups, [f"data.group_pattern does not match {without} file names, such as {example!r}"]
