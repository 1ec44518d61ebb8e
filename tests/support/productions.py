"""What tests of mass production share: settings that need no measuring, a small screen, and trees of files."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from ganaug.card import ModelCard
from ganaug.dataset import Images
from ganaug.formats import FORMATS
from ganaug.produce import Production, production
from ganaug.store import resolve

SCREENER = Path("no-such-folder")
"""What settings name as their screener where `with_small_screener` puts one in its place."""


def order(model: Path | str, out: Path | str, **changes: Any) -> Production:
    """A production on the CPU in small shards, called in one given way."""
    chosen = {
        "model": str(model),
        "out": str(out),
        "format": "npz",
        "shard_images": 16,
        "device": "cpu",
        "batch": 8,
        "workers": 2,
        "threads": 1,
        **changes,
    }
    return Production(**chosen)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, apart from locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def images_of(folder: Path) -> dict[tuple[str, int], bytes]:
    """The pixels of every image that was kept, by class and index, as the manifest tells where they lie."""
    layout = json.loads((folder / "production.json").read_text())["layout"]
    rows = [row for row in manifest_rows(folder) if row["file"] is not None]
    read = FORMATS[layout["format"]].read_all
    held = {file: list(read((folder / file).read_bytes())) for file in {row["file"] for row in rows}}
    return {(row["class_name"], row["index"]): held[row["file"]][row["row"]].tobytes() for row in rows}


def manifest_rows(folder: Path) -> list[dict[str, Any]]:
    """The manifest, row by row."""
    rows: list[dict[str, Any]] = pq.read_table(folder / "manifest").to_pylist()
    return rows


@dataclass
class _Looks:
    right_label: npt.NDArray[np.bool_]
    confidence: npt.NDArray[np.float32]
    realism: npt.NDArray[np.float32]
    real_distance: npt.NDArray[np.float32]
    nearest_real: npt.NDArray[np.int64]
    cluster: npt.NDArray[np.int16]
    code: npt.NDArray[np.int8]

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        return {name: values for name, values in vars(self).items() if name != "code"}


class SmallScreen:
    """Keeps images of a darker upper half that are like none kept before, and so many of each kind.

    What it decides depends on all that was kept before, on their codes as on their clusters.
    """

    def __init__(self, most_of_a_cluster: int) -> None:
        self._most = most_of_a_cluster
        self._codes: set[bytes] = set()
        self._clusters: Counter[int] = Counter()

    def look(self, images: Images) -> _Looks:
        """Means of the four quarters, coarsely."""
        n, height, width, _ = images.shape
        halves = images.reshape(n, 2, height // 2, 2, width // 2, -1).mean(axis=(2, 4, 5))
        quarters = halves.reshape(n, 4)
        code = ((quarters - quarters.mean(axis=1, keepdims=True)) / 3).round().clip(-127, 127).astype(np.int8)
        lift = (halves[:, 1].mean(axis=1) - halves[:, 0].mean(axis=1)).astype(np.float32)
        return _Looks(
            right_label=lift > 0,
            confidence=lift,
            realism=quarters.std(axis=1).astype(np.float32),
            real_distance=quarters.min(axis=1).astype(np.float32),
            nearest_real=images[:, 0, 0, 0].astype(np.int64),
            cluster=(code[:, 0] % 4).astype(np.int16),
            code=code,
        )

    def decide(self, looks: _Looks) -> npt.NDArray[Any]:
        """`label`, `copy`, `crowded`, or nothing, in that order."""
        reasons = []
        for is_right, code, cluster in zip(looks.right_label, looks.code, looks.cluster, strict=True):
            if not is_right:
                reasons.append("label")
            elif code.tobytes() in self._codes:
                reasons.append("copy")
            elif self._clusters[int(cluster)] >= self._most:
                reasons.append("crowded")
            else:
                reasons.append("")
                self._keep(code, cluster)
        return np.array(reasons, object)

    def restore(self, code: npt.NDArray[np.int8], cluster: npt.NDArray[np.int16]) -> None:
        """Take over what was kept before."""
        for one, number in zip(code, cluster, strict=True):
            self._keep(one, number)

    def _keep(self, code: npt.NDArray[np.int8], cluster: np.int16) -> None:
        self._codes.add(code.tobytes())
        self._clusters[int(cluster)] += 1


@dataclass(frozen=True)
class SmallScreener:
    """A screener that is no folder: what `produce` asks of one."""

    sha256: str = "5" * 64
    most_of_a_cluster: int = 40
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, ...] = ()

    def for_class(self, class_id: int) -> SmallScreen:
        """A screen that has kept nothing yet."""
        return SmallScreen(self.most_of_a_cluster)


def with_small_screener(patch: pytest.MonkeyPatch, screener: SmallScreener | None = None) -> None:
    """Let settings that name any screener have the small one, made for their model unless it says otherwise."""
    small = screener or SmallScreener()

    def opened(config: Production) -> SmallScreener | None:
        if config.screener is None:
            return None
        card = ModelCard.load(resolve(config.model))
        names, shape = small.class_names or card.class_names, small.image_shape or card.image_shape
        return replace(small, class_names=names, image_shape=shape)

    patch.setattr(production, "_open_screener", opened)
