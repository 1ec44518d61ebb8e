"""What goes wrong in GANs is provoked for real, noticed, and treated.

The settings are those that GANs are known to fail with: no regulariser, learning rates that are
far too large, no augmentation, a handful of images.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.bars import settings
from support.digits import digits

from ganaug.config import TrainConfig
from ganaug.errors import TrainingError
from ganaug.training.gans import train_base
from ganaug.training.health import DETECTORS, adapt_share, diagnose, overfitting
from ganaug.training.networks import GENERATOR_FILE


def risky(recipe: str = "cgan", **changes: object) -> TrainConfig:
    """A GAN without what keeps it healthy."""
    values: dict[str, object] = {
        "batch": 32,
        "width": 64,
        "z_dim": 8,
        "steps": 1000,
        "checkpoint_every": 50,
        "augment": False,
        "regularizers": {},
    }
    return settings(recipe, **{**values, **changes})


def named(summary: dict[str, Any]) -> set[str]:
    return {finding["detector"] for finding in summary["findings"]}


PROVOCATIONS = {
    "divergence": risky(loss="wasserstein", learning_rate=0.01),
    "oscillation": risky(loss="non-saturating", learning_rate=0.05),
    "vanishing gradients": risky(loss="minimax", learning_rate=0.05),
    "mode collapse": risky(loss="non-saturating", learning_rate=0.02),
    "repetition": risky(loss="non-saturating", learning_rate=0.02),
    "lost modes": risky(loss="hinge", learning_rate=0.02),
    # A pair GAN begins as a copy of its exemplars, and this one learns nothing else.
    "memorisation": risky("pair", learning_rate=1e-9, steps=60),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_each_failure_is_provoked_and_noticed(name: str, tmp_path: Path) -> None:
    # How a GAN fails depends on the last bits, and so on the CPU: lost modes are provoked in two ways.
    tries = [PROVOCATIONS[name], *([PROVOCATIONS["mode collapse"]] if name == "lost modes" else [])]
    noticed = set()
    for number, config in enumerate(tries):
        summary = train_base(digits(), config, tmp_path / str(number), device="cpu")
        noticed |= named(summary)
        for finding in summary["findings"]:
            assert finding["remedy"] == "none"
            assert not float(finding["value"]) <= finding["threshold"]
        if name in noticed:
            return
    raise AssertionError(f"{name} not among {noticed}")


@pytest.mark.parametrize("recipe", ["pair", "cgan"])
def test_a_healthy_training_is_left_alone(recipe: str, tmp_path: Path) -> None:
    config = risky(recipe, augment=True, regularizers=["r1", "r2"], learning_rate=1e-3, remedies=True)
    summary = train_base(digits(), config, tmp_path, device="cpu")
    # Four in five samples of a class-conditional GAN of this size do repeat others: told, or just not told.
    known = {"repetition"} if recipe == "cgan" else set()
    found = [finding for finding in summary["findings"] if finding["detector"] not in known]
    assert (found, summary["stopped"], summary["steps"]) == ([], "", 1000)


def test_divergence_is_rolled_back_until_the_learning_rate_is_bearable(tmp_path: Path) -> None:
    config = risky(loss="wasserstein", learning_rate=0.01, regularizers={"wgan-gp": 10.0}, remedies=True)
    wild = config.model_copy(update={"learning_rate": 1.0})
    summary = train_base(digits(), wild, tmp_path, device="cpu")
    rolled_back = [f for f in summary["findings"] if f["remedy"] == "roll back"]
    assert rolled_back
    assert all(
        finding["detector"] in {"divergence", "lost modes", "mode collapse"} for finding in rolled_back
    )


def test_a_training_that_cannot_be_saved_says_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"4 times in all.*learning_rate"):
        train_base(digits(), risky(learning_rate=1e12, remedies=True), tmp_path, device="cpu")


def test_the_last_remedy_is_to_stop_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = risky("pair", learning_rate=1e-9, steps=60, remedies=True)
    summary = train_base(digits(), config, tmp_path, device="cpu")
    remedies = [finding["remedy"] for finding in summary["findings"] if finding["detector"] == "memorisation"]
    assert remedies == list(DETECTORS["memorisation"].remedies)
    assert summary["steps"] < 60
    assert summary["stopped"] == "memorisation did not end"
    assert "samples copy training images" in caplog.text


def test_repetition_is_only_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = risky("pair", learning_rate=1e-9, steps=60, remedies=True)
    summary = train_base(digits(each=4), config, tmp_path, device="cpu")
    assert {row["remedy"] for row in summary["findings"] if row["detector"] == "repetition"} == {"only told"}
    assert "limit 0.8; only told" in caplog.text


def test_memorisation_of_a_handful_of_images_is_noticed(tmp_path: Path) -> None:
    config = risky(steps=1500, width=128, regularizers={"r1": 0.01, "r2": 0.01})
    assert "memorisation" in named(train_base(digits(each=4), config, tmp_path, device="cpu"))


def test_an_overfitting_discriminator_gets_augmentation(tmp_path: Path) -> None:
    # 25 images a class in sight, 25 held out, and a recipe that begins without augmentation.
    config = risky("vanilla", augment=True, held_out=0.5, width=128, learning_rate=2e-3, scope="independent")
    train_base(digits(each=50), config, tmp_path, device="cpu")
    curves = pd.read_parquet(tmp_path / "curves.parquet")
    by_name = {name: rows["value"].to_numpy() for name, rows in curves.groupby("name")}
    assert by_name["augmented_share"][0] == 0.0
    assert by_name["overfitting"].max() > 0.1
    assert by_name["augmented_share"].max() >= 0.05


def test_a_treated_training_that_is_killed_ends_with_the_same_bits(tmp_path: Path) -> None:
    """Rates, shares and findings after a rollback are part of what a checkpoint holds."""
    config = risky(loss="wasserstein", learning_rate=0.01, steps=600, remedies=True)
    straight = train_base(digits(), config, tmp_path / "straight", device="cpu")
    at = straight["findings"][0]["step"] + 1
    script = f"""
