"""The balanced training set on disk: all real images, and synthetic ones for what lacks.

Next to it lies `origins.parquet`, which says of every image where it comes from.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ganaug.config import AssembleConfig
from ganaug.dataset import Images, LabelledImages
from ganaug.errors import DatasetError
from ganaug.plan import BalancePlan, part_name
from ganaug.progress import Progress, silent

PARQUET_FILE = "train.parquet"
FOLDER = "train"
ORIGINS_FILE = "origins.parquet"
ROW_GROUP = 1024
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def assemble(
    real: LabelledImages,
    synthetic: LabelledImages,
    plan: BalancePlan,
    folder: Path,
    config: AssembleConfig,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the balanced training set and its origins.

    Each wanted class gets its first synthetic images, in the order of their index, up to its
    deficit: whichever machine assembles, the set is the same.

    Args:
        real: Real training images.
        synthetic: Synthetic images that the screen kept; index with `class_id`,
            `model_sha256`, `seed` and `index`.
        plan: Deficit of each class.
        folder: Gets `train.parquet` or `train/<class>/*.png`, and `origins.parquet`.
        config: The format.
        progress: Told of the images written.

    Returns:
        `images`, `real`, `synthetic`, and `missing`: what the wanted classes still lack.

    Raises:
        DatasetError: Real and synthetic images are not of one shape.
    """
    if len(synthetic) and synthetic.images.shape[1:] != real.images.shape[1:]:
        raise DatasetError(
            f"synthetic images are {synthetic.images.shape[1:]} and real ones {real.images.shape[1:]} "
            "(height, width, channels); produce them with a model that was trained on this dataset"
        )
    rows = choose(synthetic, plan)
    origins = _origins(real, synthetic, rows, config.format)
    folder.mkdir(parents=True, exist_ok=True)
    total = len(origins)
    images = _stream(real.images, synthetic.images, rows)
    if config.format == "parquet":
        _write_parquet(images, origins, real.class_names, folder / PARQUET_FILE, progress)
    else:
        for done, (png, path) in enumerate(zip(images, origins["path"], strict=True), start=1):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(png)
            progress(done, total)
    origins.to_parquet(folder / ORIGINS_FILE, index=False)
    lacking = sum(row.deficit for row in plan.wanted) - len(rows)
    return {"images": total, "real": len(real), "synthetic": len(rows), "missing": lacking}


def choose(synthetic: LabelledImages, plan: BalancePlan) -> npt.NDArray[np.int64]:
    """Row numbers of the synthetic images that fill each wanted class's deficit, by class."""
    chosen = [np.empty(0, np.int64)]
    class_ids = synthetic.class_ids
    for wanted in plan.wanted:
        rows = np.flatnonzero(class_ids == wanted.class_id)
        if "index" in synthetic.index:
            order = synthetic.index["index"].to_numpy()[rows]
            rows = rows[np.argsort(order, kind="stable")]
        chosen.append(rows[: wanted.deficit].astype(np.int64))
    return np.concatenate(chosen)


def _origins(
    real: LabelledImages, synthetic: LabelledImages, rows: npt.NDArray[np.int64], layout: str
) -> pd.DataFrame:
    """A row per image, in the order of the training set: what it is and where it comes from."""
    made = synthetic.index.iloc[rows]
    n_real, n_made = len(real), len(rows)

    def column(name: str, kind: Literal["string", "Int64"]) -> pd.Series:
        """Missing for real images, and for synthetic ones whose index lacks it."""
        own = made[name].tolist() if name in made else [pd.NA] * n_made
        return pd.Series([pd.NA] * n_real + own, dtype=kind)

    class_ids = np.concatenate([real.class_ids, synthetic.class_ids[rows]])
    source = real.index["path"].tolist() if "path" in real.index else [pd.NA] * n_real
    origins = pd.DataFrame(
        {
            "path": _paths(class_ids, n_real, real.class_names, layout),
            "class_id": class_ids,
            "class_name": [real.class_names[class_id] for class_id in class_ids],
            "origin": ["real"] * n_real + ["synthetic"] * n_made,
            "source": pd.Series(source + [pd.NA] * n_made, dtype="string"),
        }
    )
    return origins.assign(
        model_sha256=column("model_sha256", "string"),
        seed=column("seed", "Int64"),
        index=column("index", "Int64"),
    )


def _paths(
    class_ids: npt.NDArray[np.int64], n_real: int, class_names: tuple[str, ...], layout: str
) -> list[str]:
    """`train/<class>/real-000017.png`: numbered within origin, so that no two names meet."""
    folders = [
        name if name == _plain(name) else part_name(class_id, name)
        for class_id, name in enumerate(class_names)
    ]
    names = (
        f"real-{row:06d}" if row < n_real else f"synthetic-{row - n_real:06d}"
        for row in range(len(class_ids))
    )
    prefix = f"{FOLDER}/" if layout == "folder" else ""
    return [
        f"{prefix}{folders[class_id]}/{name}.png" for class_id, name in zip(class_ids, names, strict=True)
    ]


def _plain(name: str) -> str:
    """The part of a class name that is safe as a folder's name everywhere."""
    return part_name(0, name).partition("-")[2]


def _stream(real: Images, synthetic: Images, rows: npt.NDArray[np.int64]) -> Iterator[bytes]:
    for image in real:
        yield _png(image)
    for row in rows:
        yield _png(synthetic[row])


def _png(image: Images) -> bytes:
    """(H, W, C) uint8 as PNG."""
    from PIL import Image

    mode = _MODES[image.shape[2]]
    buffer = io.BytesIO()
    pixels = np.ascontiguousarray(image[..., 0] if mode == "L" else image)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _write_parquet(
    images: Iterator[bytes],
    origins: pd.DataFrame,
    class_names: tuple[str, ...],
    path: Path,
    progress: Progress,
) -> None:
    """Hugging Face style: `image{bytes, path}` and a class label, in streamed row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(class_names), "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema([("image", image_type), ("label", pa.int64())], metadata=metadata)
    total = len(origins)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, total, ROW_GROUP):
            part = origins.iloc[start : start + ROW_GROUP]
            rows = [{"bytes": next(images), "path": name} for name in part["path"]]
            table = pa.table(
                {"image": pa.array(rows, image_type), "label": part["class_id"].to_numpy()}, schema=schema
            )
            writer.write_table(table)
            progress(start + len(part), total)
