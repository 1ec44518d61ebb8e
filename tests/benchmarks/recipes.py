"""Compare recipes and scopes by the images that they make, on real held-out images.

    python tests/benchmarks/recipes.py --data digits --recipes cgan pair --seeds 100 101
    python tests/benchmarks/recipes.py --table

A cell is a dataset, a recipe, a scope and a seed, which chooses the split too. It trains the GANs
as `ganaug train` does, makes as many images of each wanted class as the largest class has, and
trains classifiers on those and the real images of the other classes: the classification accuracy
score of the wanted classes, on real test images. Cells that are done are not done again; each is
a line of `--out`. Settings were tuned on seeds from 100 on; report on seeds below 100.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ganaug import steps
from ganaug.config import load
from ganaug.dataset import LabelledImages
from ganaug.run import RunFolder, perform
from ganaug.training.classifier import load_classifiers
from ganaug.training.gans import train_base, train_class
from ganaug.training.measure import measure
from ganaug.training.networks import load_generator
from ganaug.training.networks.conditioning import to_uint8

RECIPES = (
    "vanilla",
    "cgan",
    "dcgan",
    "strided",
    "sgan",
    "multi-discriminator",
    "long-tail",
    "pair",
    "modern",
)
SCOPES = ("base", "per-class", "independent")
PATHS = {"blood-cells": "blood-cells.zip", "cifar10": "cifar10"}
DATA: dict[str, dict[str, Any]] = {
    # Settings of the run: small enough for a CPU, rare enough to be hard.
    "digits": {"split.keep": {"3": 5, "5": 5, "8": 5}, "split.test_share": 0.5},
    "blood-cells": {
        "data.size": "32",
        "data.group_pattern": "^(.*)-",
        "split.keep": {"RBC": 600, "WBC": 30, "Platelets": 30},
    },
    "cifar10": {
        "split.long_tail": 100.0,
        "split.near_duplicates": False,
        "plan.target": {"horse": 400, "ship": 400, "truck": 400},
    },
}
BUDGETS: dict[str, dict[str, Any]] = {
    "digits": {},
    "blood-cells": {"steps": 400, "class_steps": 80},
    "cifar10": {"steps": 400, "class_steps": 80},
}
"""Training settings, the same for every recipe; `{}` is each recipe's own."""
AS_FIRST = {"held_out": "0.0", "patience": "0", "remedies": "false", "adaptive": "false"}
"""Settings of `--as-first`; a base that is not examined keeps its last weights."""
SAMPLES = 400
"""Synthetic images per wanted class."""


def main() -> None:
    """Run the cells that were asked for, or print the table of those that are done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["digits"], choices=list(DATA))
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--scopes", nargs="+", default=list(SCOPES), choices=SCOPES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--folder", type=Path, help="where blood-cells.zip and cifar10/ are")
    parser.add_argument("--work", type=Path, default=Path("runs/recipes"), help="splits and classifiers")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("recipes.jsonl"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--as-first",
        action="store_true",
        help="train as the first version did: on all images, the base without examinations, to its last step",
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="train settings")
    parser.add_argument("--table", action="store_true", help="print the table of the cells in --out")
    asked = parser.parse_args()
    if asked.table:
        sys.stdout.write(table(read_rows(asked.out)) + "\n")
        return
    torch.set_num_threads(asked.threads)
    changes = dict(pair.split("=", 1) for pair in asked.set)
    if asked.as_first:
        changes |= AS_FIRST
    for data in asked.data:
        for seed in asked.seeds:
            run = prepare(data, seed, asked.folder, asked.work)
            for recipe in asked.recipes:
                for scope, row in run_cells(run, data, recipe, asked.scopes, seed, changes, asked.out):
                    print(f"{data} {recipe} {scope} seed {seed}: {row}", flush=True)


def prepare(data: str, seed: int, folder: Path | None, work: Path) -> RunFolder:
    """Split the data and train the screening classifier, as a run does."""
    overrides = {
        **DATA[data],
        "split.seed": seed,
        "train.seed": seed,
        "screen.classifiers": 1,
        "run_dir": str(work / f"{data}-{seed}"),
    }
    path = None if folder is None or data == "digits" else folder / PATHS[data]
    run = steps.open_run(load(None, overrides, data=path))
    for step in ("split", "plan"):
        steps.do(run, step)
    perform(run, steps.STEPS["train"], "classifiers")
    return run


def run_cells(
    run: RunFolder,
    data: str,
    recipe: str,
    scopes: Sequence[str],
    seed: int,
    changes: dict[str, str],
    out: Path,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train, sample and measure the cells of a recipe that are not done."""
    done = {(r["data"], r["recipe"], r["scope"], r["seed"], r["changes"]) for r in read_rows(out)}
    real, wanted = LabelledImages.load(run.path("split")), [c.class_id for c in steps.load_plan(run).wanted]
    train, test = real.part("train"), real.part("test")
    classifiers = run.path("train", "classifiers")
    label = " ".join(f"{name}={value}" for name, value in sorted(changes.items() - AS_FIRST.items()))
    if changes.items() >= AS_FIRST.items():
        label = f"as first {label}".strip()
    with tempfile.TemporaryDirectory() as work:
        base = Path(work) / "base"
        for scope in scopes:
            if (data, recipe, scope, seed, label) in done or (recipe == "vanilla" and scope != "independent"):
                continue
            given = {"recipe": recipe, "scope": scope, "seed": seed, **BUDGETS[data], **changes}
            config = load(None, {f"train.{name}": value for name, value in given.items()}).train
            began = time.perf_counter()
            findings = []
            if scope != "independent":
                judges = None if changes.items() >= AS_FIRST.items() else classifiers
                summary = train_base(train, config, base, classifiers=judges, device="auto")
                findings = [finding["detector"] for finding in summary["findings"]]
            folders = dict.fromkeys(wanted, base)
            for class_id in wanted if scope != "base" else []:
                folders[class_id] = Path(work) / scope / str(class_id)
                summary = train_class(
                    train,
                    class_id,
                    base if scope == "per-class" else None,
                    classifiers,
                    config,
                    folders[class_id],
                )
                findings += [finding["detector"] for finding in summary["findings"]]
            # `train_base` is skipped where it is done: its time counts for the scope that ran it.
            seconds = time.perf_counter() - began
            made = sample(folders, train)
            row = score(made, train, test, classifiers, wanted)
            row = {"data": data, "recipe": recipe, "scope": scope, "seed": seed, "changes": label, **row}
            row |= {"seconds": round(seconds, 1), "findings": findings}
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            yield scope, row


