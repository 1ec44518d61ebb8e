"""A classifier that starts from the discriminator: it begins with its weights, and asks for it by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.bars import bars, settings

from ganaug.arms import ARMS, STARTED, Arm
from ganaug.config import EvaluateConfig, load
from ganaug.errors import ModelError, SettingsError
from ganaug.run import RunFolder
from ganaug.steps import STEPS, do, open_run
from ganaug.training.arena import run_arena
from ganaug.training.checkpoint import load_tensors
from ganaug.training.classifier import fit, predict
from ganaug.training.discriminator_start import StartedClassifier, load_discriminator
from ganaug.training.gans import train_base
from ganaug.training.players import DISCRIMINATOR_FILE

ARM = "oversampling+albumentations+discriminator"
CHEAP, OURS = "oversampling+albumentations", "oversampling+albumentations+synthetic"
# Each with what makes its discriminator another kind of module.
KEPT: dict[str, tuple[tuple[int, int, int], dict[str, object]]] = {
    "cgan": ((8, 8, 1), {"conditioning": "embedding"}),
    "dcgan": ((16, 18, 3), {"conditioning": "embedding"}),
    "strided": ((17, 16, 3), {"regularizers": ["spectral-norm"], "unconditional_px": 8}),
    "sgan": ((8, 8, 1), {}),
    "multi-discriminator": ((8, 8, 1), {"discriminators": 2}),
    "long-tail": ((16, 17, 3), {}),
    "pair": ((8, 8, 1), {}),
    "modern": ((8, 9, 4), {}),
}


def keep(
    folder: Path, recipe: str = "cgan", shape: tuple[int, int, int] = (8, 8, 1), **changes: object
) -> Path:
    config = settings(recipe, steps=2, keep_discriminator=True, **changes)
    train_base(bars(shape), config, folder, device="cpu")
    return folder


def arena(folder: Path, base: Path | None, arms: tuple[str, ...] = (CHEAP, ARM), synthetic: int = 0):
    config = EvaluateConfig(arms=arms, seeds=2, steps=3, workers=1)
    kept = bars(counts=(0, 0, synthetic))
    return run_arena(bars(), kept, bars(counts=(8, 8, 8)), [2], config, folder, discriminator=base)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keep(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("recipe", KEPT)
def test_the_classifier_begins_with_the_weights_of_every_recipe_s_discriminator(recipe, tmp_path):
    shape, changes = KEPT[recipe]
    folder = keep(tmp_path, recipe, shape, **changes)
    data = bars(shape)
    begun: list[dict[str, torch.Tensor]] = []

    def start(rng: torch.Generator) -> StartedClassifier:
        model = StartedClassifier(load_discriminator(folder), 3, rng=rng)
        begun.append({name: value.clone() for name, value in model.named_parameters()})
        return model

    model = fit(ARMS[ARM].recipe(data), 3, seed=0, steps=2, start=start)
    stored, _ = load_tensors(folder / DISCRIMINATOR_FILE)
    weights = {name for name in begun[0] if name.startswith("trunk.discriminator.")}
    assert weights
    for name in weights:
        assert torch.equal(begun[0][name], stored[name.removeprefix("trunk.discriminator.")]), name
    # And it goes on learning from there.
    now = dict(model.named_parameters())
    assert any(not torch.equal(begun[0][name], now[name]) for name in weights)
    probability, features = predict(model, data.images[:5])
    assert probability.shape == (5, 3)
    assert features.shape == (5, model.feature_count)
    assert np.allclose(probability.sum(1), 1, atol=1e-5)


def test_features_are_of_the_image_alone(tmp_path):
    trunk = load_discriminator(keep(tmp_path, conditioning="embedding"))
    images = torch.rand(3, 1, 8, 8) * 2 - 1
    judge = trunk.discriminator
    by_class = [judge.features(images, torch.full((3,), position)) for position in range(3)]
    assert torch.equal(by_class[0], by_class[2])
    assert torch.equal(trunk(images), by_class[0])


def test_several_discriminators_features_stand_side_by_side(tmp_path):
    trunk = load_discriminator(keep(tmp_path, "multi-discriminator", discriminators=2))
    assert trunk.feature_count == sum(member.feature_count for member in trunk.discriminator.members)


def test_the_head_is_chosen_by_the_seed_and_no_global_seed_is_touched(base):
    before = torch.random.get_rng_state()
    heads = [
        StartedClassifier(load_discriminator(base), 3, rng=torch.Generator().manual_seed(seed)).head.weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_discriminator_that_was_not_kept_is_refused_with_the_setting_that_keeps_it(tmp_path):
    with pytest.raises(ModelError, match=r"--train\.keep-discriminator true"):
        load_discriminator(tmp_path)


@pytest.mark.parametrize("content", [b"not weights", b""])
def test_a_damaged_discriminator_is_refused(tmp_path, content):
    (tmp_path / DISCRIMINATOR_FILE).write_bytes(content)
    with pytest.raises(ModelError, match="train again"):
        load_discriminator(tmp_path)


@pytest.mark.parametrize("folder", [None, "empty"])
def test_the_arena_refuses_the_arm_before_training_when_nothing_was_kept(tmp_path, folder):
    with pytest.raises(SettingsError, match=r"--train\.keep-discriminator true"):
        arena(tmp_path / "run", folder and tmp_path / folder)
    assert not (tmp_path / "run").exists()


def test_a_discriminator_of_other_images_is_refused(tmp_path):
    with pytest.raises(ModelError, match="images of"):
        arena(tmp_path / "run", keep(tmp_path / "base", "cgan", (9, 8, 1)))


def test_the_arm_is_trained_and_counts_as_one_without_synthetic_images(base, tmp_path):
    found = arena(tmp_path, base, (ARM, OURS), synthetic=6)
    assert set(found.scores["arm"]) == {ARM, OURS}
    assert (found.verdict.before, found.verdict.after) == (ARM, OURS)
    assert not ARMS[ARM].has_synthetic
    stored = np.load(tmp_path / "predictions.npz")["probability"].astype(float)
    assert np.allclose(stored.sum(3), 1, atol=0.01)


@pytest.mark.parametrize("is_kept", [True, False])
def test_the_standard_budget_has_its_arms_where_it_is_kept(is_kept, base, tmp_path, monkeypatch):
    monkeypatch.setattr("ganaug.arms.STANDARD", (CHEAP, OURS))
    config = EvaluateConfig(
        budget="standard", augment="light", synthetic_share=0.5, seeds=2, steps=3, workers=1
    )
    found = run_arena(
        bars(),
        bars(counts=(0, 0, 6)),
        bars(counts=(8, 8, 8)),
        [2],
        config,
        tmp_path,
        discriminator=base if is_kept else None,
    )
    assert set(found.scores["arm"]) == {CHEAP, OURS, *(STARTED if is_kept else ())}


def test_another_discriminator_means_that_its_arm_alone_is_trained_again(base, tmp_path):
    run = tmp_path / "run"
    arena(run, base)
    before = {path.name for path in (run / "fits").iterdir()}
    arena(run, base)
    assert {path.name for path in (run / "fits").iterdir()} == before
    arena(run, keep(tmp_path / "other", seed=1))
    after = {path.name for path in (run / "fits").iterdir()}
    assert before < after
    assert {"discriminator" in name for name in after - before} == {True}
    assert len(after - before) == 2


@pytest.mark.parametrize("changes", [{"train.keep_discriminator": False}, {"train.scope": "independent"}])
def test_a_run_that_will_keep_no_discriminator_refuses_the_arm_when_it_is_opened(tmp_path, changes):
    config = load(None, {"evaluate.arms": [CHEAP, ARM], "run_dir": str(tmp_path / "run"), **changes})
    with pytest.raises(SettingsError, match=r"--train\.keep-discriminator true"):
        open_run(config)
    assert not (tmp_path / "run").exists()


def test_an_arm_says_what_it_starts_from():
    assert ARMS[ARM].start == "discriminator"
    assert {arm.start for name, arm in ARMS.items() if name not in STARTED} == {"nothing"}
    assert Arm("plain", "", "none").start == "nothing"


def test_evaluate_reads_the_base_only_for_the_arm_that_starts_from_it(tmp_path):
    given = {"run_dir": str(tmp_path / "run")}
    run = open_run(load(None, given | {"evaluate.arms": [CHEAP, ARM]}))
    for step in ("split", "plan"):
        do(run, step)
    without = RunFolder(run.folder, load(None, given), run.fingerprint)
    assert "train/base" in STEPS["evaluate"].reads(run, "")
    assert "train/base" not in STEPS["evaluate"].reads(without, "")
