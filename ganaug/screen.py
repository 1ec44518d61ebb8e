"""Keep the synthetic images that help: of the right class, and no copies of anything.

Each image is rejected for one reason, the first that applies in the order of `REASONS`, so
that the counts add up. Only real training images and classifiers trained on them are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from ganaug.config import ScreenConfig
from ganaug.dataset import ClassIds, Images, LabelledImages
from ganaug.errors import DatasetError, ModelError
from ganaug.progress import Progress, silent

REASONS = ("wrong label", "low confidence", "copy of a real image", "copy of a synthetic image")
"""Why an image is rejected, in the order in which it is asked."""
EXAMPLES_PER_REASON = 16
SCREENED_FILE = "screened.parquet"
KEPT_FILE = "kept.npy"
REJECTED_FILE, REJECTED_INDEX_FILE = "rejected.npy", "rejected.parquet"
BATCH = 512
"""Images that are looked at together: flat memory, however many there are."""
AUTO_SHARE = 0.35
"""`auto`: the copy distance as a share of the typical distance between real neighbours."""
AUTO_SAMPLE = 2000
"""Real images that the typical distance is taken from."""

Floats = npt.NDArray[np.float32]


class Session(Protocol):
    """What is used of an ONNX Runtime session."""

    def run(self, output_names: Sequence[str] | None, input_feed: dict[str, Any]) -> Sequence[Any]:
        """Run the graph."""


def screen_class(
    images: Iterable[Images],
    manifest: pd.DataFrame,
    class_id: int,
    real: LabelledImages,
    classifiers: Sequence[Session | Path],
    config: ScreenConfig,
    folder: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Screen the synthetic images of one class.

    Args:
        images: Shards, each (n, H, W, C) uint8, in the order of `manifest`.
        manifest: One row per synthetic image; its columns are carried over.
        class_id: The class that the images are to show.
        real: The real training images, of all classes.
        classifiers: ONNX Runtime sessions, or paths of graphs: `image` uint8 (N, H, W, C) to
            `probability` float32 (N, K). All must agree with the label.
        config: The screening settings.
        folder: Gets `screened.parquet`, `kept.npy`, `rejected.npy` and `rejected.parquet`.
        progress: Told the images done and to do.

    Returns:
        The summary: `made`, `kept`, `rejected` (count by reason), `right_label_rate` (share of
        images that all classifiers call by the label, with whatever confidence), `min_distance`.

    Raises:
        DatasetError: Images and manifest do not fit, or there are no real images.
        ModelError: A classifier is missing or cannot be loaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sessions = [_open(item) if isinstance(item, Path) else item for item in classifiers]
    threshold = copy_distance(real) if config.min_distance == "auto" else float(config.min_distance)
    reals, kept = RealNeighbours(real.images), _Kept(threshold)
    nothing = np.zeros((0, *real.images.shape[1:]), np.uint8)
    rows = [_judge(nothing, class_id, [], config, reals, kept, threshold)]
    examples: dict[str, list[Images]] = {reason: [] for reason in REASONS}
    example_rows: dict[str, list[int]] = {reason: [] for reason in REASONS}
    done = 0
    for batch in _batches(images, len(manifest)):
        verdict = _judge(batch, class_id, sessions, config, reals, kept, threshold)
        for reason in REASONS:
            chosen = np.flatnonzero(verdict["reason"].to_numpy() == reason)
            chosen = chosen[: EXAMPLES_PER_REASON - len(example_rows[reason])]
            examples[reason] += list(batch[chosen][:, None])
            example_rows[reason] += (chosen + done).tolist()
        rows.append(verdict)
        done += len(batch)
        progress(done, len(manifest))
    if done != len(manifest):
        raise DatasetError(
            f"the shards hold {done} images and the manifest {len(manifest)}; produce them again"
        )
    screened = pd.concat([manifest.reset_index(drop=True), pd.concat(rows, ignore_index=True)], axis=1)
    _write(folder, screened, kept.images(real.images.shape[1:]), examples, example_rows)
    return _summary(screened, threshold)


def copy_distance(real: LabelledImages) -> float:
    """The distance below which two images count as copies, from the real images themselves.

    Real images of one class that are each other's nearest neighbours are the closest that
    different images come; a synthetic image much closer than they typically are is a copy.

    Args:
        real: Real training images.

    Returns:
        `AUTO_SHARE` of the median distance from a real image to its nearest neighbour of the
        same class: root mean square difference of pixels in 0..1.

    Raises:
        DatasetError: There are no real images.
    """
    if not len(real):
        raise DatasetError("screening needs real training images to compare with, and there are none")
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(real))[:AUTO_SAMPLE]
    class_ids = real.class_ids[chosen]
    nearest: list[Floats] = []
    for class_id in np.unique(class_ids):
        images = np.ascontiguousarray(real.images[chosen[class_ids == class_id]])
        if len(images) > 1:
            distances = pairwise_distances(images, images)
            np.fill_diagonal(distances, np.inf)
            nearest.append(distances.min(axis=1))
    if not nearest:
        return 0.02
    return float(AUTO_SHARE * np.median(np.concatenate(nearest)))


def pairwise_distances(left: Images, right: Images) -> Floats:
    """(N, M) root mean square differences between two sets of uint8 images, pixels in 0..1.

    >>> black, white = np.zeros((1, 8, 8, 1), np.uint8), np.full((1, 8, 8, 1), 255, np.uint8)
    >>> pairwise_distances(black, white).tolist()
    [[1.0]]
    """
    a, b = _flat(left), _flat(right)
    return _distances(a, _squares(a), b, _squares(b))


class RealNeighbours:
    """Finds the nearest real image of each synthetic one, and whether it is that image moved a little."""

    SHORTLIST = 3
    """Real images that are compared again with small shifts; comparing all would cost nine times as much."""
    SHIFT_FROM_PX = 16
    """In smaller images one pixel is no small shift."""
    BLOCK = 8192
    """Real images whose distances are held at a time."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __call__(self, batch: Images) -> tuple[Floats, ClassIds]:
        """Nearest real images.

        Args:
            batch: (N, H, W, C) uint8.

        Returns:
            (N,) distances, root mean square of pixels in 0..1, and (N,) rows of the real images.
        """
        a = _flat(batch)
        a_squares = _squares(a)
        distances = np.empty((len(batch), 0), np.float32)
        rows = np.empty((len(batch), 0), np.int64)
        for start in range(0, len(self.images), self.BLOCK):
            b = _flat(self.images[start : start + self.BLOCK])
            block = _distances(a, a_squares, b, _squares(b))
            distances = np.concatenate([distances, block], axis=1)
            numbers = np.broadcast_to(np.arange(start, start + len(b)), block.shape)
            rows = np.concatenate([rows, numbers], axis=1)
            order = np.argpartition(distances, min(self.SHORTLIST, distances.shape[1]) - 1, axis=1)
            order = order[:, : self.SHORTLIST]
            distances = np.take_along_axis(distances, order, axis=1)
            rows = np.take_along_axis(rows, order, axis=1)
        if min(batch.shape[1:3]) >= self.SHIFT_FROM_PX:
            distances = np.minimum(distances, self._shifted(batch, rows))
        best = distances.argmin(axis=1)[:, None]
        return np.take_along_axis(distances, best, 1)[:, 0], np.take_along_axis(rows, best, 1)[:, 0]

    def _shifted(self, batch: Images, rows: ClassIds) -> Floats:
        """(N, SHORTLIST) distances at the best shift of up to one pixel, over what both show."""
        height, width = batch.shape[1:3]
        best = np.full(rows.shape, np.inf, np.float32)
        inner = _unit(batch[:, 1:-1, 1:-1])
        for column in range(rows.shape[1]):
            found = _unit(self.images[rows[:, column]])
            for y in range(3):
                for x in range(3):
                    moved = found[:, y : y + height - 2, x : x + width - 2]
                    gap = np.sqrt(np.square(inner - moved).mean(axis=(1, 2, 3)))
                    best[:, column] = np.minimum(best[:, column], gap)
        return best


