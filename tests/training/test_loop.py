"""Training learns, is exactly repeatable, stops when told, and goes on after a kill as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support.bars import always_right, bars, game_of, judge_of, settings

from ganaug.errors import DeviceError, ModelError, TrainingError
from ganaug.training.classifier import train_classifiers
from ganaug.training.device import resolve_device
from ganaug.training.gans import CLASS_EXAMS, train_base, train_class
from ganaug.training.loop import train
from ganaug.training.networks import GENERATOR_FILE, load_generator
from ganaug.training.networks.conditioning import to_uint8
from ganaug.training.players import EXEMPLARS_PER_CLASS, Players
from ganaug.training.step import play_step

RARE = 2
# Each with what makes its state larger than networks and moments.
RECIPES: dict[str, tuple[tuple[int, int, int], dict[str, object]]] = {
    "cgan": ((8, 8, 1), {"transitional": True}),
    "dcgan": ((16, 18, 3), {}),
    "strided": ((17, 16, 3), {"regularizers": ["lecam", "spectral-norm"], "unconditional_px": 8}),
    "sgan": ((8, 8, 1), {}),
    "multi-discriminator": ((8, 8, 1), {"discriminators": 2}),
    "long-tail": ((16, 17, 3), {}),
    "pair": ((8, 8, 1), {"precision": "bf16"}),
    "modern": ((8, 9, 4), {}),
    "vanilla": ((8, 8, 1), {"scope": "independent", "optimizer": "sgd"}),
}


class KilledError(Exception):
    """Stands for whatever ends a process."""


def interrupt_at(images: int):
    def progress(done: int, total: int) -> None:
        if done >= images:
            raise KilledError

    return progress


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    train_classifiers(bars(), 2, folder, seed=0, steps=30)
    return folder


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_interrupted_training_ends_with_the_same_bits(recipe: str, tmp_path: Path) -> None:
    shape, changes = RECIPES[recipe]
    # A class of 60 images has some to hold out, so that the augmented share is adapted.
    data, config = bars(shape, counts=(60, 30, 6)), settings(recipe, **changes)
    if recipe == "vanilla":
        data = data.take(np.flatnonzero(data.class_ids == 0))
    train_base(data, config, tmp_path / "straight", device="cpu")
    for images in (8 * 10, 8 * 20):
        # The checkpoints of these steps are not yet written: five steps are played again.
        with pytest.raises(KilledError):
            train_base(data, config, tmp_path / "resumed", device="cpu", progress=interrupt_at(images))
    summary = train_base(data, config, tmp_path / "resumed", device="cpu")
    for name in (GENERATOR_FILE, "players.safetensors", "network.json", "curves.parquet"):
        straight, resumed = (tmp_path / run / name for run in ("straight", "resumed"))
        assert straight.read_bytes() == resumed.read_bytes(), name
    assert summary["steps"] == 24


def test_a_base_killed_with_kill_9_ends_with_the_same_bits(tmp_path: Path) -> None:
    bars().save(tmp_path / "data")
    config = settings("pair")
    script = f"""
import os, signal, sys, torch
from pathlib import Path
from ganaug.config import TrainConfig
from ganaug.dataset import LabelledImages
from ganaug.training.gans import train_base
torch.set_num_threads({torch.get_num_threads()})
def progress(done, total):
    if done >= 15 * 8:
        os.kill(os.getpid(), signal.SIGKILL)
