"""Keep the synthetic images that help: of the right class, like real ones, no copies, and varied.

`fit_screener` measures on real training images what an image must reach and leaves a folder
that stands alone; `Screener.open` reads it, and `for_class(...)` gives what looks at images and
decides on them. Each image is rejected for one reason, the first that applies in the order of
`REASONS`, so that the counts add up.
"""

from ganaug.screen.fitting import fit_screener
from ganaug.screen.folder import Thresholds
from ganaug.screen.looks import CODE_BYTES, REAL_COPY, REASONS, Looks
from ganaug.screen.pixels import RealNeighbours, copy_distance, pairwise_distances
from ganaug.screen.produced import (
    KEPT_FILE,
    REJECTED_FILE,
    REJECTED_INDEX_FILE,
    SCREENED_FILE,
    SCREENER,
    screen_class,
)
from ganaug.screen.screener import ClassScreen, Screener
from ganaug.screen.threads import one_blas_thread

__all__ = [
    "CODE_BYTES",
    "KEPT_FILE",
    "REAL_COPY",
    "REASONS",
    "REJECTED_FILE",
    "REJECTED_INDEX_FILE",
    "SCREENED_FILE",
    "SCREENER",
    "ClassScreen",
    "Looks",
    "RealNeighbours",
    "Screener",
    "Thresholds",
    "copy_distance",
    "fit_screener",
    "one_blas_thread",
    "pairwise_distances",
    "screen_class",
]
