"""The judge counts what screening would keep, how varied it is, and what is only a copy."""

from __future__ import annotations

import numpy as np
import pytest
from support.bars import always_right, bars, game_of, judge_of, settings

from ganaug.training.judge import coverage, spread

RARE = 2


def noise(count: int = 64) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 255, (count, 8, 8, 1), dtype=np.uint8)


def test_no_more_than_enough_counts_and_no_copies() -> None:
    data = bars()
    judge = judge_of(data, (RARE,), recognisers=[always_right(3)])
    own = data.images[-6:]
    half = np.concatenate([noise(), np.repeat(own[:1], 64, axis=0)])
    every, mixed, copies = (judge.examine(RARE, images) for images in (noise(), half, own))
    assert (every.passing, mixed.passing, copies.passing) == (1.0, 0.5, 0.0)
    assert every.score == mixed.score == every.diversity == 1.0
    assert (copies.score, copies.copies, copies.coverage) == (0.0, 1.0, 1.0)


def test_samples_of_another_class_do_not_pass() -> None:
    def never(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probability, features = always_right(3)(images)
        return probability * np.array([1, 1, 0.5], np.float32), features

    judge = judge_of(bars(), (1, RARE), recognisers=[never])
    assert judge.examine(1, noise()).passing == 1.0
    assert judge.examine(RARE, noise()).passing == 0.0


def test_one_image_again_and_again_has_no_spread_and_real_ones_have_all() -> None:
    data = bars()
    judge = judge_of(data, (0,))
    assert judge.examine(0, np.repeat(noise(1), 64, axis=0)).spread == 0.0
    assert judge.examine(0, data.images[:40]).spread == pytest.approx(1.0)


def test_samples_that_repeat_each_other_are_counted_and_real_images_do_not() -> None:
    data = bars()
    judge = judge_of(data, (0,))
    assert judge.examine(0, np.repeat(noise(16), 4, axis=0)).repeats == 0.75
    assert judge.examine(0, noise()).repeats == 0.0


def test_nearness_is_one_for_new_images_of_the_same_kind_and_nought_for_copies() -> None:
    data = bars(counts=(200, 30, 6))
    train, held_out = data.take(np.arange(100)), data.take(np.arange(100, 150))
    rest = data.take(np.arange(150, 200)).images
    judge = judge_of(data.take(np.arange(100)), (0,), held_out=held_out)
    assert judge.examine(0, rest).nearness == pytest.approx(1.0, abs=0.1)
    assert judge.examine(0, train.images[:50]).nearness == 0.0


def test_the_best_weights_are_kept_and_the_same_latents_asked_each_time() -> None:
    data, config = bars(), settings("cgan")
    players, _ = game_of(data, config)
    judge = judge_of(data, (0, 1), recognisers=[always_right(3)])
    first = judge(players)
    assert first is not None
    players.step = 3
    assert judge(players) == first
    assert players.notes["best_step"] == 0
    kept = {f"average.{name}" for name in players.average.state_dict()}
    assert kept < set(players.kept)
    players.step = 4
    assert judge(players) is None


def test_without_classifiers_no_weights_are_called_best() -> None:
    players, _ = game_of(bars(), settings("cgan"))
    judge_of(bars(), (0,))(players)
    assert "best_step" not in players.notes
    assert players.notes["exams"][0]["step"] == 0


def test_spread_is_the_mean_distance_of_all_pairs() -> None:
    features = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(features) for b in features[:i]]
    assert spread(features) == pytest.approx(float(np.mean(gaps)), rel=1e-5)
    assert spread(features[:1]) == 0.0


def test_coverage_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(30, 4)), rng.normal(size=(12, 4))
    covered = 0
    for row, image in enumerate(real):
        others = sorted(np.linalg.norm(np.delete(real, row, axis=0) - image, axis=1))
        covered += min(np.linalg.norm(made - image, axis=1)) <= others[4]
    assert coverage(real.astype(np.float32), made.astype(np.float32)) == pytest.approx(covered / 30)
