"""Putting exported generators together into one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ganaug import card as cards
from ganaug.card import GraphCard, ModelCard
from ganaug.errors import ModelError
from ganaug.run import writing
from ganaug.store.local import write_synced

BASE_FILE = "base.onnx"


def assemble_model(
    folders: Sequence[Path],
    out: Path,
    *,
    name: str,
    verdict: str | None = None,
    metrics: Mapping[str, float | int | str | None] | None = None,
) -> ModelCard:
    """Put exported generators together into one model: the base and its specialists.

    Args:
        folders: Export folders, the base first; each has a card with one graph.
        out: Folder of the model; gets `base.onnx`, a graph for each class and `card.json`.
        name: Name of the model.
        verdict: What the evaluation said.
        metrics: Numbers behind it.

    Returns:
        The model's card.

    Raises:
        ModelError: A part is damaged, they are of different datasets, or two specialists
            make the same class.
        OutputError: `out` cannot be written.
    """
    # Here, because it brings pandas, which who only makes images does without.
    from ganaug.plan import part_name

    parts = [cards.verify(folder) for folder in folders]
    base = parts[0]
    graphs: list[GraphCard] = []
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for folder, card in zip(folders, parts, strict=True):
            _check_part(folder, card, base, graphs[1:])
            graph = card.graphs[0]
            ids = [card.class_id(class_name) for class_name in graph.classes]
            file = f"{part_name(ids[0], graph.classes[0])}.onnx" if graphs else BASE_FILE
            write_synced(out / file, cards.read_graph(folder, graph))
            graphs.append(graph.model_copy(update={"file": file}))
        model = base.model_copy(
            update={
                "name": name,
                "graphs": tuple(graphs),
                "created": cards.now(),
                "verdict": verdict,
                "metrics": dict(metrics or {}),
            }
        )
        # Copies are not validated: read it back as anybody will.
        model.save(out)
    return ModelCard.load(out)


def _check_part(folder: Path, card: ModelCard, base: ModelCard, specialists: Sequence[GraphCard]) -> None:
    if len(card.graphs) != 1:
        raise ModelError(f"{folder} has {len(card.graphs)} graphs; an export has one")
    for field in ("class_names", "image_shape", "dataset_sha256"):
        if getattr(card, field) != getattr(base, field):
            raise ModelError(
                f"{folder} does not belong to the base: its {field} is {getattr(card, field)!r}, the base's "
                f"{getattr(base, field)!r}. Export all of them from one run."
            )
    for other in specialists:
        if twice := set(other.classes) & set(card.graphs[0].classes):
            raise ModelError(
                f"{folder}: another specialist makes {sorted(twice)} already; a class has one graph"
            )