data = LabelledImages.load(Path("data"))
train_base(data, TrainConfig.model_validate_json(sys.argv[1]), Path("resumed"), device="cpu", progress=progress)
"""
    root = str(Path(__file__).parents[2])
    killed = subprocess.run(
        [sys.executable, "-c", script, config.model_dump_json()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "resumed" / "checkpoints").glob("*.safetensors"))
    train_base(bars(), config, tmp_path / "resumed", device="cpu")
    train_base(bars(), config, tmp_path / "straight", device="cpu")
    straight, resumed = (tmp_path / run / GENERATOR_FILE for run in ("straight", "resumed"))
    assert straight.read_bytes() == resumed.read_bytes()


def test_a_class_goes_on_from_the_base_and_keeps_its_best_look(classifiers: Path, tmp_path: Path) -> None:
    data, config = bars(), settings("pair")
    train_base(data, config, tmp_path / "base", device="cpu")
    summary = train_class(data, RARE, tmp_path / "base", classifiers, config, tmp_path / "own", device="cpu")
    steps = [row["step"] for row in summary["exams"]]
    assert steps == [0, 3, 6, 9, 12]
    assert len(steps) == CLASS_EXAMS + 1
    best = max(summary["exams"], key=lambda row: row["score"])
    assert summary["best_step"] == best["step"]
    generator = load_generator(tmp_path / "own")
    assert (generator.class_ids, generator.exemplar_counts) == ((RARE,), (6,))
    if best["step"] == 0:
        whole = load_generator(tmp_path / "base")
        torch.testing.assert_close(whole.core.state_dict(), generator.core.state_dict())
    curves = pd.read_parquet(tmp_path / "own" / "curves.parquet")
    assert {"exam_score", "generator_loss", "r1", "r2", "fooled"} <= set(curves["name"])


@pytest.mark.parametrize("recipe", ["pair", "cgan"])
def test_an_interrupted_class_ends_with_the_same_bits(recipe: str, classifiers: Path, tmp_path: Path) -> None:
    data, config = bars(), settings(recipe, checkpoint_every=4)
    train_base(data, config, tmp_path / "base", device="cpu")
    arguments = (data, RARE, tmp_path / "base", classifiers, config)
    straight = train_class(*arguments, tmp_path / "straight", device="cpu")
    with pytest.raises(KilledError):
        train_class(*arguments, tmp_path / "resumed", device="cpu", progress=interrupt_at(8 * 8))
    resumed = train_class(*arguments, tmp_path / "resumed", device="cpu")
    assert straight["exams"] == resumed["exams"]
    one, other = (tmp_path / run / GENERATOR_FILE for run in ("straight", "resumed"))
    assert one.read_bytes() == other.read_bytes()


def test_a_class_conditional_specialist_makes_its_class_as_the_players_do(
    classifiers: Path, tmp_path: Path
) -> None:
    data, config = bars(), settings("cgan", class_steps=1)
    train_base(data, config, tmp_path / "base", device="cpu")
    train_class(data, RARE, tmp_path / "base", classifiers, config, tmp_path / "own", device="cpu")
    generator = load_generator(tmp_path / "own")
    assert generator.class_ids == (RARE,)
    assert generator(torch.zeros(2, 4), torch.tensor([RARE, RARE])).shape == (2, 1, 8, 8)


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    first = train_base(bars(), settings("cgan"), tmp_path, device="cpu")
    written = (tmp_path / GENERATOR_FILE).stat().st_mtime_ns
    assert train_base(bars(), settings("cgan"), tmp_path, device="cpu") == json.loads(json.dumps(first))
    assert (tmp_path / GENERATOR_FILE).stat().st_mtime_ns == written
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("recipe", ["cgan", "pair"])
def test_a_short_training_makes_images_of_the_right_class(recipe: str, tmp_path: Path) -> None:
    data = bars()
    config = settings(recipe, steps=300, batch=32, width=64, z_dim=8, ema=0.98)
    train_base(data, config, tmp_path, device="cpu")
    generator, rng = load_generator(tmp_path), torch.Generator().manual_seed(1)
    for class_id in range(3):
        z, classes = torch.randn(32, 8, generator=rng), torch.full((32,), class_id)
        made = generator(z, classes, torch.arange(32) % 6) if recipe == "pair" else generator(z, classes)
        light = to_uint8(made).float().mean(dim=(0, 1, 3))
        thirds = [light[list(rows)].mean().item() for rows in np.array_split(np.arange(8), 3)]
        assert int(np.argmax(thirds)) == class_id, thirds
        assert made.flatten(1).std(dim=0).mean() > 0.02, "all samples are alike"


def test_budgets_of_images_and_seconds_end_a_training_with_what_it_has(tmp_path: Path) -> None:
    summary = train_base(bars(), settings("cgan", max_images=10 * 8), tmp_path / "images", device="cpu")
    assert summary["steps"] == 10
    config = settings("cgan", max_seconds=1e-6, steps=1000)
    summary = train_base(bars(), config, tmp_path / "seconds", device="cpu")
    assert 0 < summary["steps"] < 1000
    assert "max_seconds" in summary["stopped"]
    assert load_generator(tmp_path / "seconds").class_ids == (0, 1, 2)


def test_training_stops_on_a_plateau_and_keeps_what_scored_best(tmp_path: Path) -> None:
    # Nothing can get better at a learning rate of nothing.
    data, config = bars(), settings("cgan", learning_rate=1e-12, patience=3)
    players, game = game_of(data, config)
    judge = judge_of(data, (0, 1, 2), steps=500, exams=10, recognisers=[always_right(3)])
    train(players, game, config, 500, tmp_path / "flat", watch=judge)
    assert (players.step, players.notes["best_step"]) == (150, 0)
    assert "patience" in players.notes["stopped"]
    players, game = game_of(data, config)
    train(players, game, settings("cgan", patience=0), 500, tmp_path / "all", watch=judge)
    assert players.step == 500


def test_a_batch_that_does_not_fit_is_played_in_parts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A discriminator that refuses more than 40 images at once stands for a GPU that is too small."""
    data, config = bars(), settings("cgan", batch=32)
    players, game = game_of(data, config)

    def refuse(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if len(arguments[0]) > limit:
            raise torch.OutOfMemoryError

    limit = 40
    players.discriminator.register_forward_pre_hook(refuse)
    train(players, game, config, 12, tmp_path / "small")
    assert (players.step, players.accumulate) == (12, 2)
    assert players.notes["findings"][0]["detector"] == "out of memory"
    assert "in 2 parts" in caplog.text
    again, _ = game_of(data, config)
    train(again, game, config, 12, tmp_path / "large")
    for small, large in zip(players.generator.parameters(), again.generator.parameters(), strict=True):
        torch.testing.assert_close(small, large, atol=1e-4, rtol=1e-3)
    limit, (hopeless, _) = 0, game_of(data, config)
    hopeless.discriminator.register_forward_pre_hook(refuse)
    with pytest.raises(TrainingError, match=r"lower train.batch"):
        train(hopeless, game, config, 12, tmp_path / "none")


def test_a_step_in_parts_is_the_whole_step() -> None:
    data = bars()
    config = settings("cgan", batch=16, regularizers=["r1", "r2", "wgan-gp", "dragan", "lecam"])
    (whole, game), (parted, _) = game_of(data, config), game_of(data, config)
    parted.accumulate = 3
    for _ in range(3):
        one, other = (play_step(players, game, players.preset) for players in (whole, parted))
        for name in ("generator_loss", "discriminator_loss", "r1", "r2", "wgan-gp"):
            torch.testing.assert_close(one[name], other[name], atol=1e-4, rtol=1e-3)


def test_bfloat16_plays_the_same_game_with_penalties_in_full_precision() -> None:
    data = bars((16, 16, 1))
    values: dict[str, object] = {"batch": 32, "width": 16}
    (full, game), (half, _) = (
        game_of(data, settings("strided", **values, precision=precision)) for precision in ("fp32", "bf16")
    )
    exact = play_step(full, game, full.preset)
    rough = play_step(half, game, half.preset)
    torch.testing.assert_close(exact["r1"], rough["r1"], rtol=2e-2, atol=1e-5)
    torch.testing.assert_close(exact["discriminator_loss"], rough["discriminator_loss"], rtol=2e-2, atol=1e-3)
    assert rough["discriminator_loss"].dtype == torch.float32
    assert all(weight.dtype == torch.float32 for weight in half.generator.parameters())
    # The step without penalties goes through the discriminator in bfloat16.
    seen = []
    handle = half.discriminator.convs[0].register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    play_step(half, game, half.preset)
    handle.remove()
    assert torch.bfloat16 in seen


def test_transitional_training_begins_without_the_class_and_ends_with_it(tmp_path: Path) -> None:
    data, config = bars(), settings("cgan", transitional=True, steps=40, patience=0)
    players, game = game_of(data, config)
    strengths = []

    def watch(now: Players) -> None:
        strengths.append(float(now.generator.embed.strength))  # type: ignore[union-attr, arg-type]

    train(players, game, config, 40, tmp_path, watch=watch)
    assert strengths[1:11] == [0.0] * 10
    assert 0.4 < strengths[15] < 0.6
    assert strengths[-1] == float(players.average.embed.strength) == 1.0  # type: ignore[union-attr, arg-type]


def test_unlabelled_images_reach_the_discriminator_that_tells_classes(tmp_path: Path) -> None:
    data = bars(counts=(12, 12, 12))
    more = np.random.default_rng(1).integers(0, 255, (50, 8, 8, 1), dtype=np.uint8)
    for name, unlabelled in (("with", more), ("without", None)):
        train_base(data, settings("sgan", steps=6), tmp_path / name, unlabelled=unlabelled, device="cpu")
    one, other = (tmp_path / name / GENERATOR_FILE for name in ("with", "without"))
    assert one.read_bytes() != other.read_bytes()
    curves = pd.read_parquet(tmp_path / "with" / "curves.parquet")
    assert "class_loss" in set(curves["name"])


def test_the_discriminator_is_kept_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    for name, changes in (("with", {}), ("without", {"keep_discriminator": False})):
        train_base(bars(), settings("cgan", steps=2, **changes), tmp_path / name, device="cpu")
    assert (tmp_path / "with" / "discriminator.safetensors").exists()
    assert not (tmp_path / "without" / "discriminator.safetensors").exists()


def test_an_independent_class_is_trained_on_its_own_images_alone(classifiers: Path, tmp_path: Path) -> None:
    data = bars()
    others = np.flatnonzero(data.class_ids != RARE)
    spoiled = data.take(np.arange(len(data)))
    spoiled.images[others] = 255 - spoiled.images[others]
    config = settings("vanilla", scope="independent")
    made = []
    for name, images in (("one", data), ("other", spoiled)):
        train_class(images, RARE, None, None, config, tmp_path / name, device="cpu")
        made.append((tmp_path / name / GENERATOR_FILE).read_bytes())
    assert made[0] == made[1]
    assert load_generator(tmp_path / "one").class_ids == (RARE,)


def test_a_class_with_one_image_is_never_paired_and_the_others_are_trained(tmp_path: Path) -> None:
    summary = train_base(bars(counts=(9, 9, 1)), settings("pair", steps=3), tmp_path, device="cpu")
    assert summary["steps"] == 3
    with pytest.raises(TrainingError, match="cgan"):
        train_base(bars(counts=(1, 1)), settings("pair"), tmp_path / "other", device="cpu")


def test_a_generator_carries_a_limited_number_of_exemplars(tmp_path: Path) -> None:
    data = bars(counts=(EXEMPLARS_PER_CLASS + 10, 9))
    train_base(data, settings("pair", steps=1, held_out=0.0), tmp_path, device="cpu")
    assert load_generator(tmp_path).exemplar_counts == (EXEMPLARS_PER_CLASS, 9)


def test_the_seed_chooses_the_weights_and_no_global_seed_is_touched(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    files = []
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_base(bars(), settings("cgan", steps=2, seed=seed), tmp_path / run, device="cpu")
        files.append((tmp_path / run / GENERATOR_FILE).read_bytes())
    assert files[0] == files[1] != files[2]
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("recipe", ["cgan", "strided", "pair", "modern", "multi-discriminator"])
def test_a_seldom_penalty_is_left_out_between(recipe: str) -> None:
    players, game = game_of(bars((16, 16, 1)), settings(recipe))
    preset = replace(players.preset, penalty_every=2)
    assert ["r1" in play_step(players, game, preset) for _ in range(3)] == [True, False, True]


def test_a_missing_base_is_refused(classifiers: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="train"):
        train_class(
            bars(), RARE, tmp_path / "no", classifiers, settings("pair"), tmp_path / "own", device="cpu"
        )


def test_cuda_is_refused_where_there_is_none() -> None:
    if torch.cuda.is_available():
        assert resolve_device("auto") == "cuda"
        return
    assert resolve_device("auto") == "cpu"
    with pytest.raises(DeviceError, match="--device"):
        resolve_device("cuda")
