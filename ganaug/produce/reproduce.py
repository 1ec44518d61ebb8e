"""Make an image of a production again from its row of the manifest, and compare."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganaug.errors import DatasetError, ModelError
from ganaug.formats import ENCODINGS, FORMATS, decode
from ganaug.generate import Generator
from ganaug.places import Place, open_place, without_secrets
from ganaug.produce import manifest
from ganaug.produce.manifest import PRODUCTION_FILE

if TYPE_CHECKING:
    from ganaug.dataset import Images


@dataclass(frozen=True)
class Reproduced:
    """An image that was made again.

    Attributes:
        row: Its row of the manifest: class, seed, index and what the screen said.
        image: (H, W, C) uint8 as it was made now.
        stored: (H, W, C) uint8 as it lies in its shard; None for one that was not kept.
        levels: Largest difference of a pixel from what would be stored now; None without one.
    """

    row: dict[str, Any]
    image: Images
    stored: Images | None
    levels: int | None

    @property
    def is_same(self) -> bool:
        """Whether it is the stored one to the last bit."""
        return self.levels == 0


def reproduce(
    production: Path | str, row: int, *, model: Path | str | None = None, device: str = "auto"
) -> Reproduced:
    """Make one image again.

    Args:
        production: What `produce` left: its address, its manifest folder, or one file of that.
        row: Row of the manifest, from 0, in the order of its files.
        model: The model, where it is not found under the name that it had.
        device: `auto`, `cpu` or `cuda`; other devices may differ in the last bit.

    Raises:
        DatasetError: No such row, no production there, or images that no model made.
        ModelError: The model is not there, or another one than that which made the image.
    """
    place, files = _pieces(str(production))
    found = _row(place, files, row)
    about = _about(place)
    if found["origin"] is not None:
        raise DatasetError(f"row {row} is {found['origin']!r}, which was not made by a model of ganaug")
    generator = _generator(model or about["model"], found, device)
    image = generator.sample(
        found["class_name"],
        1,
        seed=found["seed"],
        start=found["index"],
        truncation=found["truncation"],
    )[0]
    if found["file"] is None:
        return Reproduced(found, image, None, None)
    layout = about["layout"]
    stored = FORMATS[layout["format"]].read(place.read(found["file"]), found["row"])
    expected = image
    if layout["encoding"]:
        # A lossy encoding changes pixels: what would be stored is what is compared.
        expected = decode(ENCODINGS[layout["encoding"]].encode(image[None], layout["quality"])[0])
    levels = int(abs(expected.astype(int) - stored.astype(int)).max())
    return Reproduced(found, image, stored, levels)


def _pieces(address: str) -> tuple[Place, list[str]]:
    """The production's place and the files of its manifest that were named."""
    text = address.rstrip("/")
    if text.endswith(".parquet"):
        folder, _, file = text.rpartition("/")
        return open_place(folder.removesuffix(manifest.FOLDER).rstrip("/") or "."), [file]
    place = open_place(text.removesuffix(f"/{manifest.FOLDER}"))
    files = place.names(manifest.FOLDER)
    if not files:
        raise DatasetError(
            f"{address} has no {manifest.FOLDER}/ with Parquet files in it; give a folder that `ganaug produce` wrote"
        )
    return place, files


def _row(place: Place, files: list[str], row: int) -> dict[str, Any]:
    before = 0
    for file in files:
        try:
            content = place.read(f"{manifest.FOLDER}/{file}")
        except FileNotFoundError as error:
            raise DatasetError(f"{place.address} has no {manifest.FOLDER}/{file}") from error
        # Its columns only where the row is: a production may have millions.
        found = manifest.read_piece(content, [])
        if found is not None and 0 <= row - before < found[0].tried:
            found = manifest.read_piece(content, manifest.SCHEMA.names)
            if found is not None:
                values: dict[str, Any] = found[1].slice(row - before, 1).to_pylist()[0]
                return values
        if found is None:
            raise DatasetError(
                f"{manifest.FOLDER}/{file} at {place.address} is no manifest of ganaug, or damaged"
            )
        before += found[0].tried
    raise DatasetError(f"there is no row {row}: the manifest at {place.address} has rows 0 to {before - 1}")


def _about(place: Place) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(place.read(PRODUCTION_FILE))
        layout = about["layout"]
        if layout["format"] not in FORMATS or layout["encoding"] not in {"", *ENCODINGS}:
            raise ValueError(f"unknown layout {layout}")
        if not isinstance(about["model"], str) or not isinstance(layout["quality"], int):
            raise TypeError("model is a text and quality a number")
    except (FileNotFoundError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise DatasetError(f"{place.address} has no readable {PRODUCTION_FILE}: {error!r}") from error
    return about


def _generator(model: Path | str, row: dict[str, Any], device: str) -> Generator:
    try:
        generator = Generator.open(model, device=device)
    except ModelError as error:
        raise ModelError(f"{error} The images were made by it: say where it is now with --model.") from error
    have = generator.model_sha256(row["class_name"])
    if have != row["model_sha256"]:
        model = without_secrets(str(model))
        raise ModelError(
            f"{model} makes class {row['class_name']!r} with graph {have[:12]}…, and the image was made by "
            f"{row['model_sha256'][:12]}…. Say with --model which version made it ({model}@N, or its folder)."
        )
    return generator
