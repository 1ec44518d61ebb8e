"""What became of a class in a production."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import TypeAdapter


@dataclass
class Tally:
    """Counts of a class.

    Attributes:
        wanted: Images to try; with `until_kept`, to keep.
        tried: Images that were made.
        kept: Images that are in shards.
        rejected: Images rejected, by reason.
        made: Images made now, rather than by an earlier call.
        is_filled: Whether all that was wanted is there.
    """

    wanted: int
    tried: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    made: int = 0
    is_filled: bool = False

    @property
    def mostly(self) -> str:
        """The reason for which most images were rejected, with its share of them; empty without any."""
        if not self.rejected:
            return ""
        reason, count = self.rejected.most_common(1)[0]
        return f"{reason} ({count / self.rejected.total():.0%})"

    def __add__(self, other: Tally) -> Tally:
        """Both together: of two parts of one production."""
        return Tally(
            self.wanted + other.wanted,
            self.tried + other.tried,
            self.kept + other.kept,
            self.rejected + other.rejected,
            self.made + other.made,
            self.is_filled and other.is_filled,
        )

    def plain(self) -> dict[str, Any]:
        """For JSON, without what one call happened to make: the same for the same images."""
        return {
            "wanted": self.wanted,
            "tried": self.tried,
            "kept": self.kept,
            "rejected": dict(sorted(self.rejected.items())),
            "is_filled": self.is_filled,
        }

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Self:
        """From `plain`.

        Raises:
            ValueError: It is not like that.
        """
        return TypeAdapter(cls).validate_python(tree)


def add(total: dict[str, Tally], done: Mapping[str, Tally]) -> None:
    """Add the classes of one part to those of others."""
    for name, tally in done.items():
        total[name] = total[name] + tally if name in total else tally
