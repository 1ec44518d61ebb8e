"""Several discriminators against one generator, and one that sees small images without class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d


class Ensemble(nn.Module):
    """Several discriminators that judge the same images.

    Attributes:
        members: The discriminators, each `member(images, condition)` to (N,).

    Source:
        Durugkar et al. 2017, arXiv:1611.01673 (GMAN).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        """(N, C, H, W) and their conditions to (M, N) scores, a row per member."""
        return torch.stack([member(images, condition) for member in self.members])


class LowResolution(nn.Module):
    """A discriminator that sees images averaged down, and no class.

    Rare classes have too few images to teach coarse structure; all classes together have enough.

    Attributes:
        member: Discriminator of the small images that ignores its condition.
        px: Longer side that it sees, at most.

    Source:
        Khorram et al. 2024, arXiv:2402.17065.
    """

    def __init__(self, member: nn.Module, px: int) -> None:
        super().__init__()
        self.member, self.px = member, px

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        """(N, C, H, W) and conditions, which the member ignores, to (N,) scores."""
        height, width = images.shape[2:]
        score: Tensor = self.member(adaptive_avg_pool2d(images, low_size(height, width, self.px)), condition)
        return score


def low_size(height: int, width: int, px: int) -> tuple[int, int]:
    """Height and width with the longer side at most `px`, in the same proportion.

    >>> low_size(64, 32, 16), low_size(8, 256, 16), low_size(8, 8, 16)
    ((16, 8), (1, 16), (8, 8))
    """
    share = min(1.0, px / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))