import os, signal, sys, torch
from pathlib import Path
from ganaug.config import TrainConfig
from ganaug.dataset import LabelledImages
from ganaug.training.gans import train_base
torch.set_num_threads({_threads()})
def progress(done, total):
    if done >= {at} * 32:
        os.kill(os.getpid(), signal.SIGKILL)
data = LabelledImages.load(Path("data"))
train_base(data, TrainConfig.model_validate_json(sys.argv[1]), Path("resumed"), device="cpu", progress=progress)
"""
    digits().save(tmp_path / "data")
    root = str(Path(__file__).parents[2])
    killed = subprocess.run(
        [sys.executable, "-c", script, config.model_dump_json()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    resumed = train_base(digits(), config, tmp_path / "resumed", device="cpu")
    assert resumed["findings"] == straight["findings"]
    one, other = (tmp_path / run / GENERATOR_FILE for run in ("straight", "resumed"))
    assert one.read_bytes() == other.read_bytes()


def test_remedies_get_stronger_each_time() -> None:
    notes: dict[str, Any] = {"curves": [[50, "generator_loss", float("nan")]], "exams": [], "findings": []}
    seen = []
    for _ in range(5):
        (finding,) = diagnose(notes, 50, 0.9, at="look")
        seen.append(finding.remedy)
        notes["findings"].append(finding.to_dict())
    assert seen == ["roll back", "roll back", "roll back", "stop", "stop"]


def test_overfitting_is_nought_for_images_that_score_alike_and_one_for_images_known_by_heart() -> None:
    rng = np.random.default_rng(0)
    alike, fake = rng.normal(size=400), rng.normal(-1.0, size=400)
    assert overfitting(alike, rng.normal(size=400), fake) == pytest.approx(0.0, abs=0.1)
    assert overfitting(alike + 99, fake - 99, fake) == 1.0


def test_the_augmented_share_stays_between_the_recipe_and_nine_tenths() -> None:
    share = 0.7
    for _ in range(30):
        share = adapt_share(share, 0.5, 0.7)
    assert share == pytest.approx(0.9)
    for _ in range(30):
        share = adapt_share(share, 0.0, 0.7)
    assert share == pytest.approx(0.7)


def _threads() -> int:
    import torch

    return torch.get_num_threads()
