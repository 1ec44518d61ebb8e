"""Tiny images that a classifier tells apart in a moment, and settings for trainings of a moment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ganaug.config import TrainConfig
from ganaug.dataset import LabelledImages
from ganaug.training.games import Game, Reals, make_game
from ganaug.training.judge import Judge, Recogniser
from ganaug.training.networks import NETWORKS, NetworkSpec
from ganaug.training.networks.presets import resolve
from ganaug.training.players import Players, make_players


def bars(shape: tuple[int, int, int] = (8, 8, 1), counts: tuple[int, ...] = (40, 30, 6)) -> LabelledImages:
    """Noisy images whose class is the third of the image that is bright."""
    rng = np.random.default_rng(0)
    class_ids = np.repeat(np.arange(len(counts)), counts)
    images = rng.integers(0, 60, (len(class_ids), *shape), dtype=np.uint8)
    for image, class_id in zip(images, class_ids, strict=True):
        rows = np.array_split(np.arange(shape[0]), len(counts))[class_id]
        image[rows] += rng.integers(120, 190, dtype=np.uint8)
    index = pd.DataFrame({"path": "", "class_id": class_ids, "split": "train", "group": "", "sha256": ""})
    return LabelledImages(images, index, tuple("abc"[: len(counts)]))


def settings(recipe: str, **changes: object) -> TrainConfig:
    """Small networks and few steps, all of which are played: nothing is good after so few."""
    values = {"steps": 24, "class_steps": 12, "batch": 8, "width": 8, "z_dim": 4, "checkpoint_every": 5}
    values |= {"patience": 0, "remedies": False}
    return TrainConfig.model_validate({"recipe": recipe, **values, **changes})


def game_of(
    data: LabelledImages, config: TrainConfig, held_out: LabelledImages | None = None, device: str = "cpu"
) -> tuple[Players, Game]:
    """Players and their game, as `train_base` makes them."""
    shape = tuple(int(side) for side in data.images.shape[1:])
    assert len(shape) == 3
    _, _, preset = resolve(config, shape, len(data), "cpu")
    reals = Reals(data, device)
    spec = NetworkSpec(
        preset.network,
        shape,
        reals.class_ids,
        preset.z_dim,
        preset.width,
        conditioning=preset.conditioning,  # type: ignore[arg-type]
        unconditional_px=preset.unconditional_px,
    )
    game = make_game(
        NETWORKS[spec.network].kind, reals, preset, held_out=Reals(held_out, device) if held_out else None
    )
    return make_players(spec, preset, config.seed, device), game


def judge_of(
    data: LabelledImages,
    class_ids: tuple[int, ...],
    *,
    steps: int = 12,
    exams: int = 4,
    held_out: LabelledImages | None = None,
    recognisers: Sequence[Recogniser] = (),
) -> Judge:
    """A judge of a class-conditional GAN on these images."""
    spec = NetworkSpec("cgan", (8, 8, 1), (0, 1, 2), 4, 8)
    nothing = data.take(np.empty(0, np.int64))
    return Judge(
        recognisers,
        data,
        held_out or nothing,
        Reals(data, "cpu"),
        class_ids,
        spec,
        steps=steps,
        exams=exams,
        seed=0,
    )


def always_right(classes: int) -> Recogniser:
    """A classifier that is sure of every class at once; its features are pixels."""
    return lambda images: (
        np.ones((len(images), classes), np.float32),
        images.reshape(len(images), -1).astype(np.float32),
    )
