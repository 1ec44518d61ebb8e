"""Well-formed datasets of every kind, small, for damage to begin with; the same on each call."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz.seeds import encoded, pixels, png
from PIL import Image


def images(_folder: Path) -> Mapping[str, bytes]:
    """Every format that is read, in several of its ways."""
    grey, colour = Image.fromarray(pixels(0, 12, 10)), Image.fromarray(pixels(1, 12, 10, 3))
    alpha, deep = Image.fromarray(pixels(2, 12, 10, 4)), Image.fromarray(pixels(3, 12, 10).astype(np.uint16))
    upright = Image.Exif()
    upright[0x0112] = 6
    frames = {"save_all": True, "append_images": [colour.rotate(90), colour.rotate(180)]}
    return {
        "a.png": encoded(grey, "PNG"),
        "b.png": encoded(alpha, "PNG", exif=upright),
        "c.png": encoded(colour.quantize(16), "PNG", transparency=3),
        "d.png": encoded(deep, "PNG"),
        "e.png": encoded(colour, "PNG", **frames),
        "a.jpg": encoded(grey, "JPEG"),
        "b.jpg": encoded(colour, "JPEG", progressive=True, exif=upright),
        "c.jpg": encoded(colour.convert("CMYK"), "JPEG", icc_profile=b"\1" * 200),
        "d.jpg": encoded(colour.resize((400, 500)), "JPEG", quality=20),
        "a.tif": encoded(grey, "TIFF"),
        "b.tif": encoded(colour, "TIFF", compression="tiff_lzw"),
        "c.tif": encoded(colour, "TIFF", compression="jpeg"),
        "d.tif": encoded(grey.convert("1"), "TIFF", compression="group4"),
        "e.tif": encoded(deep, "TIFF", compression="tiff_adobe_deflate"),
        "f.tif": encoded(alpha, "TIFF", compression="packbits", exif=upright),
        "a.webp": encoded(colour, "WEBP"),
        "b.webp": encoded(alpha, "WEBP", lossless=True, exif=upright),
        "c.webp": encoded(colour, "WEBP", **frames),
        "a.gif": encoded(grey, "GIF"),
        "b.gif": encoded(colour, "GIF", **frames),
        "a.bmp": encoded(grey, "BMP"),
        "b.bmp": encoded(colour.quantize(8), "BMP"),
        "a.dib": encoded(alpha, "DIB"),
        "a.ppm": encoded(colour, "PPM"),
        "a.pgm": b"P2\n3 2 255\n0 1 2\n3 4 255\n",
        "b.pgm": encoded(grey, "PPM"),
    }


def _class_folders() -> dict[str, bytes]:
    jpeg = encoded(Image.fromarray(pixels(9)), "JPEG")
    return {
        **{f"photos/{name}/{number}.png": png(number) for name in ("cat", "dog") for number in range(3)},
        "photos/cat/3.jpg": jpeg,
        "photos/readme.txt": b"hello",
    }


def zips(_folder: Path) -> Mapping[str, bytes]:
    """Archives, stored, deflated and by rarer methods."""
    found = {}
    for name, method in (("a.zip", 0), ("b.zip", 8), ("c.zip", 12), ("d.zip", 14)):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for path, content in _class_folders().items():
                archive.writestr(zipfile.ZipInfo(path), content, method)
        found[name] = file.getvalue()
    return found


def tars(_folder: Path) -> Mapping[str, bytes]:
    """Archives in three dialects, and packed."""
    found = {}
    dialects = {"a.tar": tarfile.USTAR_FORMAT, "b.tar": tarfile.GNU_FORMAT, "c.tar": tarfile.PAX_FORMAT}
    for name, dialect in dialects.items():
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=dialect) as archive:
            for path, content in _class_folders().items():
                long = path if dialect == tarfile.USTAR_FORMAT else path.replace("cat", "cat" * 40)
                member = tarfile.TarInfo(long)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        found[name] = file.getvalue()
    plain = found["a.tar"]
    packed = {
        "d.tar": gzip.compress(plain, mtime=0),
        "e.tar": bz2.compress(plain),
        "f.tar": lzma.compress(plain),
    }
    return {**found, **packed}


def _rows() -> pd.DataFrame:
    names = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(3)]
    return pd.DataFrame(
        {
            "image": names,
            "label": ["cat"] * 3 + ["dog"] * 3,
            "split": ["train", "test", ""] * 2,
            "group": [1, 2, 3, 1, 2, 3],
        }
    )


def csv_tables(_folder: Path) -> Mapping[str, bytes]:
    """Tables of paths."""
    rows = _rows()
    return {
        "a.csv": rows.to_csv(index=False).encode(),
        "b.csv": rows.to_csv(index=False, sep=";", quoting=1).encode("utf-8-sig"),
        "c.tsv": rows[["image", "label"]].to_csv(index=False, sep="\t").encode(),
    }


def _parquet(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def parquet_tables(_folder: Path) -> Mapping[str, bytes]:
    """The same tables, as Parquet."""
    table = pa.Table.from_pandas(_rows(), preserve_index=False)
    return {
        "a.parquet": _parquet(table),
        "b.parquet": _parquet(table, compression="zstd", use_dictionary=False),
    }


def image_parquets(_folder: Path) -> Mapping[str, bytes]:
    """Images inside, with class names as Hugging Face notes them, and without."""
    cells = [{"bytes": png(number), "path": f"{number}.png"} for number in range(6)]
    labels = pa.array([0, 0, 0, 1, 1, 1])
    note = json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"]}}}}).encode()
    whole = pa.table({"image": cells, "label": labels}).replace_schema_metadata({b"huggingface": note})
    bare = pa.table({"image": [cell["bytes"] for cell in cells], "label": ["cat", "dog"] * 3})
    return {"a.parquet": _parquet(whole, row_group_size=4), "b.parquet": _parquet(bare, compression="none")}


def npzs(_folder: Path) -> Mapping[str, bytes]:
    """Arrays of several kinds."""
    arrays: dict[str, dict[str, Any]] = {
        "a.npz": {"images": pixels(0, 6, 8, 8), "labels": np.array([0, 0, 0, 1, 1, 1])},
        "b.npz": {
            "x_train": pixels(1, 4, 3, 8, 8) / 255.0,
            "y_train": np.array(["cat", "dog"] * 2),
            "x_test": pixels(2, 2, 3, 8, 8) / 255.0,
            "y_test": np.array(["cat", "dog"]),
        },
        "c.npz": {
            "images": np.asfortranarray(pixels(3, 4, 8, 8, 1).astype(np.uint16)),
            "labels": np.array([0.0, 1.0, 0.0, 1.0]),
            "class_names": np.array(["cat", "dog"]),
            "groups": np.array([1, 2, 3, 4]),
        },
    }
    found = {}
    for name, one in arrays.items():
        file = io.BytesIO()
        (np.savez_compressed if name == "b.npz" else np.savez)(file, allow_pickle=False, **one)
        found[name] = file.getvalue()
    return found
