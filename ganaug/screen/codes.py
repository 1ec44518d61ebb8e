"""Codes of images: 24 bytes that say how alike two images are at best.

A code is the projection of the pixels on the first principal components of real images,
rounded. No two images are nearer than their codes, rounding apart, so that what is far in
codes need not be compared pixel by pixel. The arithmetic is exact (integers held in double
precision), so that an image has one code, however it is batched and on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganaug.dataset import Images, LabelledImages
from ganaug.screen.looks import CODE_BYTES, Codes
from ganaug.screen.pixels import SHIFT_FROM_PX, SHIFTS, Floats, flat

SAMPLE_IMAGES, SAMPLE_PIXELS = 5000, 2**27
"""Real images, and pixels of them, that the components are taken from."""
SPAN = 100
"""The real image that lies farthest out has a code of this size; the bytes hold a quarter more."""
ROUNDING = float(np.sqrt(CODE_BYTES))
"""The most, in code units, by which rounding two codes takes them apart."""


@dataclass(frozen=True)
class Coder:
    """Gives images their codes.

    Attributes:
        basis: (D, CODE_BYTES) int16, the components, times `scale`.
        centre: (CODE_BYTES,) what the mean real image gives, in units of the basis.
        scale: Length of a component in `basis`.
        step: Distance, as the length of a difference of pixels in 0..1, of one code unit.
    """

    basis: npt.NDArray[np.int16]
    centre: npt.NDArray[np.float64]
    scale: float
    step: float

    def __call__(self, images: Images) -> Codes:
        """(N, CODE_BYTES) int8 codes of (N, H, W, C) uint8 images."""
        pixels = images.reshape(len(images), self.basis.shape[0]).astype(np.float64)
        projected = (pixels @ self._matrix - self.centre) / (255.0 * self.scale * self.step)
        return np.clip(np.rint(projected), -127, 127).astype(np.int8)

    @property
    def _matrix(self) -> npt.NDArray[np.float64]:
        # Converted once; a frozen dataclass lets nothing else be set.
        if "_double" not in self.__dict__:
            object.__setattr__(self, "_double", self.basis.astype(np.float64))
        matrix: npt.NDArray[np.float64] = self.__dict__["_double"]
        return matrix


def fit_coder(real: LabelledImages) -> Coder:
    """Take the components from real images.

    Args:
        real: Real training images of all classes.

    Returns:
        The coder; with fewer than 25 real images, random directions complete the components.
    """
    n_pixels = int(np.prod(real.images.shape[1:]))
    count = min(len(real), SAMPLE_IMAGES, max(2, SAMPLE_PIXELS // n_pixels))
    rows = np.sort(np.random.default_rng(0).permutation(len(real))[:count])
    pixels = flat(real.images[rows])
    mean = pixels.mean(axis=0)
    components = _components(pixels, min(CODE_BYTES, n_pixels))
    scale = 32767.0 / max(float(np.abs(components).max()), 1e-9)
    basis = np.zeros((n_pixels, CODE_BYTES), np.int16)
    basis[:, : len(components)] = np.rint(components.T * scale)
    farthest = float(np.abs((pixels - mean) @ components.T).max())
    # A lone real image says nothing of how far images lie apart.
    step = max(farthest, 0.05 * float(np.sqrt(n_pixels))) / SPAN
    return Coder(basis, 255.0 * mean.astype(np.float64) @ basis.astype(np.float64), scale, step)


def _components(pixels: Floats, count: int) -> Floats:
    """(count, D) orthonormal directions, the principal components first."""
    from sklearn.decomposition import PCA

    found = min(count, len(pixels) - 1)
    components = np.empty((0, pixels.shape[1]), np.float32)
    if found:
        components = PCA(found, svd_solver="randomized", random_state=0).fit(pixels).components_
    others = np.random.default_rng(0).normal(size=(count - found, pixels.shape[1]))
    directions, _ = np.linalg.qr(np.concatenate([components, others]).T)
    orthonormal: Floats = directions.T.astype(np.float32)
    return orthonormal


def shifted_codes(images: Images, coder: Coder) -> Codes:
    """(N, S, CODE_BYTES) codes of images as they are and moved by a pixel; S is 1 below 16 px.

    Args:
        images: (N, H, W, C) uint8.
        coder: Gives the codes.
    """
    if min(images.shape[1:3]) < SHIFT_FROM_PX:
        return coder(images)[:, None]
    height, width = images.shape[1:3]
    # What comes in at the edge is unknown; the edge repeated is the likeliest.
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    moved = [coder(padded[:, 1 + y : 1 + y + height, 1 + x : 1 + x + width]) for y, x in SHIFTS]
    return np.stack(moved, axis=1)
