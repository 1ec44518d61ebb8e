"""Measures what `scale.py` reckons with: core-seconds and bytes of each kind of work, on this machine.

    python tests/benchmarks/scale_costs.py --out tests/benchmarks/scale_costs.json

Everything is done once for real on a small dataset of 32 px RGB shapes, on one thread, and counted
in processor time, so that what else runs on the machine does not count. What a GAN takes to start
and what a step takes come from trainings of two lengths. `task_s` and `database_bytes` are what
`scale_flow.py` printed (`--task-s`, `--database-bytes`).
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scale import Costs

from ganaug import steps
from ganaug.config import load
from ganaug.produce import Production, produce
from ganaug.run import RunFolder
from ganaug.training.device import cpu_threads

CLASSES, EACH, SIDE = 3, 60, 32
IMAGES = 6000
SHORT, LONG = 10, 30
FIT_STEPS, SEEDS = 40, 2
ARMS = ("real", "oversampling+albumentations", "oversampling+albumentations+synthetic")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("costs.json"))
    parser.add_argument("--task-s", type=float, required=True)
    parser.add_argument("--database-bytes", type=float, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, cpu_threads(1):
        costs = measure(Path(folder), asked.task_s, asked.database_bytes)
    asked.out.write_text(
        json.dumps({name: float(f"{value:.4g}") for name, value in asdict(costs).items()}, indent=2)
    )
    print(asked.out.read_text())


def measure(folder: Path, task_s: float, database_bytes: float) -> Costs:
    """Do each kind of work and count."""
    np.savez(folder / "shapes.npz", **_shapes())
    short, long = _run(folder, SHORT), _run(folder, LONG)
    took = {name: _core_s(short, name) for name in ("split", "train", "export", "evaluate")}
    classifiers = took["train"].pop("classifiers")
    own, longer = took["train"], _core_s(long, "train")
    step = float(np.mean([(longer[part] - own[part]) / (LONG - SHORT) for part in own if part != "base"]))
    own.pop("base")
    start = float(np.mean(list(own.values()))) - SHORT * step
    run = RunFolder.open(short)
    model, screener = steps.run_model(run), short / "screen" / "screener"
    plain, made = _production(folder / "plain", model, None)
    screened, _ = _production(folder / "screened", model, screener)
    real = CLASSES * EACH
    n_classifiers = 1 + run.config.screen.folds
    own_folder = next((short / "train").glob("0*"))
    return Costs(
        split_image_s=took["split"][""] / real,
        classifier_step_s=classifiers / (n_classifiers * 400),
        gan_start_s=max(0.0, start),
        gan_step_s=step,
        export_s=float(
            np.mean([seconds for part, seconds in took["export"].items() if part != "classifiers"])
        ),
        image_s=plain / made,
        screen_image_s=max(0.0, screened - plain) / made,
        image_bytes=_size(folder / "plain" / "data") / made,
        manifest_bytes=_size(folder / "plain" / "manifest") / made,
        model_bytes=_size(own_folder) + _size(short / "export" / own_folder.name),
        task_s=task_s,
        database_bytes=database_bytes,
        real_image_bytes=SIDE * SIDE * 3,
        cnn_step_s=took["evaluate"][""] / (len(ARMS) * SEEDS * FIT_STEPS),
    )


def _shapes() -> dict[str, np.ndarray]:
    """Images of coloured stripes, a direction and colour per class, with noise."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), EACH)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    waves = [np.sin((rows * np.cos(k) + columns * np.sin(k)) / (1 + k % 3)) for k in range(CLASSES)]
    colours = rng.uniform(20, 90, (CLASSES, 3))
    images = np.stack([128 + waves[k][..., None] * colours[k] for k in labels])
    noisy = images + rng.normal(0, 12, (*images.shape[:3], 1)) + rng.normal(0, 20, (len(images), 1, 1, 3))
    return {"images": noisy.clip(0, 255).astype(np.uint8), "labels": labels}


_seconds: dict[Path, dict[tuple[str, str], float]] = {}
"""Core-seconds of each step and part, by run."""


def _run(folder: Path, class_steps: int) -> Path:
    """The main job with so many steps per class; the longer one ends with training."""
    settings = {
        "run_dir": str(folder / f"run-{class_steps}"),
        "train.steps": SHORT,
        "train.class_steps": class_steps,
        "train.patience": 0,
        # What is found must not end the training: its steps are counted.
        "train.remedies": False,
        "plan.target": 2 * EACH,
        "screen.classifiers": 1,
        "screen.folds": 2,
        "evaluate.arms": ARMS,
        "evaluate.seeds": SEEDS,
        "evaluate.steps": FIT_STEPS,
        "evaluate.workers": 1,
        "split.near_duplicates": False,
        "device": "cpu",
        "publish.store": str(folder / "store"),
    }
    run = steps.open_run(load(overrides=settings, data=folder / "shapes.npz"))
    wanted = ["split", "plan", "train"]
    wanted += ["export", "produce", "screen", "evaluate"] if class_steps == SHORT else []
    took = _seconds.setdefault(run.folder, {})
    for step in wanted:
        for part in steps.parts(run, step):
            before = _core_seconds()
            steps.perform(run, steps.STEPS[step], part)
            took[step, part] = _core_seconds() - before
    return run.folder


def _core_s(run: Path, step: str) -> dict[str, float]:
    return {part: seconds for (name, part), seconds in _seconds[run].items() if name == step}


def _production(out: Path, model: Path, screener: Path | None) -> tuple[float, int]:
    """Core-seconds and images of a mass production."""
    config = Production(
        model=str(model),
        out=str(out),
        count=IMAGES // CLASSES,
        screener=screener,
        format="parquet",
        device="cpu",
        workers=1,
        threads=1,
        batch=64,
    )
    before = _core_seconds()
    made = produce(config).made
    return _core_seconds() - before, made


def _core_seconds() -> float:
    """Processor time of this process and of its ended children."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
