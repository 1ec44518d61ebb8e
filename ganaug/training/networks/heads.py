"""What the class-conditional discriminators have in common: how they see the class, how they score."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ganaug.training.networks.conditioning import ClassEmbedding, NetworkSpec


class Head(nn.Module):
    """Features to a score, by the spec's conditioning.

    Projection adds how well the features fit the class; with "classes" the score is the log
    odds of being real among K classes and "fake".

    Source:
        Miyato & Koyama 2018, arXiv:1802.05637, equation 3 (projection); Odena 2016,
        arXiv:1606.01583 (K + 1 outputs).
    """

    def __init__(self, spec: NetworkSpec, feature_count: int) -> None:
        super().__init__()
        count = len(spec.class_ids)
        self.tells_classes = spec.conditioning == "classes"
        self.score = nn.Linear(feature_count, count + 1 if self.tells_classes else 1)
        self.project: ClassEmbedding | None = None
        if spec.conditioning in ("projection", "normalisation"):
            self.project = ClassEmbedding(count, feature_count)
            # The class counts for nothing at first: what is real is learned from all classes.
            nn.init.zeros_(self.project.table)

    def forward(self, features: Tensor, class_index: Tensor) -> Tensor:
        """(N, F) and (N,) class positions to (N,) scores; higher means more real."""
        logits: Tensor = self.score(features)
        if self.tells_classes:
            return real_log_odds(logits)
        score = logits.squeeze(1)
        if self.project is None:
            return score
        fits: Tensor = (self.project(class_index) * features).sum(1) / math.sqrt(features.shape[1])
        return score + fits

    def classify(self, features: Tensor) -> Tensor:
        """(N, F) to (N, K + 1) logits of the classes and, last, of "fake"."""
        assert self.tells_classes, 'only a discriminator built with conditioning "classes" classifies'
        logits: Tensor = self.score(features)
        return logits


class ClassPlane(nn.Module):
    """Lays the class beside the image, as one more channel.

    Source:
        Mirza & Osindero 2014, arXiv:1411.1784, section 3.2.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.size = spec.image_shape[:2]
        self.embed = ClassEmbedding(len(spec.class_ids), spec.z_dim)
        self.draw = nn.Linear(spec.z_dim, math.prod(self.size), bias=False)

    def forward(self, images: Tensor, class_index: Tensor) -> Tensor:
        """(N, C, H, W) and (N,) class positions to (N, C + 1, H, W)."""
        plane = self.draw(self.embed(class_index)).view(-1, 1, *self.size)
        return torch.cat([images, plane], dim=1)


def class_plane(spec: NetworkSpec) -> ClassPlane | None:
    """The plane that convolutions see beside the image; None unless conditioning is "embedding"."""
    return ClassPlane(spec) if spec.conditioning == "embedding" else None


def class_vector(spec: NetworkSpec) -> ClassEmbedding | None:
    """What perceptrons see beside the pixels; None unless conditioning is "embedding"."""
    return ClassEmbedding(len(spec.class_ids), spec.z_dim) if spec.conditioning == "embedding" else None


def real_log_odds(logits: Tensor) -> Tensor:
    """(N, K + 1) logits, "fake" last, to (N,) log odds of being real, of whichever class.

    >>> real_log_odds(torch.tensor([[0.0, 0.0, 0.0]])).exp().round(decimals=3).tolist()
    [2.0]
    """
    return logits[:, :-1].logsumexp(dim=1) - logits[:, -1]
