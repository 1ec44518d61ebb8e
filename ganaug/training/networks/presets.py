"""Which recipe suits a dataset, and what `auto` means for each: one table, as measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ganaug.config import TrainConfig
from ganaug.training.augment import Strength

SMALL_PX = 16
"""Below this, on the longer side, perceptrons train faster than convolutions and do as well."""


@dataclass(frozen=True)
class Preset:
    """Every number that training needs, resolved.

    Attributes:
        network: Name in `NETWORKS`.
        steps: Training steps of the base.
        class_steps: Training steps of each class's own GAN.
        batch: Images per step.
        learning_rate: Adam's step size.
        gamma: Weight of R1 and R2.
        penalty_every: Steps between penalties, which are then so many times stronger.
        ema: Decay per step of the generator's moving average.
        z_dim: Length of the latent vector.
        balance: 1 draws all classes alike, 0 as they come, 0.5 by the square root.
        width: Units of an MLP layer, or channels of the widest-resolution convolution.
        warp: Affine change of the training images themselves; pair GANs, both images alike.
        augment: What the discriminator's images go through.
    """

    network: str
    steps: int
    class_steps: int
    batch: int
    learning_rate: float
    gamma: float
    penalty_every: int
    ema: float
    z_dim: int
    width: int
    balance: float
    warp: Strength
    augment: Strength


NOTHING = Strength()
WARP = Strength(shift=0.06, turn=0.17, zoom=0.1)
DIFFAUGMENT = Strength(shift=0.1, zoom=0.1, light=0.2, contrast=0.3, cutout=0.4, share=0.7)

PAIRS = 1.0
"""Balance of the classes that pairs are drawn from. A trade on digits, measured on the rare
classes: at 1, 95 to 100 % of the images have the right label but many are alike; at 0.5 it is
37 to 97 %, at 0 31 to 61 %, of more varied images. What a classifier gained from each differed by
less than the noise of the few splits that were tried."""

_MLP = Preset("", 2500, 400, 64, 1e-3, 0.3, 1, 0.998, 24, 256, 1.0, NOTHING, NOTHING)
# On blood cells at 32 px, gamma 0.3 left the discriminator too flat to teach anything in 400
# steps, and 0.05 gave sharp images; a penalty every second step saves a fifth of the time.
_CONV = replace(
    _MLP, steps=1500, class_steps=300, learning_rate=5e-4, gamma=0.05, penalty_every=2, z_dim=64, width=32
)
PRESETS: dict[tuple[str, int], Preset] = {
    # (recipe, longer side in px up to which it holds): values
    ("cgan", 256): replace(_MLP, network="cgan", augment=DIFFAUGMENT),
    ("pair", SMALL_PX - 1): replace(_MLP, network="pair_mlp", balance=PAIRS, warp=WARP),
    ("pair", 256): replace(_CONV, network="pair_unet", balance=PAIRS, warp=WARP),
    ("dcgan", 256): replace(_CONV, network="dcgan", augment=DIFFAUGMENT),
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
    side, seen = max(image_shape[:2]), f"{n_images} images on {device}"
    if side < SMALL_PX:
        return (
            "pair",
            f"{side} px is below {SMALL_PX} ({seen}): exemplar-conditional perceptrons measured best",
        )
    return (
        "pair",
        f"{side} px is {SMALL_PX} or more ({seen}): exemplar-conditional convolutions looked best early",
    )


def resolve(
    config: TrainConfig, image_shape: tuple[int, int, int], n_images: int, device: str
) -> tuple[str, str, Preset]:
    """Replace every `auto` of the settings by its value for this dataset.

    Returns:
        The recipe, why it was taken, and its numbers.
    """
    recipe, why = str(config.recipe), "asked for"
    if recipe == "auto":
        recipe, why = choose_recipe(image_shape, n_images, device)
    side = max(image_shape[:2])
    limit = min(px for name, px in PRESETS if name == recipe and side <= px)
    preset = PRESETS[recipe, limit]
    asked = {
        name: getattr(config, name)
        for name in ("steps", "class_steps", "learning_rate", "gamma", "z_dim", "width")
        if getattr(config, name) != "auto"
    }
    preset = replace(preset, batch=config.batch, ema=config.ema, **asked)
    return recipe, why, preset if config.augment else replace(preset, warp=NOTHING, augment=NOTHING)
