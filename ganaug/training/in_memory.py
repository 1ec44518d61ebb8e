"""GANs on arrays: images or rows of a table in, a generator that stays in memory out.

For callers that keep no run folder, as the sampler for imbalanced-learn does. What is trained is
the base GAN of all classes (`gans.train_base` for images); its checkpoints lie in a temporary
folder until it is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ganaug.config import ExportConfig, TrainConfig
from ganaug.dataset import ClassIds, Images, LabelledImages
from ganaug.errors import ModelError, SettingsError, UnknownClassError
from ganaug.generate import Generator
from ganaug.latents import draw
from ganaug.training.device import resolve_device
from ganaug.training.export import export_module
from ganaug.training.games import make_game
from ganaug.training.gans import train_base
from ganaug.training.loop import train
from ganaug.training.networks import NETWORKS, load_generator
from ganaug.training.networks.conditioning import ConditionalGenerator, NetworkSpec, to_uint8
from ganaug.training.networks.presets import SMALL_PX, resolve
from ganaug.training.players import make_players
from ganaug.training.rows import Ranks, RowReals, Table, finish_row_generator

CHUNK = 256
ROW_STEPS, ROW_WIDTH = 300, 64
"""What `auto` means for rows: for `pair` more of either gained nothing, in the mean of both classifiers
(tests/benchmarks/row_samplers.py)."""
SMALL_STEPS, LARGE_STEPS = 600, 400
"""What `train.steps: auto` means for images below 16 px and from there: less than in a run, where the
GAN is trained once and not in each fold of a cross-validation."""


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator as training left it, on the CPU; it pickles with all that it needs.

    Attributes:
        module: Makes (N, C, H, W) in [-1, 1] of latents and class ids.
        class_names: Name of each class id.
        trained_on: Real images or rows that it was given, per class name.
        summary: What the training says of itself: recipe, steps, settings, findings.
        ranks: What turns its rows into values of a table; None where it makes images.
    """

    module: ConditionalGenerator
    class_names: tuple[str, ...]
    trained_on: dict[str, int]
    summary: dict[str, Any]
    ranks: Ranks | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels); a row of d features is (1, 1, d)."""
        return self.module.image_shape

    def sample(
        self,
        classes: str | Sequence[str],
        count: int | Sequence[int] = 16,
        *,
        seed: int = 0,
        start: int = 0,
    ) -> Images | Table:
        """Make images or rows of one class, or of several, one class after the other.

        Args:
            classes: A class name, or several; a name that comes again goes on where it ended.
            count: How many of each class; one number, or one for each of `classes`.
            seed: With class and index it determines every sample, but for rounding.
            start: Index of the first sample of each class.

        Returns:
            (N, H, W, C) uint8 images, or (N, d) float64 rows.

        Raises:
            UnknownClassError: A class that it was not trained on.
            SettingsError: A count, seed or start that cannot be used.
        """
        names = [classes] if isinstance(classes, str) else list(classes)
        counts = [int(count)] * len(names) if isinstance(count, (int, np.integer)) else list(count)
        unknown = set(names) - set(self.class_names)
        if unknown:
            raise UnknownClassError(unknown, self.class_names, "trained in memory")
        if len(counts) != len(names):
            raise SettingsError([f"sample: {len(names)} classes with {len(counts)} counts"])
        nexts, made = dict.fromkeys(names, start), []
        with one_thread() if self.ranks is not None else contextlib.nullcontext():
            for name, number in zip(names, counts, strict=True):
                made.append(self._make(self.class_names.index(name), number, seed, nexts[name]))
                nexts[name] += number
        pixels = torch.cat(made)
        if self.ranks is not None:
            return self.ranks.values(pixels.flatten(1).numpy())
        images: Images = to_uint8(pixels).permute(0, 2, 3, 1).contiguous().numpy()
        return images

    def save(self, folder: Path | str) -> Generator:
        """Export it to a model folder, from which `ganaug.load` opens it without torch.

        Returns:
            The opened model.

        Raises:
            ModelError: It makes rows, or its images have another number of channels than 1, 3 or 4.
            ParityError: The exported graph does not make the images that torch makes.
            OutputError: The folder cannot be written.
        """
        if self.ranks is not None:
            raise ModelError("a generator of rows is no image model; pickle it, or the sampler that holds it")
        export_module(
            self.module,
            Path(folder),
            ExportConfig(),
            class_names=self.class_names,
            dataset_sha256=self.summary["dataset_sha256"],
            trained_on=self.trained_on,
            name=Path(folder).name,
            recipe=self.module.spec.network,
            settings={name: self.summary[name] for name in ("recipe", "settings")},
        )
        return Generator.open(Path(folder), public_key=False)

    @torch.no_grad()
    def _make(self, class_id: int, count: int, seed: int, start: int) -> torch.Tensor:
        """(count, C, H, W) float32 of a class, by the latents of this seed."""
        module, exemplars = self.module, self.module.exemplar_counts
        held = 1 if exemplars is None else exemplars[module.class_ids.index(class_id)]
        z, exemplar = draw(seed, class_id, start, count, module.z_dim, held)
        inputs = [torch.from_numpy(z), torch.full((count,), class_id)]
        inputs += [] if exemplars is None else [torch.from_numpy(exemplar)]
        chunks = [[column[at : at + CHUNK] for column in inputs] for at in range(0, count, CHUNK)]
        height, width, channels = self.image_shape
        return torch.cat([torch.empty(0, channels, height, width), *(module(*chunk) for chunk in chunks)])


def train_on_images(
    images: Images, class_ids: ClassIds, class_names: Sequence[str], config: TrainConfig, device: str = "auto"
) -> TrainedGenerator:
    """Train a conditional GAN on images.

    Args:
        images: (N, H, W, C) uint8.
        class_ids: (N,) their classes.
        class_names: Name of each class id.
        config: The training settings.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        DeviceError: `cuda` was asked for and is not there.
        SettingsError: Settings that do not go together.
        TrainingError: There is nothing to learn from, or training diverged again and again.
    """
    index = pd.DataFrame({"class_id": class_ids, "group": ""})
    data = LabelledImages(images, index, tuple(class_names))
    with tempfile.TemporaryDirectory(prefix="ganaug-") as folder:
        summary = train_base(data, _for_images(config, images), Path(folder) / "base", device=device)
        module = load_generator(Path(folder) / "base")
    summary["dataset_sha256"] = hashlib.sha256(images.tobytes() + class_ids.tobytes()).hexdigest()
    return TrainedGenerator(module, data.class_names, _counts(class_ids, class_names), summary)


def train_on_rows(
    rows: Table, class_ids: ClassIds, class_names: Sequence[str], config: TrainConfig, device: str = "auto"
) -> TrainedGenerator:
    """Train a conditional GAN of perceptrons on the rows of a table.

    On a CPU it uses one thread: networks of this size gain nothing by more, and the result does
    not depend on how many there are.

    Args:
        rows: (N, d) finite values.
        class_ids: (N,) their classes.
        class_names: Name of each class id.
        config: The training settings; images alone are augmented.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        DeviceError: `cuda` was asked for and is not there.
        SettingsError: A recipe of convolutions, or settings that do not go together.
        TrainingError: There is nothing to learn from, or training diverged again and again.
    """
    device, shape = resolve_device(device), (1, 1, rows.shape[1])
    recipe, _, preset = resolve(_for_rows(config), shape, len(rows), device)
    if NETWORKS[preset.network].is_convolutional:
        raise SettingsError(
            [
                f"train.recipe: {recipe!r} is made of convolutions, and rows of a table have no neighbours; take pair or cgan"
            ]
        )
    ranks = Ranks(rows, class_ids, config.seed)
    reals = RowReals(ranks.places(rows), class_ids, device)
    spec = NetworkSpec(
        preset.network,
        shape,
        reals.class_ids,
        preset.z_dim,
        preset.width,
        conditioning=preset.conditioning,  # type: ignore[arg-type]
    )
    with one_thread(), tempfile.TemporaryDirectory(prefix="ganaug-") as folder:
        players = make_players(spec, preset, config.seed, device)
        game = make_game(NETWORKS[spec.network].kind, reals, preset)
        train(players, game, config, preset.steps, Path(folder))
    module = finish_row_generator(spec, players.average, reals)
    summary = {
        "recipe": recipe,
        "device": device,
        "steps": players.step,
        "findings": players.notes["findings"],
        "settings": asdict(preset),
    }
    return TrainedGenerator(module, tuple(class_names), _counts(class_ids, class_names), summary, ranks)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread, and then in as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _for_images(config: TrainConfig, images: Images) -> TrainConfig:
    is_small = max(images.shape[1:3]) < SMALL_PX
    chosen: dict[str, Any] = {}
    if config.steps == "auto":
        chosen["steps"] = SMALL_STEPS if is_small else LARGE_STEPS
    if is_small and "augment" not in config.model_fields_set:
        # What is trained on such images looks at single pixels: of a GAN that has seen shifted and turned
        # images a random forest learns much less (examples/imbalanced_learn.py --classifier forest).
        chosen["augment"] = False
        # Held-out images say how much to augment; without, all can be learned from.
        chosen["held_out"] = 0.0
    return config.model_copy(update=chosen)


def _for_rows(config: TrainConfig) -> TrainConfig:
    auto: dict[str, Any] = {"recipe": "pair", "steps": ROW_STEPS, "width": ROW_WIDTH}
    chosen = {name: value for name, value in auto.items() if getattr(config, name) == "auto"}
    return config.model_copy(update={**chosen, "augment": False})


def _counts(class_ids: npt.NDArray[Any], class_names: Sequence[str]) -> dict[str, int]:
    counts = Counter(class_ids.tolist())
    return {name: counts[class_id] for class_id, name in enumerate(class_names)}
