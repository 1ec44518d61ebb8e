"""From a model to files in one call: Parquet, a folder of images, or WebDataset.

Each is `ganaug.produce.produce` with the settings that most people need: the same layout and the
same bytes as `ganaug produce`. What it has beyond these (screeners, parts for many machines, .npz)
is in `ganaug.produce.Production`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ganaug import store
from ganaug.config import explain
from ganaug.errors import ModelError, SettingsError
from ganaug.generate import Generator
from ganaug.hub_card import UNKNOWN
from ganaug.produce import Production, Result, produce
from ganaug.progress import Progress, silent


def to_parquet(
    model: Generator | Path | str,
    out: Path | str,
    *,
    counts: int | Mapping[str, int],
    seed: int = 0,
    truncation: float = 1.0,
    encoding: str = "auto",
    quality: int = 95,
    workers: int | str = "auto",
    license: str = UNKNOWN,  # noqa: A002 - what the hub calls it
    progress: Progress = silent,
) -> Result:
    """Write labelled images as Parquet that Hugging Face `datasets` opens as images with class labels.

    Args:
        model: A generator, a model folder, or a name that `ganaug models` lists.
        out: A folder, or an address that fsspec knows, such as `s3://bucket/path`. Gets `data/` with
            the images, `manifest/` with a row for each, `README.md` and `production.json`. Killed,
            the same call goes on where it was; with larger counts it adds what lacks.
        counts: Images of every class; or of each class named, and none of the others.
        seed: With model, class and index it determines every image: the images of a class are
            those of `Generator.sample` at index 0 and after it.
        truncation: Scale of the latents, above 0 and up to 1; below 1 images are more typical.
        encoding: `png`, `jpeg`, `webp` or `raw` (uncompressed TIFF); `auto` is png.
        quality: Of JPEG and WebP, 1 to 100; WebP at 100 is lossless.
        workers: Calls of ONNX Runtime at a time; `auto`: measured. No pixel depends on it.
        license: Licence for the dataset card, in Hugging Face's words: `cc-by-4.0`, `mit`, `other`.
        progress: Called with the images done and wanted.

    Returns:
        Where the images are (`address`) and what became of each class.

    Raises:
        UnknownClassError: A class that the model cannot make.
        SettingsError: A setting that cannot be used, or another production lies at `out`.
        ModelError: The model is missing or damaged.
        DeviceError: The generator was opened for a device that is not there.
        OutputError: `out` cannot be written, or another process is at work there.
    """
    return _write(
        "parquet",
        model,
        out,
        counts,
        progress,
        seed=seed,
        truncation=truncation,
        encoding=encoding,
        quality=quality,
        workers=workers,
        license=license,
    )


def to_imagefolder(
    model: Generator | Path | str,
    out: Path | str,
    *,
    counts: int | Mapping[str, int],
    seed: int = 0,
    truncation: float = 1.0,
    encoding: str = "auto",
    quality: int = 95,
    workers: int | str = "auto",
    license: str = UNKNOWN,  # noqa: A002 - what the hub calls it
    progress: Progress = silent,
) -> Result:
    """Write labelled images as a file each in a folder per class, `data/<class>/`, for every tool and every eye.

    A class name that some file system does not take is replaced by a number and what is left of it.

    Arguments, result and errors are those of `to_parquet`.
    """
    return _write(
        "folder",
        model,
        out,
        counts,
        progress,
        seed=seed,
        truncation=truncation,
        encoding=encoding,
        quality=quality,
        workers=workers,
        license=license,
    )


def to_webdataset(
    model: Generator | Path | str,
    out: Path | str,
    *,
    counts: int | Mapping[str, int],
    seed: int = 0,
    truncation: float = 1.0,
    encoding: str = "auto",
    quality: int = 95,
    workers: int | str = "auto",
    license: str = UNKNOWN,  # noqa: A002 - what the hub calls it
    progress: Progress = silent,
) -> Result:
    """Write labelled images as WebDataset shards, `data/*.tar`: of each image the file, `cls` and `json`.

    Arguments, result and errors are those of `to_parquet`.
    """
    return _write(
        "webdataset",
        model,
        out,
        counts,
        progress,
        seed=seed,
        truncation=truncation,
        encoding=encoding,
        quality=quality,
        workers=workers,
        license=license,
    )


def _write(
    format: str,  # noqa: A002 - what the setting is called
    model: Generator | Path | str,
    out: Path | str,
    counts: int | Mapping[str, int],
    progress: Progress,
    **settings: Any,
) -> Result:
    wanted = {"counts": counts} if isinstance(counts, Mapping) else {"count": counts}
    try:
        production = Production.model_validate(
            {**_of_model(model), **wanted, **settings, "out": str(out), "format": format}
        )
    except ValidationError as error:
        raise SettingsError(explain(error, Production)) from error
    return produce(production, progress)


def _of_model(model: Generator | Path | str) -> dict[str, Any]:
    """The settings that say which model, and how a generator was opened."""
    if not isinstance(model, Generator):
        return {"model": str(model)}
    return {
        "model": _found_by(model),
        "device": model.device,
        "precision": model.precision,
        "tensorrt": model.tensorrt,
        "cuda_graph": model.cuda_graph,
    }


def _found_by(generator: Generator) -> str:
    """The name that leads to a generator's folder, as files should not tell where it lies; else the folder."""
    label = generator.card.label
    with contextlib.suppress(ModelError, OSError):
        if store.resolve(label).samefile(generator.folder):
            return label
    return str(generator.folder)