def sample(folders: dict[int, Path], train: LabelledImages) -> LabelledImages:
    """`SAMPLES` images of each class from the generator in its folder."""
    images = []
    for class_id, folder in folders.items():
        generator, rng = load_generator(folder), torch.Generator().manual_seed(class_id)
        condition = torch.full((SAMPLES,), class_id)
        arguments = [torch.randn(SAMPLES, generator.z_dim, generator=rng), condition]
        if generator.exemplar_counts is not None:
            count = generator.exemplar_counts[generator.class_ids.index(class_id)]
            arguments.append(torch.randint(count, (SAMPLES,), generator=rng))
        with torch.no_grad():
            images.append(to_uint8(generator(*arguments)).permute(0, 2, 3, 1).numpy())
    index = pd.DataFrame({"class_id": np.repeat(list(folders), SAMPLES), "group": ""})
    return LabelledImages(np.concatenate(images), index, train.class_names)


def score(
    made: LabelledImages,
    train: LabelledImages,
    test: LabelledImages,
    classifiers: Path,
    wanted: Sequence[int],
) -> dict[str, Any]:
    """The row of a cell: means over the wanted classes."""
    quality = measure(made, train, test, load_classifiers(classifiers)[0], seeds=(0, 1), steps=300)
    assert quality.score is not None
    rows = [quality.classes[class_id] for class_id in wanted]

    def mean(name: str) -> float | None:
        values = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        return round(float(np.mean(values)), 4) if values else None

    return {
        "wanted_recall": mean("score_recall"),
        "macro_f1": round(quality.score.macro_f1, 4),
        "real_wanted_recall": mean("real_score_recall"),
        **{
            name: mean(name)
            for name in (
                "right_label_rate",
                "frechet_distance",
                "precision",
                "coverage",
                "memorisation_pixels",
                "copies",
            )
        },
    }


def read_rows(out: Path) -> list[dict[str, Any]]:
    """The cells that are done."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row per dataset, recipe and scope, means over seeds."""
    frame = pd.DataFrame(rows)
    if frame.empty:
        return "no cell is done"
    keys = ["data", "recipe", "scope", "changes"]
    numbers = frame.groupby(keys, sort=False).agg(
        seeds=("seed", "nunique"),
        score=("macro_f1", "mean"),
        spread=("macro_f1", "std"),
        recall=("wanted_recall", "mean"),
        right=("right_label_rate", "mean"),
        fd=("frechet_distance", "mean"),
        coverage=("coverage", "mean"),
        copies=("copies", "mean"),
        seconds=("seconds", "mean"),
    )
    head = "| data | recipe | scope | seeds | CAS macro-F1 | recall of wanted | right label | Fréchet | coverage | copies | s |"
    lines = [head, "|" + " --- |" * 11]
    for key, row in numbers.sort_values(["data", "score"], ascending=[True, False]).iterrows():
        data, recipe, scope, changes = key
        name = f"{recipe} ({changes})" if changes else recipe
        spread = f" ± {100 * row.spread:.1f}" if row.seeds > 1 else ""
        lines.append(
            f"| {data} | {name} | {scope} | {row.seeds:.0f} | {100 * row.score:.1f}{spread} | "
            f"{100 * row.recall:.1f} | {100 * row.right:.0f} % | {row.fd:.1f} | {row.coverage:.2f} | "
            f"{100 * row.copies:.0f} % | {row.seconds:.0f} |"
        )
    return "\n".join([*lines, "", *against_first(frame)])


def against_first(frame: pd.DataFrame) -> list[str]:
    """For each dataset: what real images give, and the default less each recipe as first trained."""
    lines = []
    default = frame[(frame.recipe == "pair") & (frame.scope == "per-class") & (frame.changes == "")]
    for data, rows in frame.groupby("data"):
        real = rows.drop_duplicates("seed")["real_wanted_recall"].mean()
        lines.append(f"- {data}: recall of the wanted classes from real images alone {100 * real:.1f}.")
        own = default[default.data == data].set_index("seed")["macro_f1"]
        for recipe, first in rows[rows.changes == "as first"].groupby("recipe"):
            gains = (100 * (own - first.set_index("seed")["macro_f1"])).dropna()
            listed = ", ".join(f"{gain:+.1f}" for gain in gains)
            lines.append(
                f"  Default (pair, per-class) less {recipe} as first, CAS macro-F1 by seed: {listed}; "
                f"mean {gains.mean():+.1f}."
            )
    return lines


if __name__ == "__main__":
    main()
