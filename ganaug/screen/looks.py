"""What one look at images finds out, and the reasons for which they are rejected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

WRONG_LABEL = "wrong label"
LOW_CONFIDENCE = "low confidence"
UNREALISTIC = "unrealistic"
REAL_COPY = "copy of a real image"
SYNTHETIC_COPY = "copy of a synthetic image"
OVER_QUOTA = "over its cluster's quota"
REASONS = (WRONG_LABEL, LOW_CONFIDENCE, UNREALISTIC, REAL_COPY, SYNTHETIC_COPY, OVER_QUOTA)
"""Why an image is rejected, in the order in which it is asked; the last two depend on what was kept before."""

CODE_BYTES = 24
"""Length of an image's code, by which copies among synthetic images are found."""

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]
Reasons = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Looks:
    """What is seen in N images of one class, each for itself.

    Attributes:
        right_label: (N,) whether all classifiers call the image by its class.
        confidence: (N,) calibrated probability of its class, the least over the classifiers
            that were asked: those after one that said another class were not.
        realism: (N,) typical distance between real neighbours of the class, over the distance
            to the nearest real image of the class; in features. Near 1 for real images.
        real_distance: (N,) root mean square difference, pixels in 0..1, to `nearest_real`, which
            may lie moved by a pixel. Exact for copies; for others an upper bound (`RealCopies`).
        nearest_real: (N,) row of that real training image: the one that the image copies, or
            the nearest of those compared.
        code: (N, CODE_BYTES) what copies among synthetic images are found by.
        cluster: (N,) number of the nearest cluster of the class's real images.
        reason: (N,) the first of `REASONS` that the image gives by itself, or "".
    """

    right_label: Bools
    confidence: Floats
    realism: Floats
    real_distance: Floats
    nearest_real: npt.NDArray[np.int64]
    code: Codes
    cluster: npt.NDArray[np.int16]
    reason: Reasons

    def __len__(self) -> int:
        return len(self.reason)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """What a table keeps of it, by column: all but code and reason."""
        return {
            "confidence": self.confidence,
            "right_label": self.right_label,
            "realism": self.realism,
            "real_distance": self.real_distance,
            "nearest_real": self.nearest_real,
            "cluster": self.cluster,
        }
