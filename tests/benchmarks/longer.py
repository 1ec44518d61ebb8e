"""What becomes of a GAN's images of the rare classes as it trains longer, or wider.

    python tests/benchmarks/longer.py --data DATA
    python tests/benchmarks/longer.py --data DATA --seconds 80 --gans pair "pair width=64 batch=256" "modern batch=256"

Each GAN is the base of a run as `ganaug train` trains it, with the training images of one split and that
run's screening classifiers, but never stops for want of a better score. All train side by side, a process
each. Printed are the examinations, means over the rare classes: which share of the images both classifiers
name with confidence and are no copies (passing), how different those are from each other beside real ones,
and how far they are from the nearest training image beside held-out real images. Splits from 100 on: settings
are chosen here.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from early_stopping import training_images
from gains import CELLS, set_threads

from ganaug.config import TrainConfig
from ganaug.cores import cores
from ganaug.dataset import LabelledImages
from ganaug.training.classifier import train_classifiers
from ganaug.training.device import resolve_device
from ganaug.training.gans import train_base

SHOWN = ("passing", "diversity", "nearness")


def main() -> None:
    """Train them side by side and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=CELLS, default="cifar10-lt-100")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the datasets")
    parser.add_argument("--split", type=int, default=100, help="seed of the split")
    parser.add_argument("--gans", nargs="+", default=["pair", "strided"], help="recipe, then settings")
    parser.add_argument("--steps", type=int, default=6000, help="of each, unless time is up before")
    parser.add_argument("--seconds", type=float, default=600.0, help="of each")
    parser.add_argument("--classifier-steps", type=int, help="of the screening classifiers; auto without")
    asked = parser.parse_args()
    device = resolve_device("auto")
    train, wanted = training_images(asked.cell, asked.data, asked.split)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train.save(folder / "train")
        classifiers = folder / "classifiers"
        train_classifiers(
            train, 2, classifiers, seed=asked.split, device=device, steps=asked.classifier_steps
        )
        threads = max(1, cores() // len(asked.gans))
        with ProcessPoolExecutor(
            len(asked.gans),
            multiprocessing.get_context("spawn"),
            initializer=set_threads,
            initargs=(threads,),
        ) as processes:
            made = [
                processes.submit(
                    one_gan, gan, asked.steps, asked.seconds, asked.split, folder, number, device, wanted
                )
                for number, gan in enumerate(asked.gans)
            ]
            print(f"{asked.cell}, split {asked.split}, {device}\n")
            print(f"| GAN | seconds | step | {' | '.join(SHOWN)} |\n|{' --- |' * (3 + len(SHOWN))}")
            for future in made:
                print("\n".join(future.result()), flush=True)


def one_gan(
    gan: str,
    steps: int,
    seconds: float,
    seed: int,
    folder: Path,
    number: int,
    device: str,
    wanted: list[int],
) -> list[str]:
    """Rows of the table: the examinations of one GAN."""
    recipe, *settings = gan.split()
    tree: dict[str, Any] = dict(one.split("=", 1) for one in settings)
    tree |= {"recipe": recipe, "steps": steps, "max_seconds": seconds, "seed": seed, "patience": 0}
    summary = train_base(
        LabelledImages.load(folder / "train"),
        TrainConfig.model_validate(tree),
        folder / str(number),
        classifiers=folder / "classifiers",
        device=device,
    )
    rate = summary["seconds"] / max(1, summary["steps"])
    rows = []
    for exam in summary["exams"]:
        means = [np.mean([exam["classes"][str(one)][name] for one in wanted]) for name in SHOWN]
        cells = " | ".join(f"{mean:.2f}" for mean in means)
        rows.append(f"| {gan} | {rate * exam['step']:.0f} | {exam['step']} | {cells} |")
    return rows


if __name__ == "__main__":
    main()
