"""ModelCard: what a model is, what it was trained on, and the hashes of its graphs.

A model is a folder: `card.json` and one or more ONNX graphs, usually one that makes every
class and one for each class that was trained on its own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ganaug.errors import ModelError, UnknownClassError

FORMAT: Final = 1
"""Version of the card's schema; a card of a newer one is refused."""
CARD_FILE = "card.json"
MAX_CARD_BYTES = 4 * 2**20
MAX_GRAPH_BYTES = 2**31 - 1
"""No ONNX file that stands alone can be larger: protobuf ends there."""

MAX_SIDE_PX = 4096
"""Larger images than these no generator makes; a card that says so would only take all memory."""

Side = Annotated[int, Field(gt=0, le=MAX_SIDE_PX)]
Kind = Literal["class-conditional", "exemplar-conditional"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# A plain name, because it comes from a file that somebody else may have written.
GraphFile = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.onnx$")]
ModelName = Annotated[str, Field(pattern=r"^[^\x00-\x1f./\\@:*?\"<>|][^\x00-\x1f/\\@:*?\"<>|]{0,99}$")]


class GraphCard(BaseModel):
    """One ONNX graph of a model.

    Attributes:
        file: Its name inside the model folder.
        sha256: Hash of the file, in hexadecimal.
        bytes: Size of the file.
        kind: Whether it takes the number of an exemplar beside latent and class.
        classes: Names of the classes that it makes.
        z_dim: Length of its latent vector.
        exemplar_counts: Exemplars of each of `classes`; None when class-conditional.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: GraphFile
    sha256: Sha256
    bytes: Annotated[int, Field(gt=0, le=MAX_GRAPH_BYTES)]
    kind: Kind
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    z_dim: Annotated[int, Field(gt=0, le=65536)]
    exemplar_counts: tuple[PositiveInt, ...] | None = None

    @model_validator(mode="after")
    def _exemplars_fit_the_kind(self) -> Self:
        counts = self.exemplar_counts
        if (counts is not None) != (self.kind == "exemplar-conditional"):
            raise ValueError(f"a {self.kind} graph with exemplar_counts {counts}")
        if counts is not None and len(counts) != len(self.classes):
            raise ValueError(f"{len(counts)} exemplar_counts for {len(self.classes)} classes")
        return self


class ModelCard(BaseModel):
    """What a model is; written as `card.json` beside its graphs.

    Attributes:
        format: Version of this schema.
        name: Name of the model.
        version: Its number in the store; None before it was published.
        graphs: Its graphs.
        class_names: Every class of the dataset; the position is the class id.
        image_shape: (height, width, channels) of the images.
        recipe: Architecture that it was trained with.
        settings: Other notes of the training, as it left them.
        dataset_sha256: Fingerprint of the dataset.
        trained_on: Real training images per class name.
        created: When it was exported.
        ganaug: Version of ganaug that exported it.
        verdict: What the evaluation on real held-out images said; None before it.
        metrics: Numbers behind the verdict.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    name: ModelName
    version: PositiveInt | None = None
    graphs: Annotated[tuple[GraphCard, ...], Field(min_length=1)]
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    image_shape: tuple[Side, Side, Literal[1, 3, 4]]
    recipe: str
    settings: dict[str, Any] = {}
    dataset_sha256: str
    trained_on: dict[str, NonNegativeInt] = {}
    created: AwareDatetime
    ganaug: str
    verdict: str | None = None
    metrics: dict[str, float | int | str | None] = {}

    @model_validator(mode="after")
    def _graphs_fit_together(self) -> Self:
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError("a class name stands there twice")
        files = [graph.file for graph in self.graphs]
        if len(set(files)) < len(files):
            raise ValueError(f"a graph file stands there twice: {files}")
        known = set(self.class_names)
        for graph in self.graphs:
            if strangers := set(graph.classes) - known:
                raise ValueError(f"{graph.file} makes classes that class_names lacks: {sorted(strangers)}")
            if len(set(graph.classes)) < len(graph.classes):
                raise ValueError(f"{graph.file} names a class twice")
        return self

    @property
    def label(self) -> str:
        """What a user calls it: `digits@1`; before it was published, the name alone."""
        return self.name if self.version is None else f"{self.name}@{self.version}"

    @property
    def makes(self) -> tuple[str, ...]:
        """Names of the classes that its graphs make, in the order of their ids."""
        able = {name for graph in self.graphs for name in graph.classes}
        return tuple(name for name in self.class_names if name in able)

    def class_id(self, class_name: str) -> int:
        """The dataset's number of a class.

        Raises:
            UnknownClassError: The dataset had no such class.
        """
        if class_name not in self.class_names:
            raise UnknownClassError([class_name], self.class_names, self.name)
        return self.class_names.index(class_name)

    def graph_for(self, class_name: str) -> GraphCard:
        """The graph that makes a class: its specialist, which makes the fewest classes, if there is one.

        Raises:
            UnknownClassError: No graph makes the class.
        """
        able = [graph for graph in self.graphs if class_name in graph.classes]
        if not able:
            known = {name for graph in self.graphs for name in graph.classes}
            raise UnknownClassError([class_name], known, self.name)
        return min(able, key=lambda graph: len(graph.classes))

    def save(self, folder: Path) -> None:
        """Write `card.json`, so that a reader sees the old one or the new one, never half."""
        beside = folder / (CARD_FILE + ".new")
        with beside.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(folder / CARD_FILE)

    @classmethod
    def load(cls, folder: Path) -> ModelCard:
        """Read and check `card.json`.

        Raises:
            ModelError: It is missing, damaged, or of a newer version of ganaug.
        """
        path = folder / CARD_FILE
        tree = _read_tree(path)
        version = tree.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise ModelError(
                f"{path} has card format {version} and this ganaug reads up to {FORMAT}: a newer ganaug wrote it. "
                "Upgrade with pip install -U ganaug."
            )
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'card'}: {problem['msg']}"
                for problem in error.errors()
            )
            raise ModelError(f"{path} is damaged or not a model card: {problems}. {_RECOVER}") from error


