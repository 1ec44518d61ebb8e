"""Which recipe suits a dataset, and what `auto` means for each: one table, as measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ganaug.config import TrainConfig
from ganaug.errors import SettingsError
from ganaug.training.augment import Strength

SMALL_PX = 16
"""Below this, on the longer side, perceptrons train faster than convolutions and do as well."""
BALANCES = {"natural": 0.0, "square-root": 0.5, "balanced": 1.0}
"""Exponent of the class sampling by its name."""


NOTHING = Strength()


@dataclass(frozen=True)
class Preset:
    """Every number that training needs, resolved.

    Attributes:
        network: Name in `NETWORKS`.
        conditioning: How the class reaches the networks.
        loss: Name in `LOSSES`.
        regularizers: Weight of each regulariser by its name.
        penalty_every: Steps between gradient penalties, which are then so many times stronger.
        optimizer: `adam` or `sgd`.
        betas: Adam's; SGD takes none.
        learning_rate: The optimiser's step size.
        steps: Training steps of the base.
        class_steps: Training steps of each class's own GAN.
        batch: Images per step.
        ema: Decay per step of the generator's moving average.
        z_dim: Length of the latent vector.
        width: Units of an MLP layer, or channels of the widest-resolution convolution.
        balance: 1 draws all classes alike, 0 as they come, 0.5 by the square root.
        warp: Affine change of the training images themselves; pair GANs, both images alike.
        augment: What the discriminator's images go through; its share is where it begins.
        is_adaptive: Whether that share follows how far the discriminator overfits.
        discriminators: How many of them judge.
        aggregate: How their losses become one; a name in `AGGREGATES`.
        is_transitional: Whether the class counts for nothing at first and for all from half way.
        unconditional_px: Maps up to this side know no class; 0 for all maps know it.
        precision: `fp32` or `bf16`, for the forward passes; penalties are fp32 always.
    """

    network: str
    conditioning: str = "projection"
    loss: str = "relativistic"
    regularizers: Mapping[str, float] = field(default_factory=dict)
    penalty_every: int = 1
    optimizer: str = "adam"
    betas: tuple[float, float] = (0.0, 0.99)
    learning_rate: float = 1e-3
    steps: int = 2500
    class_steps: int = 400
    batch: int = 64
    ema: float = 0.998
    z_dim: int = 24
    width: int = 256
    balance: float = 1.0
    warp: Strength = NOTHING
    augment: Strength = NOTHING
    is_adaptive: bool = True
    discriminators: int = 1
    aggregate: str = "mean"
    is_transitional: bool = False
    unconditional_px: int = 0
    precision: str = "fp32"


WARP = Strength(shift=0.06, turn=0.17, zoom=0.1)
DIFFAUGMENT = Strength(shift=0.1, zoom=0.1, light=0.2, contrast=0.3, colour=0.3, cutout=0.4, share=0.7)
RESERVE = replace(DIFFAUGMENT, share=0.0)
"""Nothing at first; it comes when the discriminator overfits or the samples collapse."""

_MLP = Preset("cgan", regularizers={"r1": 0.3, "r2": 0.3}, augment=DIFFAUGMENT)
# On blood cells at 32 px, gamma 0.3 left the discriminator too flat to teach anything in 400
# steps, and 0.05 gave sharp images; a penalty every second step saves a fifth of the time.
_CONV = replace(
    _MLP,
    network="strided",
    regularizers={"r1": 0.05, "r2": 0.05},
    penalty_every=2,
    learning_rate=5e-4,
    steps=1500,
    class_steps=300,
    z_dim=64,
    width=32,
)
# On CIFAR-10's long tail the images of the rare classes stayed diverse for as long as it was trained, 4,000 steps
# (docs/gains.md).
_TAIL = replace(_CONV, is_transitional=True, unconditional_px=8, steps=4000)
_RADFORD = Preset(
    "dcgan",
    loss="non-saturating",
    regularizers={},
    betas=(0.5, 0.999),
    learning_rate=2e-4,
    steps=1500,
    class_steps=300,
    z_dim=64,
    width=32,
    augment=DIFFAUGMENT,
)
_GOODFELLOW = replace(
    _MLP,
    network="vanilla",
    conditioning="none",
    loss="non-saturating",
    regularizers={},
    betas=(0.5, 0.999),
    learning_rate=2e-4,
    augment=RESERVE,
)
PRESETS: dict[tuple[str, int], Preset] = {
    # (recipe, longer side in px up to which it holds): values
    ("vanilla", 256): _GOODFELLOW,
    ("cgan", 256): _MLP,
    ("dcgan", 256): _RADFORD,
    ("strided", 256): _CONV,
    ("sgan", SMALL_PX - 1): replace(
        _MLP, conditioning="classes", loss="non-saturating", regularizers={"r1": 0.3}
    ),
    ("sgan", 256): replace(_CONV, conditioning="classes", loss="non-saturating", regularizers={"r1": 0.1}),
    ("multi-discriminator", SMALL_PX - 1): replace(_MLP, discriminators=3, aggregate="softmax"),
    ("multi-discriminator", 256): replace(_CONV, discriminators=3, aggregate="softmax"),
    ("long-tail", SMALL_PX - 1): replace(_MLP, is_transitional=True),
    ("long-tail", 256): _TAIL,
    ("pair", SMALL_PX - 1): replace(_MLP, network="pair_mlp", warp=WARP, augment=RESERVE),
    ("pair", 256): replace(_CONV, network="pair_unet", warp=WARP, augment=RESERVE),
    ("modern", SMALL_PX - 1): replace(_CONV, network="modern", z_dim=24, width=32),
    ("modern", 256): replace(_CONV, network="modern"),
}


def choose_recipe(image_shape: tuple[int, int, int], n_images: int, device: str) -> tuple[str, str]:
    """Pick the recipe that `auto` stands for.

    Args:
        image_shape: (height, width, channels).
        n_images: Training images of all classes.
        device: `cpu` or `cuda`.

    Returns:
        The recipe's name, and why in words.

    >>> choose_recipe((8, 8, 1), 700, "cpu")[0]
    'pair'
    """
    form = "perceptrons" if max(image_shape[:2]) < SMALL_PX else "convolutions"
    return "pair", (
        f"{max(image_shape[:2])} px, {n_images} images, {device}: exemplar-conditional {form} had the best "
        "classification accuracy score of the recipes on CPU budgets (docs/recipes.md)"
    )


def resolve(
    config: TrainConfig, image_shape: tuple[int, int, int], n_images: int, device: str
) -> tuple[str, str, Preset]:
    """Replace every `auto` of the settings by its value for this dataset.

    Returns:
        The recipe, why it was taken, and its numbers.

    Raises:
        SettingsError: Settings that do not go together.
    """
    recipe, why = str(config.recipe), "asked for"
    if recipe == "auto":
        recipe, why = choose_recipe(image_shape, n_images, device)
    side = max(image_shape[:2])
    limit = min(px for name, px in PRESETS if name == recipe and side <= px)
    preset = PRESETS[recipe, limit]
    asked = {name: getattr(config, name) for name in _FIELDS if getattr(config, name) != "auto"}
    if config.sampling != "auto":
        asked["balance"] = BALANCES[config.sampling]
    if config.transitional != "auto":
        asked["is_transitional"] = config.transitional
    preset = replace(preset, batch=config.batch, ema=config.ema, **asked)
    if not config.augment:
        preset = replace(preset, warp=NOTHING, augment=NOTHING, is_adaptive=False)
    else:
        allowed = replace(preset.augment, flip=config.flips, quarter_turns=config.quarter_turns)
        preset = replace(preset, augment=allowed, is_adaptive=config.adaptive)
    _check(config, recipe, preset)
    return recipe, why, preset


_FIELDS = (
    "conditioning",
    "loss",
    "regularizers",
    "optimizer",
    "steps",
    "class_steps",
    "learning_rate",
    "z_dim",
    "width",
    "discriminators",
    "aggregate",
    "unconditional_px",
    "precision",
)
"""Settings that stand in the table under the same name."""


def _check(config: TrainConfig, recipe: str, preset: Preset) -> None:
    problems = []
    if recipe == "pair" and config.conditioning != "auto":
        problems.append(
            f"train.conditioning: {config.conditioning!r} is for classes, and a pair GAN is given a real image"
        )
    if recipe == "pair" and (preset.is_transitional or preset.unconditional_px):
        problems.append("train.transitional and train.unconditional_px: a pair GAN is given no class")
    if preset.unconditional_px and preset.network in {"vanilla", "cgan"}:
        problems.append(f"train.unconditional_px: {recipe} has no maps; take strided, dcgan or modern")
    if preset.conditioning == "classes" and preset.discriminators > 1:
        problems.append("train.discriminators: one, where the discriminator also tells classes (sgan)")
    if preset.batch % config.processes:
        problems.append(
            f"train.processes: {config.processes} do not share a batch of {preset.batch} equally; "
            f"set train.batch to a multiple"
        )
    if problems:
        raise SettingsError(problems)
