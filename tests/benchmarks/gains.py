"""What synthetic images gain over the best that one would have done otherwise, and what the gate makes of it.

    python tests/benchmarks/gains.py --cells digits-5 digits-10 --data ../data --runs runs/gains
    python tests/benchmarks/gains.py --table

A cell is a dataset with classes cut to few images. Each of its splits is a whole run: GANs, screen and
classifiers with seeds of their own, scored on that split's locked test images. Printed is the best arm with
synthetic images against the best without, over all splits, with intervals as `ganaug evaluate` gives them;
and every arm against oversampling with albumentations.

Then the gate, split by split: it decides on one half of the test images (whole groups together), as
`ganaug publish` would, and what it lets through is measured on the other half, against the arm that was the
best without synthetic images on the first. A cell that is done is a line of `--out`;
a killed one goes on. Settings were chosen on splits from 100 on; report on splits below 100.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ganaug import steps
from ganaug.arms import find_arms
from ganaug.config import Config, EvaluateConfig, load
from ganaug.cores import cores
from ganaug.dataset import INDEX_FILE, LabelledImages
from ganaug.evaluate import judge
from ganaug.further_splits import further_split
from ganaug.intervals import Difference, compare
from ganaug.plan import BalancePlan
from ganaug.pooled import Pooled, SplitResult, pool
from ganaug.run import STEP_FILE
from ganaug.training.winner import winner_of

CELLS: dict[str, dict[str, Any]] = {
    "digits-5": {"split.keep": {"3": 5, "5": 5, "8": 5}, "split.test_share": 0.5},
    "digits-10": {"split.keep": {"3": 10, "5": 10, "8": 10}, "split.test_share": 0.5},
    "blood-cells-20": {
        "data.path": "blood-cells.zip",
        "data.size": "32",
        "data.group_pattern": "^(.*)-",
        "split.keep": {"RBC": 600, "WBC": 20, "Platelets": 20},
        "plan.target": 200,
    },
    "cifar10-75": {
        "data.path": "cifar10",
        "split.near_duplicates": False,
        "split.keep": {"cat": 75, "ship": 75},
        "plan.target": 300,
    },
    "cifar10-lt-100": {
        "data.path": "cifar10",
        "split.near_duplicates": False,
        "split.long_tail": 100.0,
        "plan.target": 200,
    },
}
USUAL = "oversampling+albumentations"
"""What one would do otherwise: all arms are compared with it too."""
ARMS = (
    USUAL,
    f"{USUAL}+mixup",
    f"{USUAL}+thresholds on folds",
    f"{USUAL}+synthetic",
    f"{USUAL}+synthetic+thresholds on folds",
    f"{USUAL}+thresholds on synthetic",
)


@dataclass(frozen=True)
class Gate:
    """What the gate did on one split, on the half of the test images that it had not seen.

    Attributes:
        verdict: On the half that it decided on.
        shipped: Whether synthetic images were let through.
        gated: Macro-F1 of what the user has then, less that of the best arm without synthetic images.
        ungated: The same, had the synthetic images been used anyway.
    """

    verdict: str
    shipped: bool
    gated: Difference
    ungated: Difference


def main() -> None:
    """Run the cells that were asked for, or print the table of those that are done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=["digits-5"])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed of the first split")
    parser.add_argument("--seeds", type=int, default=2, help="classifier seeds per split")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the datasets")
    parser.add_argument("--runs", type=Path, default=Path("runs/gains"))
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--side-by-side", type=int, default=1, help="splits at a time, a process each")
    parser.add_argument("--set", nargs="*", default=[], help="further settings, as train.steps=500")
    parser.add_argument(
        "--finished", type=Path, metavar="RUN", help="what is done of a cell's run that was stopped"
    )
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="PART", help="arms with these parts do not compete"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("gains.jsonl"))
    parser.add_argument("--table", action="store_true", help="print what is done, and do nothing")
    asked = parser.parse_args()
    if not asked.table:
        for cell in asked.cells:
            row = row_of(cell, asked, asked.finished) if asked.finished else measure(cell, asked)
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(line(row))
    rows = [json.loads(text) for text in asked.out.read_text().splitlines()] if asked.out.is_file() else []
    print(table(rows))