_RECOVER = "Export or publish the model again, or roll back with an earlier version (name@version)."


def now() -> datetime:
    """The time for `created`, in UTC and whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def graph_metadata(
    *,
    kind: Kind,
    class_ids: Sequence[int],
    classes: Sequence[str],
    z_dim: int,
    exemplar_counts: Sequence[int] | None,
    image_shape: tuple[int, int, int],
) -> dict[str, str]:
    """What a graph carries inside (ONNX `metadata_props`), so that one that strayed is recognised."""
    fields = {
        "format": FORMAT,
        "kind": kind,
        "class_ids": list(class_ids),
        "classes": list(classes),
        "z_dim": z_dim,
        "exemplar_counts": None if exemplar_counts is None else list(exemplar_counts),
        "image_shape": list(image_shape),
    }
    return {f"ganaug.{key}": json.dumps(value, ensure_ascii=False) for key, value in fields.items()}


def describe_graph(folder: Path, file: str, **fields: Any) -> GraphCard:
    """The card of a graph file that was just written: its size and hash, and these fields."""
    content = (folder / file).read_bytes()
    return GraphCard(file=file, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), **fields)


def read_graph(folder: Path, graph: GraphCard) -> bytes:
    """Read a graph's bytes, which are exactly those that its card describes.

    Whoever runs a graph runs the bytes that this returns, not the file: it could change
    between the check and the use.

    Raises:
        ModelError: It is missing, or its size or hash is another.
    """
    path = folder / graph.file
    try:
        with path.open("rb") as file:
            content = file.read(graph.bytes + 1)
    except OSError as error:
        raise ModelError(
            f"the card in {folder} names the graph {graph.file}, which cannot be read ({error.strerror}). {_RECOVER}"
        ) from error
    if len(content) != graph.bytes:
        have = f"{len(content)}" if len(content) < graph.bytes else f"more than {graph.bytes}"
        raise ModelError(
            f"{path} has {have} bytes, its card says {graph.bytes}: damaged or swapped. {_RECOVER}"
        )
    digest = hashlib.sha256(content).hexdigest()
    if digest != graph.sha256:
        raise ModelError(
            f"{path} has SHA-256 {digest[:12]}…, its card says {graph.sha256[:12]}…: damaged or swapped. {_RECOVER}"
        )
    return content


def card_sha256(folder: Path) -> str:
    """Hash of `card.json`: it holds the hashes of all graphs, and so names the whole model.

    Raises:
        ModelError: It cannot be read.
    """
    return hashlib.sha256(_read_card(folder / CARD_FILE)).hexdigest()


def verify(folder: Path) -> ModelCard:
    """Check a whole model: its card, and size and hash of every graph.

    Raises:
        ModelError: Something is missing, damaged or swapped.
    """
    card = ModelCard.load(folder)
    for graph in card.graphs:
        read_graph(folder, graph)
    return card


def _read_card(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CARD_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path.parent} is not a model: it has no {CARD_FILE}. "
            "Give a model folder, or a name that `ganaug models` lists."
        ) from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}. {_RECOVER}") from error
    if len(content) > MAX_CARD_BYTES:
        raise ModelError(f"{path} is larger than {MAX_CARD_BYTES} bytes: not a model card. {_RECOVER}")
    return content


def _read_tree(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(_read_card(path))
    except ModelError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: it is not JSON ({error}). {_RECOVER}") from error
    if not isinstance(tree, dict):
        raise ModelError(f"{path} is damaged: it holds a {type(tree).__name__}, not a table. {_RECOVER}")
    return tree
