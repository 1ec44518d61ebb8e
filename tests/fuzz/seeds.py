"""Well-formed files of every kind, small, for damage to begin with; the same on each call."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from conftest import write_model
from PIL import Image

Pixels = npt.NDArray[np.uint8]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix="ganaug-fuzz-") as folder:
        yield Path(folder).resolve()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def pixels(number: int, *shape: int) -> Pixels:
    """Pixels that are like nothing, by number."""
    return np.random.default_rng(number).integers(0, 256, shape or (8, 8), np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(number: int) -> bytes:
    """A small grey PNG."""
    return encoded(Image.fromarray(pixels(number)), "PNG")


def model_files(folder: Path) -> Mapping[str, bytes]:
    """A model's card and graph."""
    write_model(folder / "tiny")
    return tree(folder / "tiny")


@functools.cache
def model() -> Path:
    """A model that nobody damages; the folder goes with the process."""
    folder = Path(_kept.name)
    write_model(folder / "tiny")
    return folder / "tiny"


_kept = tempfile.TemporaryDirectory(prefix="ganaug-fuzz-model-")


def store_files(folder: Path) -> Mapping[str, bytes]:
    """A store with two versions."""
    from ganaug import store

    for seed in (1, 2):
        write_model(folder / "made", seed=seed)
        store.publish(folder / "made", folder / "store", "tiny")
    return tree(folder / "store")


def graphs(folder: Path) -> Mapping[str, bytes]:
    """Graphs of both kinds."""
    write_model(folder / "a")
    write_model(folder / "b", exemplar_counts=(4, 2, 3))
    return {f"{name}.onnx": (folder / name / "generator.onnx").read_bytes() for name in ("a", "b")}


@functools.cache
def model_card(name: str) -> Any:
    """The card that belongs to one of `graphs`."""
    with scratch() as folder:
        return write_model(folder, exemplar_counts=(4, 2, 3) if name.startswith("b") else None)


def screener_files(folder: Path) -> Mapping[str, bytes]:
    """A screener of dark and bright images."""
    from support.screening import bright_and_dark, make_screener

    make_screener(folder, bright_and_dark(6, 6, np.random.default_rng(0)))
    return tree(folder / "screener")


def hash_again(folder: Path) -> None:
    """Make the hashes of a screener right, so that more than they meet the damage."""
    from ganaug.run import sha256_file

    path = folder / "screener.json"
    with contextlib.suppress(ValueError, RecursionError, TypeError, KeyError, AttributeError, OSError):
        note = json.loads(path.read_bytes())
        for name in note["files"]:
            if Path(name).name == name:
                size = (folder / name).stat().st_size
                note["files"][name] = {"sha256": sha256_file(folder / name), "bytes": size}
        path.write_text(json.dumps(note))


def order(folder: Path) -> Any:
    """A small production with a file per image."""
    from support import productions

    return productions.order(model(), folder, format="parquet", encoding="png", count=5, shard_images=4)


def production_files(folder: Path) -> Mapping[str, bytes]:
    """What a small production leaves."""
    from ganaug.produce import produce

    produce(order(folder / "made"))
    # The model lies elsewhere each time; damage must not depend on where.
    made_by = str(model()).encode()
    return {name: content.replace(made_by, b"tiny") for name, content in tree(folder / "made").items()}


@functools.cache
def _about() -> dict[str, Any]:
    with scratch() as folder:
        return dict(json.loads(production_files(folder)["production.json"]))


def production_about(_folder: Path) -> dict[str, Any]:
    """What is asked of a production that is there."""
    return {key: value for key, value in _about().items() if key != "state"}


def shards(_folder: Path) -> Mapping[str, bytes]:
    """One shard in every format."""
    from ganaug.formats import ENCODINGS, FORMATS, Shard

    batch = pixels(0, 3, 8, 8, 3)
    shard = Shard("cat-00000", 0, "cat", ("cat", "dog"), np.arange(3), (8, 8, 3))
    found = {}
    for name, form in FORMATS.items():
        suffix = "" if form.encodings == ("none",) else ENCODINGS["png"].suffix
        packed = [batch] if not suffix else ENCODINGS["png"].encode(batch, 90)
        for _path, chunks in form.pack(shard, packed, suffix):
            found[f"{name}.bin"] = b"".join(bytes(chunk) for chunk in chunks)
    for name in ("jpeg", "webp", "raw"):
        found[f"folder.{name}"] = ENCODINGS[name].encode(batch, 90)[0]
    return found