def measure(cell: str, asked: argparse.Namespace) -> dict[str, Any]:
    """One cell: all its splits, put together and through the gate one by one."""
    run = steps.open_run(config_of(cell, asked))
    # With more threads than cores they wait for each other most of the time.
    threads = max(1, cores() // asked.side_by_side)
    with ProcessPoolExecutor(
        asked.side_by_side,
        multiprocessing.get_context("spawn"),
        initializer=set_threads,
        initargs=(threads,),
    ) as processes:
        splits = [processes.submit(further_split, run, number) for number in range(asked.splits)]
        for done, one in enumerate(as_completed(splits), start=1):
            one.result()
            print(f"{cell}: {done} of {asked.splits} splits", file=sys.stderr, flush=True)
    return row_of(cell, asked, run.folder)


def set_threads(count: int) -> None:
    """Threads that this process computes with. ganaug loads torch, and sees to it that waiting threads sleep."""
    import torch

    torch.set_num_threads(count)


def row_of(cell: str, asked: argparse.Namespace, run: Path) -> dict[str, Any]:
    """The splits of a run that are done, put together and through the gate one by one."""
    # The first split of a run of the product is the run itself.
    folders = [run, *sorted((run / "splits").glob("*"), key=lambda one: int(one.name))]
    folders = [one for one in folders if (one / "evaluate" / "verdict.json").is_file()]
    if not folders:
        raise SystemExit(f"{run}: no split of it is evaluated")
    results = [without(result_of(one), asked.without) for one in folders]
    wanted = [plan.class_id for plan in BalancePlan.load(folders[0] / "plan").wanted]
    both, config = put_together(results), config_of(cell, asked).evaluate
    verdict = judge(both.probability, both.test, wanted, config, arms=find_arms(list(both.probability)))
    if not verdict.after:
        raise SystemExit(f"{cell}: {verdict.sentence}")
    return {
        "cell": cell,
        "splits": len(folders),
        "first": asked.first,
        "seeds": verdict.seeds,
        "set": asked.set,
        "without": asked.without,
        "devices": sorted({device_of(one) for one in folders}),
        "right_label": [right_label(one) for one in folders],
        "before": verdict.before,
        "after": verdict.after,
        "verdict": verdict.verdict,
        **gains(results, wanted, verdict.to_dict()),
        **({} if asked.without else {"arms": against_usual(both, wanted)}),
        "gate": [asdict(gate(one, wanted, config, seed)) for seed, one in enumerate(results)],
    }


def config_of(cell: str, asked: argparse.Namespace) -> Config:
    """Settings of a cell's run."""
    tree = dict(CELLS[cell])
    path = tree.pop("data.path", None)
    tree |= {f"{section}.seed": asked.first for section in ("split", "train", "produce")}
    tree |= {
        "run_dir": str(asked.runs / cell),
        "evaluate.arms": asked.arms,
        "evaluate.splits": asked.splits,
        "evaluate.seeds": asked.seeds,
        # What is found is a note of the verdict; it would end the cell.
        "evaluate.near_copies": "note",
        "evaluate.workers": -(-cores() // asked.side_by_side),
    }
    tree |= dict(one.split("=", 1) for one in asked.set)
    return load(None, tree, data=None if path is None else asked.data / path)


def result_of(folder: Path) -> SplitResult:
    """What a split's evaluation left."""
    index = pd.read_parquet(folder / "split" / INDEX_FILE)
    return SplitResult.load(folder / "evaluate", index[index["split"] == "test"].reset_index(drop=True))


def without(one: SplitResult, parts: Sequence[str]) -> SplitResult:
    """The same, but for the arms that have one of these parts, as `thresholds on folds`."""
    kept = {name: fit for name, fit in one.probability.items() if not set(parts) & set(name.split("+"))}
    return replace(one, probability=kept)


def right_label(folder: Path) -> float:
    """Share of the images produced that every screening classifier calls by their class."""
    rates = json.loads((folder / "evaluate" / "verdict.json").read_text(encoding="utf-8"))["label_rates"]
    right = [one["right_label"] for one in rates]
    return float(np.average(right, weights=[one["produced"] for one in rates]))


def device_of(folder: Path) -> str:
    """Where a split's classifiers were trained."""
    record = json.loads((folder / "evaluate" / STEP_FILE).read_text(encoding="utf-8"))
    return str(record["summary"]["device"])


def put_together(results: Sequence[SplitResult]) -> Pooled:
    """All splits; where one kept no synthetic images, an arm counts as what it is without them."""
    names = {name for one in results for name in one.probability}
    without = {
        name: "+".join(part for part in name.split("+") if "synthetic" not in part)
        for name in names
        if "synthetic" in name
    }
    classes = max(one.index["class_id"].max() for one in results) + 1
    return pool(results, tuple(map(str, range(classes))), without)


def gains(
    results: Sequence[SplitResult], wanted: Sequence[int], verdict: Mapping[str, Any]
) -> dict[str, Any]:
    """The verdict's differences, the share of rare-class errors gone, and each split's change of rare recall."""
    measures = verdict["measures"]
    recall = measures["rare_recall"]
    lost = 1 - recall["before"]
    gone = {end: recall[end] / lost for end in ("difference", "low", "high")}
    gaps = [
        _recall(one, verdict["after"], wanted) - _recall(one, verdict["before"], wanted) for one in results
    ]
    return {**measures, "errors_gone": gone, "recall_gaps": gaps}


def against_usual(both: Pooled, wanted: Sequence[int]) -> dict[str, Any]:
    """Every arm's macro-F1, rare recall and share of rare-class errors gone, against the usual one."""
    index = both.test.index
    found = {}
    for name in sorted(set(both.probability) - {USUAL}):
        measured = compare(
            both.probability[USUAL],
            both.probability[name],
            both.test.class_ids,
            wanted,
            groups=index["group"].astype(str).tolist(),
            splits=index["split_number"].to_numpy(np.int64) if index["split_number"].nunique() > 1 else None,
        )
        recall = measured["rare_recall"]
        ends = {end: getattr(recall, end) / (1 - recall.before) for end in ("difference", "low", "high")}
        kept = {key: asdict(measured[key]) for key in ("macro_f1", "rare_recall", "rare_average_precision")}
        found[name] = {**kept, "errors_gone": ends}
    return found


def _recall(one: SplitResult, arm: str, wanted: Sequence[int]) -> float:
    fits = one.probability.get(arm, one.probability[USUAL])
    labels = one.index["class_id"].to_numpy(np.int64)
    hit = (fits.argmax(2) == labels).mean(0)
    return float(np.mean([hit[labels == class_id].mean() for class_id in wanted]))


def gate(one: SplitResult, wanted: Sequence[int], config: EvaluateConfig, seed: int) -> Gate:
    """Let the gate decide on one half of the test images and measure on the other."""
    first, second = halves(one.index, seed)
    names = tuple(str(k) for k in range(1 + int(one.index["class_id"].max())))
    arms = find_arms(list(one.probability))

    def half(rows: Any) -> tuple[dict[str, Any], LabelledImages]:
        index = one.index.iloc[rows].reset_index(drop=True)
        images = np.broadcast_to(np.uint8(0), (len(index), 1, 1, 1))
        fits = {name: fit[:, rows] for name, fit in one.probability.items()}
        return fits, LabelledImages(images, index, names)

    decided = judge(*half(first), wanted, config, arms=arms)
    fits, test = half(second)
    groups = test.index["group"].astype(str).tolist()

    def against(name: str) -> Difference:
        return compare(fits[decided.before], fits[name], test.class_ids, wanted, groups=groups)["macro_f1"]

    winner = winner_of(decided)
    return Gate(
        decided.verdict,
        winner != decided.before,
        against(winner),
        against(decided.after or decided.before),
    )


def halves(index: pd.DataFrame, seed: int) -> tuple[Any, Any]:
    """Two halves of the test images, class by class, with groups whole."""
    rng = np.random.default_rng(seed)
    keys = pd.MultiIndex.from_frame(index[["class_id", "group"]]).factorize()[0]
    order = rng.permutation(keys.max() + 1)
    side = np.zeros(len(order), bool)
    class_of = index["class_id"].to_numpy()[np.unique(keys, return_index=True)[1]]
    for class_id in np.unique(class_of):
        own = order[class_of[order] == class_id]
        side[own[: len(own) // 2]] = True
    return np.flatnonzero(side[keys]), np.flatnonzero(~side[keys])


def line(row: Mapping[str, Any]) -> str:
    """One cell as a row of the table."""
    gone, f1, recall = row["errors_gone"], row["macro_f1"], row["rare_recall"]
    positive = sum(gap > 0 for gap in row["recall_gaps"])
    shipped = sum(one["shipped"] for one in row["gate"])
    below = sum(one["gated"]["high"] < 0 for one in row["gate"] if one["shipped"])
    would = sum(one["ungated"]["high"] < 0 for one in row["gate"])
    return (
        f"| {row['cell']} | {settings(row)} | {row['splits']} x {row['seeds']} | {np.mean(row['right_label']):.0%} | "
        f"{row['before']} | {recall['before']:.1%} → {recall['after']:.1%} | "
        f"{gone['difference']:+.0%} ({gone['low']:+.0%} to {gone['high']:+.0%}) | {positive} of {row['splits']} | "
        f"{f1['difference'] * 100:+.2f} ({f1['low'] * 100:+.2f} to {f1['high'] * 100:+.2f}) | "
        f"{row['verdict']} | {shipped} | {below} | {would} |"
    )


def settings(row: Mapping[str, Any]) -> str:
    """What a cell was measured with, beside its own settings."""
    left_out = [f"without {name}" for name in row.get("without", [])]
    device = ["on a GPU"] if "cuda" in row.get("devices", []) else []
    return ", ".join([*row["set"], *left_out, *device]) or "defaults"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """All cells, as Markdown."""
    head = (
        "| cell | settings | splits x seeds | right label | best without | rare recall | rare errors gone | "
        "splits with a gain | macro-F1 | verdict | shipped | shipped and below | would be below |"
    )
    text = "\n".join([head, "|" + " --- |" * 13, *(line(row) for row in rows)])
    for row in rows:
        if "arms" in row:
            text += f"\n\n{row['cell']}, {settings(row)}\n{arms_table(row)}"
    return text


def arms_table(row: Mapping[str, Any]) -> str:
    """The arms of one cell against the usual one, as Markdown."""
    head = f"| arm | against {USUAL}: rare recall | rare errors gone | macro-F1 | rare average precision |"
    lines = [head, "|" + " --- |" * 5]
    for name, one in row["arms"].items():
        gone, recall, f1 = one["errors_gone"], one["rare_recall"], one["macro_f1"]
        ranked = one["rare_average_precision"]
        lines.append(
            f"| {name} | {recall['before']:.1%} → {recall['after']:.1%} | "
            f"{gone['difference']:+.0%} ({gone['low']:+.0%} to {gone['high']:+.0%}) | "
            f"{f1['difference'] * 100:+.2f} ({f1['low'] * 100:+.2f} to {f1['high'] * 100:+.2f}) | "
            f"{ranked['before']:.1%} → {ranked['after']:.1%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
