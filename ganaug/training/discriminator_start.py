"""A classifier that starts from what a GAN's discriminator has learned to see.

The discriminator has looked at every real image and at all that the generator made; its layers
below the score become the classifier's, its score is replaced by a head for the classes, and all
of it is trained on.

Source:
    Radford et al. 2016, section 5.1, arXiv:1511.06434 (a discriminator's features for classifying).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from ganaug.errors import ModelError
from ganaug.training.checkpoint import load_tensors
from ganaug.training.classifiers.network import Network
from ganaug.training.networks import NETWORKS, build_discriminator
from ganaug.training.networks.conditioning import ClassEmbedding, NetworkSpec
from ganaug.training.networks.ensemble import Ensemble, LowResolution, low_size
from ganaug.training.players import DISCRIMINATOR_FILE
from ganaug.training.regularizers import apply_spectral_norm


class Trunk(nn.Module):
    """A discriminator below its score: features of an image of which no class is known.

    Where it wants a class vector it gets the zero one, the mean of those that it began with;
    where it wants an exemplar, the image itself.

    Args:
        spec: What it was built from.
        discriminator: One, or an `Ensemble`, whose members' features stand side by side.

    Attributes:
        feature_count: F.
    """

    def __init__(self, spec: NetworkSpec, discriminator: nn.Module) -> None:
        super().__init__()
        self.image_shape = spec.image_shape
        self.takes_exemplar = NETWORKS[spec.network].kind == "exemplar-conditional"
        self.discriminator = discriminator
        for module in discriminator.modules():
            if isinstance(module, ClassEmbedding):
                # At strength 0 every class has the zero vector.
                module.strength.zero_()
        shape = (1, spec.image_shape[2], *spec.image_shape[:2])
        is_training = self.training
        with torch.no_grad():
            self.feature_count = self.eval()(torch.zeros(shape)).shape[1]
        self.train(is_training)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float in [-1, 1] to (N, F)."""
        no_class = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        condition = images if self.takes_exemplar else no_class
        judge = self.discriminator
        members = list(judge.members) if isinstance(judge, Ensemble) else [judge]
        return torch.cat([_features(member, images, condition) for member in members], dim=1)


def _features(member: nn.Module, images: Tensor, condition: Tensor) -> Tensor:
    if isinstance(member, LowResolution):
        height, width = images.shape[2:]
        images, member = adaptive_avg_pool2d(images, low_size(height, width, member.px)), member.member
    features: Tensor = member.features(images, condition)  # type: ignore[operator]
    return features


class StartedClassifier(Network):
    """A discriminator's trunk with a new head; used as `classifier.Classifier` is.

    Args:
        trunk: Trained on with the head.
        n_classes: Number of classes, K.
        rng: Where the head's initial weights come from.
    """

    def __init__(self, trunk: Trunk, n_classes: int, *, rng: torch.Generator) -> None:
        super().__init__()
        self.image_shape, self.n_classes = trunk.image_shape, n_classes
        self.feature_count = trunk.feature_count
        self.trunk = trunk
        # Without torch's own draw, which would come from the global generator.
        self.head: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, trunk.feature_count, n_classes
        )
        nn.init.normal_(self.head.weight, std=0.01, generator=rng)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Classify.

        Args:
            images: (N, C, H, W) float in [-1, 1].

        Returns:
            (N, K) logits and (N, F) features.
        """
        features: Tensor = self.trunk(images)
        return self.head(features), features


def has_discriminator(folder: Path | None) -> bool:
    """Whether training left one in this folder that a classifier can start from."""
    return folder is not None and (folder / DISCRIMINATOR_FILE).is_file()


def load_discriminator(folder: Path) -> Trunk:
    """Load the discriminator that a GAN's training kept, as a trunk in training mode.

    Args:
        folder: That `train_base` left, with `discriminator.safetensors`.

    Raises:
        ModelError: The file is missing or damaged.
    """
    path = folder / DISCRIMINATOR_FILE
    if not has_discriminator(folder):
        raise ModelError(f"{folder} keeps no discriminator; train with `--train.keep-discriminator true`")
    tensors, header = load_tensors(path)
    try:
        tree = header["spec"]
        shape, class_ids = tuple(tree["image_shape"]), tuple(tree["class_ids"])
        spec = NetworkSpec(**{**tree, "image_shape": shape, "class_ids": class_ids})
        # Initial weights come from torch's global generator and are overwritten: leave it as it was.
        with torch.random.fork_rng(devices=[]):
            discriminator = build_discriminator(spec, header["discriminators"])
            if any("parametrizations" in name for name in tensors):
                apply_spectral_norm(discriminator)
        discriminator.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} is no discriminator ({error}); run `ganaug train` again") from error
    return Trunk(spec, discriminator)