def run_files(folder: Path) -> Mapping[str, bytes]:
    """A run folder with a split and a plan, as their steps leave them."""
    from ganaug.config import Config, PlanConfig
    from ganaug.dataset import LabelledImages
    from ganaug.plan import make_plan
    from ganaug.run import Job, RunFolder, Step, perform
    from ganaug.split import Split, save_split

    run = RunFolder.create(folder / "run", Config(), "f1")
    index = pd.DataFrame(
        {
            "path": [f"{row}.png" for row in range(6)],
            "class_id": [0, 0, 0, 1, 1, 1],
            "split": ["train", "train", "test"] * 2,
            "group": "",
            "sha256": "0" * 64,
            "height": 8,
            "width": 8,
        }
    )
    data = LabelledImages(pixels(0, 6, 8, 8, 1), index, ("cat", "dog"))

    def split(job: Job) -> dict[str, Any]:
        save_split(Split(data, {"images": 6}, [], np.full(6, -1)), job.out)
        return {}

    def plan(job: Job) -> dict[str, Any]:
        make_plan(np.array([2, 1]), ("cat", "dog"), PlanConfig()).save(job.out)
        return {}

    for name, work in (("split", split), ("plan", plan)):
        perform(run, Step(name, work, (), lambda run, part: (), (name,)))
    return tree(folder / "run")


def series_files(folder: Path) -> Mapping[str, bytes]:
    """What a series keeps beside its steps: where a run goes on from, decisions, outcomes."""
    from uuid import UUID

    from ganaug import refresh, review, series

    run = folder / "0001"
    made = {
        run / refresh.FOLDER / refresh.LAST_FILE: refresh._NOTED.dump_json(
            refresh._Noted("../0000", ("cat",))
        ),
        run / refresh.FOLDER / refresh.DECISION_FILE: refresh._DECISION.dump_json(
            refresh.Decision(
                "changed", "cat (+3)", ("000-cat",), ("base",), {"cat": {"new": 3, "gone": 0}}, 0.1
            )
        ),
        run / review.FOLDER / review.DECISION_FILE: review._DECISION.dump_json(
            review.Decision("approve", "0" * 64, ("cat",), "Ada", "smudges")
        ),
        run / review.FOLDER / review.WAITING_FILE: review._WAITING.dump_json(
            review.Waiting(UUID(int=1), "http://127.0.0.1:4200/api", "0" * 64, 1.0)
        ),
        run / series.OUTCOME_FILE: series._ENDED.dump_json(
            series.Ended(1, "2030-01-01T00:00:00+00:00", "first", "first run", (), (), "helps", 1)
        ),
        folder / series.SAME_FILE: series._SAME.dump_json({"f2": 1}),
    }
    for path, content in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    pd.DataFrame({"sha256": ["0" * 64], "split": ["test"]}).to_parquet(
        run / refresh.FOLDER / refresh.CARRIED_FILE
    )
    return tree(folder)


def settings_files(_folder: Path) -> Mapping[str, bytes]:
    """All settings, and a few."""
    from ganaug.config import Config, describe

    few = "data: {path: photos, size: 32x32}\nplan:\n  target: {cat: 30, dog: 40}\nevaluate:\n  arms: [real, &a smote]\n"
    return {"a.yaml": describe(Config()).encode(), "b.yaml": few.encode()}


def count_files(_folder: Path) -> Mapping[str, bytes]:
    """Tables of how many images of each class."""
    plan = {"classes": [{"class_name": "cat", "deficit": 3, "is_wanted": True}]}
    return {
        "a.csv": b'class,count\ncat,100\n"dog, big",5\n',
        "b.json": b'{"cat": 100, "dog": 5}',
        "c.json": json.dumps(plan).encode(),
        "d.yaml": b"cat: 100\ndog: 5\n",
    }


def generator_files(folder: Path) -> Mapping[str, bytes]:
    """A generator's weights and what it was built from."""
    import torch
    from safetensors.torch import save

    from ganaug.training.networks import NETWORKS
    from ganaug.training.networks.conditioning import ConditionalGenerator, NetworkSpec

    torch.manual_seed(0)
    spec = NetworkSpec("vanilla", (8, 8, 1), (0, 1), 4, 8)
    spec.save(folder / "network.json", settings={"steps": 1})
    weights = ConditionalGenerator(spec, NETWORKS["vanilla"].generator(spec)).state_dict()
    return {**tree(folder), "generator.safetensors": save({k: v.contiguous() for k, v in weights.items()})}


def classifier_files(_folder: Path) -> Mapping[str, bytes]:
    """A classifier's weights and note."""
    import torch
    from safetensors.torch import save

    from ganaug.training.classifier import Classifier

    torch.manual_seed(0)
    weights = Classifier((8, 8, 1), 2).state_dict()
    note = {
        "format": 1,
        "image_shape": [8, 8, 1],
        "class_names": ["cat", "dog"],
        "files": ["0.safetensors"],
        "steps": 1,
    }
    return {
        "classifier.json": json.dumps(note).encode(),
        "0.safetensors": save({name: value.contiguous() for name, value in weights.items()}),
    }


def checkpoints(folder: Path) -> Mapping[str, bytes]:
    """Tensors with a header."""
    import torch

    from ganaug.training.checkpoint import save_tensors

    save_tensors(folder / "a.safetensors", {"w": torch.ones(2, 3), "step": torch.tensor(4)}, {"step": 4})
    return tree(folder)


def predictions(_folder: Path) -> Mapping[str, bytes]:
    """Probabilities as an array and as a table."""
    file = io.BytesIO()
    np.save(file, np.full((3, 2), 0.5, np.float32))
    return {"a.npy": file.getvalue(), "b.csv": b"cat,dog\n0.5,0.5\n0.1,0.9\n1,0\n"}
