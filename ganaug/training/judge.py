"""The judge of one class: which checkpoint of its own GAN serves it best.

The score is taken on the training side only: whether enough samples pass what screening will
ask of them (every classifier trained on real images names the class with confidence, and the
sample copies no real image), times how diverse those samples are beside the real ones.

More than enough does not count. Those classifiers know the few images that the generator knows:
a generator that learned them by heart passes always and helps nobody. In trials on two splits of
the digits, specialists chosen by the plain share passed more often than the base, and a
classifier lost two to three points of rare-class recall by them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ganaug.config import ScreenConfig
from ganaug.dataset import Images, LabelledImages
from ganaug.screen import RealNeighbours, copy_distance
from ganaug.training.checkpoint import copy_weights
from ganaug.training.classifier import load_classifiers, predict
from ganaug.training.games import Reals
from ganaug.training.networks import NETWORKS
from ganaug.training.networks.conditioning import NetworkSpec, to_float, to_uint8
from ganaug.training.players import Players

SAMPLES = 256
ENOUGH = 0.5
"""Share of samples that must pass: production makes twice what is wanted (`produce.surplus`)."""
LOOKS = 5
"""Checkpoints that are scored, the base as it is included."""

Floats = npt.NDArray[np.float32]
Recogniser = Callable[[Images], tuple[Floats, Floats]]
"""(N, H, W, C) uint8 images to (N, K) probabilities and (N, F) features."""


class Judge:
    """Scores the moving average at a few steps, and keeps the weights that scored best."""

    def __init__(
        self,
        recognisers: list[Recogniser],
        train_data: LabelledImages,
        reals: Reals,
        class_id: int,
        spec: NetworkSpec,
        steps: int,
        seed: int,
    ) -> None:
        self.recognisers, self.class_id = recognisers, class_id
        self.looks = {round(steps * look / (LOOKS - 1)) for look in range(LOOKS)}
        self.neighbours, self.threshold = RealNeighbours(train_data.images), copy_distance(train_data)
        own = train_data.images[train_data.class_ids == class_id]
        self.real_spread = spread(self._features(own[:SAMPLES]))
        # The same latents and exemplars at every look: the scores differ by the weights alone.
        rng = torch.Generator().manual_seed(seed)
        device, position = reals.images.device, reals.class_ids.index(class_id)
        self.z = torch.randn(SAMPLES, spec.z_dim, generator=rng).to(device)
        if NETWORKS[spec.network].kind == "exemplar-conditional":
            exemplars = reals.of_class(position)
            rows = torch.randint(len(exemplars), (SAMPLES,), generator=rng).to(device)
            self.condition = to_float(exemplars[rows])
        else:
            self.condition = torch.full((SAMPLES,), position, device=device)

    def __call__(self, players: Players) -> None:
        """Score the class when its turn has come; called after every step."""
        if players.step not in self.looks:
            return
        with torch.no_grad():
            images = to_uint8(players.average(self.z, self.condition))
        scores = self.score(images.permute(0, 2, 3, 1).cpu().numpy())
        players.notes.setdefault("scores", []).append({"step": players.step, **scores})
        players.notes["curves"] += [[players.step, f"judge_{name}", value] for name, value in scores.items()]
        if scores["score"] > players.notes.get("best_score", -1.0):
            players.notes["best_score"], players.notes["best_step"] = scores["score"], players.step
            players.kept = copy_weights(players.average)

    def score(self, images: Images) -> dict[str, float]:
        """Score (N, H, W, C) uint8 samples.

        Returns:
            `passing`: share that screening would pass; `diversity`: their spread beside that
            of the real images, at most 1; `score`: the product, where `ENOUGH` counts as all.
        """
        passes = np.ones(len(images), dtype=bool)
        for recognise in self.recognisers:
            probability, _ = recognise(images)
            passes &= probability[:, self.class_id] > ScreenConfig().min_confidence
        distance, _ = self.neighbours(images)
        passes &= distance >= self.threshold
        passing, diversity = float(passes.mean()), 0.0
        if passes.any():
            diversity = min(1.0, spread(self._features(images[passes])) / max(self.real_spread, 1e-9))
        return {"score": min(1.0, passing / ENOUGH) * diversity, "passing": passing, "diversity": diversity}

    def _features(self, images: Images) -> Floats:
        """(N, F) what the first classifier sees in images; their pixels when there is none."""
        if self.recognisers:
            return self.recognisers[0](images)[1]
        return images.reshape(len(images), -1).astype(np.float32)


def spread(features: Floats) -> float:
    """Mean distance between two different rows of (N, F) features; 0 for fewer than two rows.

    >>> spread(np.array([[0.0], [3.0]], np.float32))
    3.0
    """
    if len(features) < 2:
        return 0.0
    gaps = torch.nn.functional.pdist(torch.from_numpy(np.ascontiguousarray(features)))
    return float(gaps.mean())


def load_judge(
    classifiers: Path,
    train_data: LabelledImages,
    reals: Reals,
    class_id: int,
    spec: NetworkSpec,
    steps: int,
    seed: int,
) -> Judge:
    """Make the judge of a class with the screening classifiers of a folder.

    Args:
        classifiers: Folder that `train_classifiers` left.
        train_data: Real training images, of all classes.
        reals: The same on the device.
        class_id: The class to judge.
        spec: Of the generator that is judged.
        steps: Steps of training, over which the looks are spread.
        seed: Chooses latents and exemplars.
    """
    return Judge(
        _recognisers(classifiers, str(reals.images.device)), train_data, reals, class_id, spec, steps, seed
    )


def _recognisers(folder: Path, device: str) -> list[Recogniser]:
    return [partial(predict, model) for model in load_classifiers(folder, device)]