class _Kept:
    """The images kept so far, against which the next ones are compared."""

    BLOCK = 4096

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.parts: list[Images] = []

    def add(self, batch: Images, candidates: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Keep the candidates that copy none kept before, in order.

        Returns:
            (N,) True for candidates that are copies.
        """
        rows = np.flatnonzero(candidates)
        is_copy = np.zeros(len(batch), dtype=bool)
        if not len(rows):
            return is_copy
        images = batch[rows]
        near = np.zeros(len(rows), dtype=bool)
        for part in self.parts:
            near |= (pairwise_distances(images, part) < self.threshold).any(axis=1)
        among = pairwise_distances(images, images) < self.threshold
        # One after another, because an image that is rejected rejects no other.
        accepted = ~near
        for i in np.flatnonzero(accepted):
            if among[i, :i][accepted[:i]].any():
                accepted[i] = False
        is_copy[rows[~accepted]] = True
        self._append(images[accepted])
        return is_copy

    def images(self, shape: tuple[int, ...]) -> Images:
        """(n, H, W, C) uint8, all that were kept, in order."""
        return np.concatenate([*self.parts, np.zeros((0, *shape), np.uint8)])

    def _append(self, images: Images) -> None:
        # Few large parts: a product with many small ones would be slow.
        if self.parts and len(self.parts[-1]) + len(images) <= self.BLOCK:
            self.parts[-1] = np.concatenate([self.parts[-1], images])
        elif len(images):
            self.parts.append(images)


def _judge(
    batch: Images,
    class_id: int,
    sessions: Sequence[Session],
    config: ScreenConfig,
    reals: RealNeighbours,
    kept: _Kept,
    threshold: float,
) -> pd.DataFrame:
    """One row per image: kept, reason, confidence, right_label, real_distance, nearest_real."""
    right, confidence = _agreement(batch, class_id, sessions)
    distance, nearest = reals(batch)
    reason = np.full(len(batch), "", dtype=object)
    reason[distance < threshold] = REASONS[2]
    # Earlier reasons overwrite later ones; REASONS gives the order.
    reason[confidence < config.min_confidence] = REASONS[1]
    reason[~right] = REASONS[0]
    reason[kept.add(batch, reason == "")] = REASONS[3]
    return pd.DataFrame(
        {
            "kept": reason == "",
            "reason": reason,
            "confidence": confidence,
            "right_label": right,
            "real_distance": distance,
            "nearest_real": nearest,
        }
    )


def _agreement(
    batch: Images, class_id: int, sessions: Sequence[Session]
) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Whether all classifiers say the class, and the least probability that one of them gives it."""
    right = np.ones(len(batch), dtype=bool)
    confidence = np.ones(len(batch), dtype=np.float32)
    for session in sessions:
        probability = np.asarray(session.run(["probability"], {"image": batch})[0], dtype=np.float32)
        right &= probability.argmax(axis=1) == class_id
        confidence = np.minimum(confidence, probability[:, class_id])
    return right, confidence


def _batches(shards: Iterable[Images], expected: int) -> Iterable[Images]:
    seen = 0
    for shard in shards:
        for start in range(0, len(shard), BATCH):
            batch = np.ascontiguousarray(shard[start : start + BATCH])
            seen += len(batch)
            if seen > expected:
                raise DatasetError(
                    f"the shards hold more images than the {expected} of the manifest; produce them again"
                )
            yield batch


def _write(
    folder: Path,
    screened: pd.DataFrame,
    kept: Images,
    examples: dict[str, list[Images]],
    example_rows: dict[str, list[int]],
) -> None:
    rejected = [image for reason in REASONS for image in examples[reason]]
    rows = [row for reason in REASONS for row in example_rows[reason]]
    np.save(folder / KEPT_FILE, kept)
    np.save(folder / REJECTED_FILE, np.concatenate([*rejected, kept[:0]]))
    screened.iloc[rows].to_parquet(folder / REJECTED_INDEX_FILE, index=False)
    screened.to_parquet(folder / SCREENED_FILE, index=False)


def _summary(screened: pd.DataFrame, threshold: float) -> dict[str, Any]:
    counts = screened["reason"].value_counts()
    return {
        "made": len(screened),
        "kept": int(screened["kept"].sum()),
        "rejected": {reason: int(counts.get(reason, 0)) for reason in REASONS},
        "right_label_rate": round(float(screened["right_label"].mean()), 4) if len(screened) else 0.0,
        "min_distance": round(threshold, 5),
    }


def _open(path: Path) -> Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session: Session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(f"the classifier {path} cannot be loaded ({error}); export it again") from error
    return session


def _unit(images: Images) -> Floats:
    return images.astype(np.float32) / np.float32(255)


def _flat(images: Images) -> Floats:
    return _unit(images).reshape(len(images), int(np.prod(images.shape[1:])))


def _squares(flat: Floats) -> Floats:
    squares: Floats = np.einsum("nd,nd->n", flat, flat)
    return squares


def _distances(a: Floats, a_squares: Floats, b: Floats, b_squares: Floats) -> Floats:
    squares: Floats = a_squares[:, None] + b_squares[None, :] - 2 * (a @ b.T)
    # Rounding can take the square of a tiny distance below zero.
    distances: Floats = np.sqrt(np.maximum(squares, 0) / a.shape[1])
    return distances
