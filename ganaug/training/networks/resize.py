"""Bilinear resizing of maps, on a GPU not by torch's own kernel where maps are small."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

MOST_WEIGHTS = 2**18
"""Places before times places after, up to which a GPU resizes by one matrix product: 16 to 32 px.

Its own kernel gives a thread to each place and has it loop over all channels of all images: three of
those were 10 of the 16 ms that an H100 needed for a step of `long-tail` (docs/throughput.md).
"""

Size = tuple[int, int]


def resize(maps: Tensor, size: Size) -> Tensor:
    """(N, C, H, W) maps to (N, C, *size), as torch's bilinear `interpolate` without aligned corners."""
    height, width = maps.shape[2:]
    if maps.is_cuda and height * width * math.prod(size) <= MOST_WEIGHTS:
        return by_matrix(maps, size)
    return interpolate(maps, size=size, mode="bilinear", align_corners=False)


def by_matrix(maps: Tensor, size: Size) -> Tensor:
    """The same by one matrix product, each place after being a mean of places before."""
    height, width = maps.shape[2:]
    weights = _weights((height, width), size, maps.device).to(maps.dtype)
    return (maps.flatten(2) @ weights).view(*maps.shape[:2], *size)


@cache
@torch.inference_mode(False)
def _weights(before: Size, after: Size, device: torch.device) -> Tensor:
    """(H * W, H' * W') how much each place before counts for each place after."""
    places = torch.eye(math.prod(before), device=device).view(-1, 1, *before)
    return interpolate(places, size=after, mode="bilinear", align_corners=False).flatten(1)
