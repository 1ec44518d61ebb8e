"""Every recipe, loss, regulariser and conditioning learns real digits in seconds, and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from support.bars import settings
from support.digits import digits

from ganaug.config import ExportConfig, TrainConfig, load
from ganaug.errors import SettingsError
from ganaug.generate import Generator
from ganaug.training.classifier import train_classifiers
from ganaug.training.export import export_generator
from ganaug.training.gans import train_base, train_class
from ganaug.training.losses import AGGREGATES, LOSSES
from ganaug.training.networks.presets import PRESETS, resolve
from ganaug.training.regularizers import REGULARIZERS, SPECTRAL_NORM

RECIPES = {recipe for recipe, _ in PRESETS}
COMMON: dict[str, object] = {"batch": 32, "width": 64, "z_dim": 8, "steps": 300, "checkpoint_every": 300}
SMALL: dict[str, dict[str, object]] = {
    # Convolutions cost more a step than perceptrons, and learn more in it.
    "dcgan": {"width": 16, "steps": 200, "learning_rate": 2e-3},
    "strided": {"width": 8, "steps": 200, "learning_rate": 2e-3},
    "modern": {"width": 8, "steps": 100, "learning_rate": 2e-3},
    "pair": {"steps": 150},
    "vanilla": {"scope": "independent", "learning_rate": 2e-3},
    "multi-discriminator": {"discriminators": 2},
}


def config_of(recipe: str, **changes: object) -> TrainConfig:
    return settings(recipe, ema=0.98, **{**COMMON, **SMALL.get(recipe, {}), **changes})


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    train_classifiers(digits(), 1, folder, seed=0, steps=60)
    return folder


def gain(summary: dict[str, Any]) -> float:
    """How much better the samples score than before the first step."""
    scores = [exam["score"] for exam in summary["exams"]]
    return float(max(scores) - scores[0])


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_learns_digits_and_exports(recipe: str, classifiers: Path, tmp_path: Path) -> None:
    data, config = digits(), config_of(recipe)
    if recipe == "vanilla":
        summary = train_class(data, 1, None, classifiers, config, tmp_path / "model", device="cpu")
    else:
        summary = train_base(data, config, tmp_path / "model", classifiers=classifiers, device="cpu")
    assert gain(summary) > 0.2, summary["exams"]
    card = export_generator(
        tmp_path / "model",
        tmp_path / "exported",
        ExportConfig(parity_levels=1),
        class_names=data.class_names,
        dataset_sha256="0" * 64,
    )
    assert card.recipe == config_network(config)
    images = Generator.open(tmp_path / "exported", device="cpu").sample("1", count=8, seed=0)
    assert images.shape == (8, 8, 8, 1)
    assert len(np.unique(images.reshape(8, -1), axis=0)) == 8


def config_network(config: TrainConfig) -> str:
    return resolve(config, (8, 8, 1), 240, "cpu")[2].network


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_digits(loss: str, classifiers: Path, tmp_path: Path) -> None:
    summary = train_base(
        digits(), config_of("cgan", loss=loss), tmp_path, classifiers=classifiers, device="cpu"
    )
    assert gain(summary) > 0.2, summary["exams"]


@pytest.mark.parametrize("name", [*REGULARIZERS, SPECTRAL_NORM])
def test_every_regulariser_learns_digits(name: str, classifiers: Path, tmp_path: Path) -> None:
    # A slope of 1, which two of them ask for, is slow to learn with.
    config = config_of("cgan", loss="non-saturating", regularizers=[name], steps=600, learning_rate=2e-3)
    summary = train_base(digits(), config, tmp_path, classifiers=classifiers, device="cpu")
    assert gain(summary) > 0.2, summary["exams"]


@pytest.mark.parametrize("conditioning", ["embedding", "projection", "normalisation", "classes"])
def test_every_conditioning_learns_the_classes_apart(
    conditioning: str, classifiers: Path, tmp_path: Path
) -> None:
    config = config_of("cgan", conditioning=conditioning)
    summary = train_base(digits(), config, tmp_path, classifiers=classifiers, device="cpu")
    assert gain(summary) > 0.2, summary["exams"]
    # One class that looks like all others would pass a third of the time at most.
    assert min(row["passing"] for row in summary["exams"][-1]["classes"].values()) > 0.34


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": "natural"},
        {"sampling": "square-root", "transitional": True},
        {"optimizer": "sgd", "learning_rate": 0.2, "loss": "non-saturating"},
        {"flips": True, "quarter_turns": True, "adaptive": False},
        *({"discriminators": 2, "aggregate": name} for name in AGGREGATES),
    ],
    ids=str,
)
def test_other_settings_learn_digits(changes: dict[str, object], classifiers: Path, tmp_path: Path) -> None:
    config = config_of("cgan", **changes)
    summary = train_base(digits(), config, tmp_path, classifiers=classifiers, device="cpu")
    assert gain(summary) > 0.15, summary["exams"]


def test_low_resolution_without_classes_learns_digits(classifiers: Path, tmp_path: Path) -> None:
    config = config_of("strided", unconditional_px=4)
    summary = train_base(digits(), config, tmp_path, classifiers=classifiers, device="cpu")
    assert gain(summary) > 0.2, summary["exams"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"recipe": "pair", "conditioning": "projection"}, "train.conditioning"),
        ({"recipe": "pair", "transitional": True}, "train.transitional"),
        ({"recipe": "cgan", "unconditional_px": 4}, "train.unconditional_px"),
        ({"recipe": "sgan", "discriminators": 2}, "train.discriminators"),
        ({"recipe": "cgan", "processes": 3}, "train.processes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, object], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        resolve(TrainConfig.model_validate(changes), (8, 8, 1), 100, "cpu")


@pytest.mark.parametrize("changes", [{"train.recipe": "vanilla"}, {"train.conditioning": "none"}], ids=str)
def test_a_gan_that_knows_no_classes_serves_no_base(changes: dict[str, str]) -> None:
    assert load(None, changes).train.chosen_scope == "independent"
    with pytest.raises(SettingsError, match=r"train.scope independent"):
        load(None, {**changes, "train.scope": "per-class"})


def test_the_long_tail_s_class_comes_late_and_at_high_resolution_unless_the_settings_say_otherwise() -> None:
    def tail(**changes: object) -> tuple[bool, int, str]:
        config = TrainConfig.model_validate({"recipe": "long-tail", **changes})
        preset = resolve(config, (32, 32, 3), 12_000, "cpu")[2]
        return preset.is_transitional, preset.unconditional_px, config.chosen_scope

    assert tail() == (True, 8, "base")
    assert tail(transitional=False, unconditional_px=0, scope="per-class") == (False, 0, "per-class")
    others = {recipe for recipe, px in PRESETS if PRESETS[recipe, px].is_transitional}
    assert others == {"long-tail"}


def test_names_in_the_settings_are_those_of_the_registries() -> None:
    fields = TrainConfig.model_fields

    def named(field: str) -> set[str]:
        return set(get_args(fields[field].annotation)) - {"auto"}

    assert named("loss") == set(LOSSES)
    assert named("recipe") == RECIPES
    assert named("aggregate") == set(AGGREGATES)


def test_regularisers_named_without_weights_take_their_usual_ones() -> None:
    config = TrainConfig.model_validate({"regularizers": ["r1", "wgan-gp"]})
    assert config.regularizers == {"r1": 0.3, "wgan-gp": 10.0}
