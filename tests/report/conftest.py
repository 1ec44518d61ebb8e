"""A run folder as the pipeline leaves it, made in a second from real digits."""

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter, shift
from sklearn.datasets import load_digits
from support.evaluation import write_predictions

from ganaug.config import PlanConfig, load
from ganaug.dataset import LabelledImages
from ganaug.plan import make_plan
from ganaug.report.collect import collect
from ganaug.run import STEP_FILE, RunFolder, StepRecord, sha256_file
from ganaug.screen import REASONS, pairwise_distances

ARMS = ("real", "oversampling+albumentations", "oversampling+albumentations+synthetic")
FINDING = {
    "detector": "memorisation",
    "meaning": "samples copy training images",
    "step": 1250,
    "value": 0.62,
    "threshold": 0.5,
    "remedy": "augment more",
}
GAINS = {"helps": 0.02, "no difference": 0.0, "hurts": -0.03, "cannot tell": 0.01}


class RunBuilder:
    """Makes one step folder after the other; `through` makes all up to one of them."""

    ORDER = ("split", "plan", "train", "export", "produce", "screen", "assemble", "evaluate", "publish")

    def __init__(self, folder: Path, *, names=None, verdict="helps", size=8, nothing_kept=(), images=1797):
        self.names = names or [str(digit) for digit in range(10)]
        self.config = load(None, {"name": "digits"})
        self.run = RunFolder.create(folder, self.config, "f1" * 32)
        self.verdict, self.size, self.images = verdict, size, images
        self.nothing_kept = set(nothing_kept)
        self.unreadable = [("cell-0017.png", "truncated after 1,024 bytes")]
        self.rng = np.random.default_rng(0)

    @property
    def folder(self) -> Path:
        return self.run.folder

    def through(self, last: str) -> "RunBuilder":
        for step in self.ORDER[: self.ORDER.index(last) + 1]:
            if not self.run.path(step).exists():
                getattr(self, f"_{step}")()
        return self

    def _finish(self, step: str, part: str = "", seconds: float = 1.0, **summary) -> None:
        folder = self.run.path(step, part)
        outputs = {
            path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != STEP_FILE
        }
        inputs = {name: self.run.record(name).digest for name in ("split",) if step != name}
        record = StepRecord(step, part, "key", outputs, seconds, 700 * 2**20, summary, inputs, "0.1.0")
        (folder / STEP_FILE).write_text(json.dumps(asdict(record)))

    def _split(self) -> None:
        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[: self.images, :, :, None]
        images = np.repeat(np.repeat(images, self.size // 8, 1), self.size // 8, 2)
        class_ids = (
            np.arange(len(images)) % len(self.names)
            if len(self.names) != 10
            else digits.target[: self.images]
        )
        split = np.where(np.arange(len(images)) // len(self.names) % 2 == 0, "train", "test").astype(object)
        for class_id in range(3, len(self.names), 3 if len(self.names) < 40 else 2):
            split[np.flatnonzero((class_ids == class_id) & (split == "train"))[5:]] = "unused"
        index = pd.DataFrame(
            {
                "path": [f"image-{row:04d}.png" for row in range(len(images))],
                "class_id": class_ids.astype(np.int64),
                "split": split.astype(str),
                "group": "",
                "sha256": "0" * 64,
            }
        )
        self.data = LabelledImages(images, index, tuple(self.names))
        folder = self.run.path("split")
        self.data.save(folder)
        index.to_parquet(folder / "split.parquet")
        lock = {"sha256": sha256_file(folder / "split.parquet")}
        (folder / "split.json").write_text(json.dumps(lock))
        with (folder / "unreadable.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "reason"), *self.unreadable])
        self.train = self.data.part("train")
        self._finish(
            "split",
            seconds=0.9,
            groups=1690,
            explicit_groups=False,
            file_names_group=False,
            file_names_reason="no numbered names",
            duplicate_sets=41,
            images_in_duplicate_sets=97,
            exact_duplicate_images=2,
            leaks_removed=0,
            notes=["sizes are 8 x 8 px throughout"],
            warnings=["class '3' has only 5"],
        )

    def _plan(self) -> None:
        folder = self.run.path("plan")
        folder.mkdir()
        self.plan = make_plan(self.train.counts(), self.names, PlanConfig())
        self.plan.save(folder)
        self._finish("plan", seconds=0.02)

    def _train(self) -> None:
        for part in ("base", "classifiers", *(plan.part for plan in self.plan.wanted)):
            folder = self.run.path("train", part)
            folder.mkdir(parents=True)
            if part == "classifiers":
                self._finish("train", part, seconds=21.0, classifiers=2, steps=421)
                continue
            steps = np.arange(50, 2501, 50)
            rows = [
                (
                    int(step),
                    name,
                    start + (end - start) * (1 - np.exp(-step / 600)) + self.rng.normal(0, noise),
                )
                for name, start, end, noise in [
                    ("discriminator_loss", 0.69, 0.42, 0.01),
                    ("generator_loss", 0.69, 0.95, 0.02),
                    ("prefers_real", 0.5, 0.71, 0.01),
                    ("called_real", 0.5, 0.74, 0.01),
                    ("held_out_called_real", 0.5, 0.66, 0.03),
                    ("fooled", 0.5, 0.31, 0.02),
                    ("overfitting", 0.0, 0.16, 0.02),
                    ("augmented_share", 0.0, 0.3, 0.0),
                    ("real_logit", 0.1, 1.1, 0.05),
                    ("fake_logit", 0.0, -0.3, 0.05),
                    ("r1", 0.01, 0.4, 0.02),
                    ("r2", 0.01, 0.3, 0.02),
                    ("generator_gradient", 0.9, 0.4, 0.05),
                ]
                for step in steps
            ]
            exams = self._exams(range(len(self.names)) if part == "base" else [int(part.partition("-")[0])])
            rows += [
                (exam["step"], f"exam_{name}", value)
                for exam in exams
                for name, value in exam.items()
                if name not in ("step", "classes")
            ]
            table = pd.DataFrame(rows, columns=["step", "name", "value"])
            table.to_parquet(folder / "curves.parquet")
            self._finish(
                "train",
                part,
                seconds=21.0,
                device="cpu",
                recipe="pair",
                why="8 px images",
                steps=2500,
                stopped="" if part == "base" else "no better score in 5 examinations (train.patience)",
                best_step=1875,
                findings=[FINDING] if part == "base" else [],
                exams=exams,
                settings={"steps": 2500},
            )

    def _exams(self, class_ids) -> list[dict]:
        names = ("passing", "diversity", "score", "spread", "coverage", "copies", "repeats", "nearness")
        exams = []
        for step in (0, 625, 1250, 1875, 2500):
            done = step / 2500
            classes = {
                str(class_id): dict(
                    zip(names, (done, 0.9, 0.9 * done, 1.1, 0.4 + done / 2, 0.01, 0.2, 0.98), strict=True)
                )
                for class_id in class_ids
            }
            mean = {name: float(np.mean([row[name] for row in classes.values()])) for name in names}
            exams.append({"step": step, **mean, "classes": classes})
        return exams

    def _export(self) -> None:
        for part in ("base", *(plan.part for plan in self.plan.wanted)):
            folder = self.run.path("export", part)
            folder.mkdir(parents=True)
            graph = {"file": "generator.onnx", "sha256": "ab" * 32, "bytes": 1_234_567}
            (folder / "card.json").write_text(json.dumps({"graphs": [graph]}))
            self._finish("export", part, seconds=2.0)

    def _produce(self) -> None:
        for plan in self.plan.wanted:
            folder = self.run.path("produce", plan.part)
            folder.mkdir(parents=True)
            count = 2 * plan.deficit
            manifest = pd.DataFrame(
                {
                    "class_id": plan.class_id,
                    "class_name": plan.class_name,
                    "seed": 0,
                    "index": np.arange(count),
                    "model_sha256": "ab" * 32,
                    "shard": "shard-00000.npy",
                    "row": np.arange(count),
                }
            )
            manifest.to_parquet(folder / "manifest.parquet")
            self._finish("produce", plan.part, seconds=0.4)

    def _screen(self) -> None:
        self.run.path("screen", "screener").mkdir(parents=True)
        self._finish(
            "screen",
            "screener",
            seconds=0.8,
            recognised=0.931,
            min_confidence=0.709,
            min_realism=0.524,
            min_distance=0.0467,
        )
        for plan in self.plan.wanted:
            folder = self.run.path("screen", plan.part)
            folder.mkdir(parents=True)
            table = pd.read_parquet(self.run.path("produce", plan.part) / "manifest.parquet")
            images = self._synthetic(plan.class_id, len(table))
            distances = pairwise_distances(images, self.train.images)
            chances = (
                [0, 0.2, 0.4, 0.1, 0.15, 0.1, 0.05]
                if plan.class_id in self.nothing_kept
                else [0.64, 0.1, 0.06, 0.06, 0.06, 0.04, 0.04]
            )
            table["reason"] = self.rng.choice(["", *REASONS], len(table), p=chances)
            table["kept"] = table["reason"] == ""
            table["confidence"] = np.where(table["kept"], 0.9, 0.3)
            table["real_distance"] = distances.min(axis=1)
            table["nearest_real"] = distances.argmin(axis=1)
            rows = np.concatenate([np.flatnonzero(table["reason"] == reason)[:16] for reason in REASONS])
            np.save(folder / "kept.npy", images[table["kept"]])
            np.save(folder / "rejected.npy", images[rows])
            table.iloc[rows].to_parquet(folder / "rejected.parquet", index=False)
            table.to_parquet(folder / "screened.parquet", index=False)
            self._finish("screen", plan.part, seconds=0.3)

    def _synthetic(self, class_id: int, count: int) -> np.ndarray:
        """Real images of the class, moved and blurred."""
        own = self.train.images[self.train.class_ids == class_id]
        sigma = (0.4, 0.4, 0)
        moved = [
            gaussian_filter(
                shift(own[self.rng.integers(len(own))].astype(float), (*offset, 0), order=1), sigma
            )
            for offset in self.rng.uniform(-0.6, 0.6, (count, 2))
        ]
        return np.clip(np.round(moved), 0, 255).astype(np.uint8).reshape(-1, *self.train.images.shape[1:])

    def _assemble(self) -> None:
        self.run.path("assemble").mkdir()
        self._finish("assemble", seconds=0.2)

    def _evaluate(self) -> None:
        folder = self.run.path("evaluate")
        folder.mkdir()
        rows, per_class = [], []
        for level, arm in zip((0.84, 0.915, 0.915 + GAINS[self.verdict]), ARMS, strict=True):
            for seed in range(4):
                score = level + self.rng.normal(0, 0.004)
                rows.append((arm, seed, score, score - 0.03, score - 0.01, score - 0.02, np.nan, 0.04))
                per_class += [
                    (arm, seed, class_id, score + self.rng.normal(0, 0.02))
                    for class_id in range(len(self.names))
                ]
        columns = ["arm", "seed", "macro_f1", "rare_recall", "rare_average_precision"]
        columns += ["balanced_accuracy", "head_recall", "calibration_error"]
        pd.DataFrame(rows, columns=columns).to_parquet(folder / "scores.parquet")
        pd.DataFrame(per_class, columns=["arm", "seed", "class_id", "recall"]).to_parquet(
            folder / "per_class.parquet"
        )
        gain = GAINS[self.verdict]
        change = {
            "before": 0.915,
            "after": 0.915 + gain,
            "difference": gain,
            "low": gain - 0.008,
            "high": gain + 0.008,
        }
        wanted = [
            {
                "class_id": plan.class_id,
                "class_name": plan.class_name,
                "test_images": 90,
                "recall": change,
                "sentence": f"{plan.class_name}: with 90 test images nothing under 8 points can be seen.",
            }
            for plan in self.plan.wanted
        ]
        tree = {
            "verdict": self.verdict,
            "sentence": f"{self.verdict}: as measured on 897 real test images.",
            "before": ARMS[1],
            "after": ARMS[2],
            **{key: change[key] for key in ("difference", "low", "high")},
            "confidence": 0.95,
            "margin": 0.01,
            "measures": dict.fromkeys(("macro_f1", "rare_recall", "rare_average_precision"), change),
            "comparisons": [
                {"arm": arm, "has_synthetic": arm == ARMS[2], **part, "p": 0.2}
                for arm, part in (
                    (ARMS[0], {"difference": -0.07, "low": -0.09, "high": -0.05}),
                    (ARMS[2], {"difference": gain, "low": gain - 0.02, "high": gain + 0.02}),
                )
            ],
            "classes": wanted,
            "notes": ["Each interval covers both classifier seeds and test images."],
        }
        (folder / "verdict.json").write_text(json.dumps(tree))
        write_predictions(folder, self.data.part("test").class_ids, ARMS, len(self.names), seeds=4)
        self._finish("evaluate", seconds=55.0)

    def _publish(self) -> None:
        folder = self.run.path("publish")
        folder.mkdir()
        is_published = self.verdict != "hurts"
        reason = "not published: it made things worse" if not is_published else "published: not worse"
        tree = {
            "published": is_published,
            "path": "exported/digits/1" if is_published else None,
            "reason": reason,
        }
        (folder / "publish.json").write_text(json.dumps(tree))
        self._finish("publish", seconds=0.1)


@pytest.fixture(scope="session")
def build_run(tmp_path_factory):
    """Makes builders of runs, each in a folder of its own."""

    def build(**options) -> RunBuilder:
        return RunBuilder(tmp_path_factory.mktemp("report") / "run", **options)

    return build


@pytest.fixture(scope="module")
def finished(build_run):
    """A run that is done."""
    return build_run().through("publish")


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run, to be changed."""
    return shutil.copytree(finished.folder, tmp_path / "run")


@pytest.fixture(scope="module")
def report(finished):
    """What its page shows."""
    return collect(finished.folder, finished.config)
