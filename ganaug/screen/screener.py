"""The screener: looks at images of a class, in several threads, and decides on them in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ganaug.dataset import Images
from ganaug.errors import DatasetError, ModelError
from ganaug.runtime import check_ports, open_session
from ganaug.screen.calibration import calibrated
from ganaug.screen.codes import Coder
from ganaug.screen.copies import RealCopies
from ganaug.screen.folder import Contents, Thresholds, read_screener
from ganaug.screen.kept import KeptCodes, Quota, near_pairs
from ganaug.screen.looks import (
    LOW_CONFIDENCE,
    OVER_QUOTA,
    REAL_COPY,
    SYNTHETIC_COPY,
    UNREALISTIC,
    WRONG_LABEL,
    Bools,
    Codes,
    Floats,
    Looks,
    Reasons,
)
from ganaug.screen.pixels import AUTO_SHARE, euclidean, matched, squared
from ganaug.screen.realism import realism

CHUNK = 256
"""Images that are looked at together, however large the batch: flat memory, and near the processor."""


class Session(Protocol):
    """What is used of an ONNX Runtime session."""

    def run(self, output_names: Sequence[str] | None, input_feed: dict[str, Any]) -> Sequence[Any]:
        """Run the graph."""


class Screener:
    """Everything that screening needs: classifiers, real images, and thresholds measured on them.

    Attributes:
        sha256: One hash for all of it.
        class_names: Name of each class id.
        image_shape: (height, width, channels) of its images.
        config: The settings that it was made with.
        thresholds: What it measured.
    """

    def __init__(self, contents: Contents, sessions: Sequence[Session]) -> None:
        self.sha256, self.config, self.thresholds = contents.sha256, contents.config, contents.thresholds
        self.class_names, self.image_shape = contents.class_names, contents.image_shape
        self._sessions, self._arrays, self._images = sessions, contents.arrays, contents.images
        scale, step = contents.arrays["scale_step"].tolist()
        self._coder = Coder(contents.arrays["basis"], contents.arrays["centre"], scale, step)
        self._copies = RealCopies(
            contents.images,
            contents.arrays["codes"],
            step,
            contents.thresholds.min_distance,
            contents.thresholds.code_distance / AUTO_SHARE,
        )

    @classmethod
    def open(cls, folder: Path, *, device: str = "cpu", threads: int = 1) -> Screener:
        """Open the folder that `fit_screener` left.

        Args:
            folder: The screener.
            device: Where classifiers run: `cpu`, `cuda`, or `auto`, which takes a GPU that works.
            threads: Threads of one call of a classifier; 0 means one per core.

        Raises:
            ModelError: Something in it is missing, changed, or not a classifier of ganaug's.
            DeviceError: `cuda` was asked for and is not there.
        """
        contents = read_screener(Path(folder))
        ports = {
            "probability": ("tensor(float)", (len(contents.class_names),)),
            "features": ("tensor(float)", contents.arrays["features"].shape[1:]),
        }
        sessions = []
        for file, content in contents.graphs:
            name = f"the classifier {Path(folder) / file}"
            session = open_session(content, name=name, device=device, threads=threads)
            image = {"image": ("tensor(uint8)", contents.image_shape)}
            check_ports(name, "inputs", session.get_inputs(), image)
            check_ports(name, "outputs", session.get_outputs(), ports)
            sessions.append(session)
        if not sessions:
            raise ModelError(f"the screener {folder} has no classifiers; make it again with `ganaug run`")
        return cls(contents, sessions)

    def for_class(self, class_id: int) -> ClassScreen:
        """A screen for the images of one class, with nothing kept yet.

        Raises:
            ModelError: There is no such class, or no real image of it.
        """
        chosen = self._arrays["class_ids"][self._arrays["feature_rows"]] == class_id
        if not 0 <= class_id < len(self.class_names) or not chosen.any():
            raise ModelError(
                f"the screener knows no real image of class {class_id}; it has images of "
                f"{[int(one) for one in np.unique(self._arrays['class_ids'])]}. Screen other classes, or "
                "make it again from a dataset that has this one."
            )
        own = self._arrays["centre_class"] == class_id
        features = self._arrays["features"][chosen]
        middle = features.mean(axis=0)
        reals = _ClassReals(
            class_id,
            self._arrays["feature_rows"][chosen],
            middle,
            features - middle,
            float(self._arrays["typical"][class_id]),
            self._arrays["centres"][own] - middle,
            self._arrays["centre_share"][own],
        )
        return ClassScreen(self, reals)


@dataclass(frozen=True)
class _ClassReals:
    """The real images of one class, in the first classifier's features.

    These are counted from the class's middle: distances between small numbers lose less to rounding.
    """

    class_id: int
    rows: npt.NDArray[np.int64]
    middle: Floats
    features: Floats
    typical: float
    centres: Floats
    shares: npt.NDArray[np.float64]


class ClassScreen:
    """The screen for one class.

    `look` depends on the image alone and may be called from several threads. `decide` depends
    on what was kept before: one call after another, in the order of the images' indices; how
    they are batched changes nothing.
    """

    def __init__(self, screener: Screener, reals: _ClassReals) -> None:
        self.class_id = reals.class_id
        self.class_name = screener.class_names[reals.class_id]
        self.image_shape = screener.image_shape
        self.thresholds: Thresholds = screener.thresholds
        self._sessions, self._coder = screener._sessions, screener._coder
        self._copies, self._images, self._reals = screener._copies, screener._images, reals
        self._kept = KeptCodes(screener.thresholds.code_distance)
        self._quota = Quota(reals.shares, screener.config.quota)

    def look(self, images: Images) -> Looks:
        """See what can be seen in each image by itself.

        Several threads that look are faster within `one_blas_thread()`.

        Args:
            images: (N, H, W, C) uint8.

        Raises:
            DatasetError: Images of another shape or type.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            raise DatasetError(
                f"the screener is for images uint8 {self.image_shape}, and these are {images.dtype} "
                f"{images.shape[1:]}; make a screener from images of that size"
            )
        # ONNX Runtime need not take a batch of none: a blank image stands in, and is cut off again.
        batch = images if len(images) else np.zeros((1, *self.image_shape), np.uint8)
        starts = range(0, len(batch), CHUNK)
        parts = [self._look(np.ascontiguousarray(batch[start : start + CHUNK])) for start in starts]
        names = [field.name for field in fields(Looks)]
        return Looks(
            **{name: np.concatenate([getattr(part, name) for part in parts])[: len(images)] for name in names}
        )

    def decide(self, looks: Looks) -> Reasons:
        """Decide on images, in the order of their indices.

        Args:
            looks: What `look` saw in them.

        Returns:
            (N,) the first of `REASONS` that applies, or "" for an image that is kept.
        """
        reasons = looks.reason.copy()
        rows = np.flatnonzero(reasons == "")
        while len(rows):
            decided = self._decide(looks, rows[:CHUNK], reasons)
            rows = rows[decided:]
        return reasons

    def restore(self, code: Codes, cluster: npt.NDArray[np.int16]) -> None:
        """Take over what was kept before, as if it had been decided on here.

        Args:
            code: (N, CODE_BYTES) int8, of the images kept, in their order.
            cluster: (N,) their clusters.
        """
        self._kept.add(code)
        for number, count in enumerate(np.bincount(cluster, minlength=len(self._reals.shares)).tolist()):
            self._quota.add(number, count)

    def _look(self, images: Images) -> Looks:
        right, confidence, features = self._recognise(images)
        features = features - self._reals.middle
        nearest = euclidean(features, self._reals.features).argmin(axis=1)
        # Once more from the difference: exact enough to be the same in any batch.
        to_nearest = np.sqrt(squared(features - self._reals.features[nearest]))
        code = self._coder(images)
        distance, row = self._copies(images, code)
        real_copy = distance < self.thresholds.min_distance
        alike = ~real_copy & (to_nearest < self.thresholds.feature_distance)
        row[alike] = self._reals.rows[nearest[alike]]
        distance[alike] = matched(images[alike], self._images[row[alike]])
        real = realism(to_nearest, self._reals.typical)
        reason = np.full(len(images), "", dtype=object)
        # Earlier reasons overwrite later ones. "not >=": what is not a number must not pass.
        reason[real_copy | alike] = REAL_COPY
        reason[~(real >= self.thresholds.min_realism)] = UNREALISTIC
        reason[~(confidence >= self.thresholds.min_confidence)] = LOW_CONFIDENCE
        reason[~right] = WRONG_LABEL
        cluster = euclidean(features, self._reals.centres).argmin(axis=1).astype(np.int16)
        return Looks(right, confidence, real, distance, row, code, cluster, reason)

    def _recognise(self, images: Images) -> tuple[Bools, Floats, Floats]:
        """Whether all classifiers say the class, their least confidence, and the first one's features."""
        temperature, class_id = self.thresholds.temperature, self.class_id
        probability, features = self._sessions[0].run(["probability", "features"], {"image": images})
        right = probability.argmax(axis=1) == class_id
        confidence = calibrated(probability, temperature)[:, class_id]
        for session in self._sessions[1:]:
            # What one calls by another name is lost: the next ones need not look at it.
            rows = np.flatnonzero(right)
            if len(rows):
                probability = session.run(["probability"], {"image": images[rows]})[0]
                right[rows] = probability.argmax(axis=1) == class_id
                own = calibrated(probability, temperature)[:, class_id]
                confidence[rows] = np.minimum(confidence[rows], own)
        return right, confidence, features

    def _decide(self, looks: Looks, rows: npt.NDArray[np.int64], reasons: Reasons) -> int:
        """Decide on images at some rows; returns how many, fewer where older codes must be filed first."""
        codes, clusters = looks.code[rows], looks.cluster[rows].tolist()
        near = self._kept.near(codes).tolist()
        earlier = near_pairs(codes, self._kept.threshold)
        accepted: list[int] = []
        decided = 0
        for decided, row in enumerate(rows.tolist(), start=1):
            at = decided - 1
            # One after another, because an image that is rejected rejects no other.
            if near[at] or any(reasons[rows[before]] == "" for before in earlier.get(at, ())):
                reasons[row] = SYNTHETIC_COPY
            elif not self._quota.has_room(clusters[at]):
                reasons[row] = OVER_QUOTA
            else:
                accepted.append(at)
                self._quota.add(clusters[at])
                if len(accepted) == self._kept.room:
                    break
        self._kept.add(codes[accepted])
        return decided
