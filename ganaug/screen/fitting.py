"""Making a screener: thresholds measured on real training images that classifiers had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganaug.config import ScreenConfig
from ganaug.dataset import ClassIds, LabelledImages
from ganaug.errors import DatasetError, ModelError
from ganaug.progress import Progress, silent
from ganaug.runtime import open_session
from ganaug.screen.calibration import calibrated, class_balanced, passed_by, temperature
from ganaug.screen.codes import Coder, fit_coder, shifted_codes
from ganaug.screen.folder import Thresholds, write_screener
from ganaug.screen.folds import Fold
from ganaug.screen.looks import Codes, Floats
from ganaug.screen.pixels import (
    AUTO_SHARE,
    NO_NEIGHBOURS,
    copy_distance,
    neighbour_distances,
    sampled_rows,
)
from ganaug.screen.realism import held_out_realism, typical_distances

REFERENCES = 4096
"""Real images of a class whose features are kept."""
KEEP_REALISTIC = 0.99
"""Share of held-out real images that `auto` lets pass as realistic."""
KEEP_DIFFERENT = 0.99
"""Share of held-out real images that are to lie farther from every other than a copy in features."""
MOST_CONFIDENCE = 0.9
"""`auto` asks for no more: where nearly all real images are recognised with certainty, the least
sure tenth of them is still right, and in trials it held a quarter of the rarest class."""
UNMEASURED_CONFIDENCE = 0.6
"""`auto` confidence where the folds recognised none of the real images held out."""
CLUSTER_IMAGES, MOST_CLUSTERS = 10, 16
"""Real images per cluster, and the most clusters, of a class."""
BATCH = 256


def fit_screener(
    real: LabelledImages,
    classifiers: Sequence[Path],
    folds: Sequence[Path],
    config: ScreenConfig,
    folder: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make a screener from real training images and classifiers trained on them.

    Args:
        real: The real training images, of all classes.
        classifiers: ONNX graphs: `image` uint8 (N, H, W, C) to `probability` (N, K) and
            `features` (N, F).
        folds: Files of the cross-validation (`Fold`). None are needed where the settings
            name confidence and realism themselves.
        config: The screening settings.
        folder: Gets the screener.
        progress: Told the real images looked at and to do.

    Returns:
        What was measured: `recognised` (share of held-out real images whose class the folds'
        classifiers said, classes alike) and the fields of `Thresholds`.

    Raises:
        DatasetError: There are no real images.
        ModelError: A classifier or a fold is missing, damaged or not one of ganaug's; or
            something is to be measured and there are no folds.
    """
    if not classifiers:
        raise ModelError("a screener needs at least one classifier; export them: `ganaug export`")
    held_out = _HeldOut([Fold.load(path) for path in folds], len(real.class_names))
    if not folds and "auto" in {config.min_confidence, config.min_realism}:
        raise ModelError(
            "screen.min_confidence and screen.min_realism auto are measured on held-out real images, and "
            "the classifiers left no folds; train them again, or give both settings numbers"
        )
    if not len(real):
        raise DatasetError("screening needs real training images to compare with, and there are none")
    coder = fit_coder(real)
    codes = _shifted(real, coder)
    rows = _references(real.class_ids)
    features = features_of(real, rows, classifiers[0], progress)
    class_ids = real.class_ids[rows]
    typical, overall = typical_distances(features, class_ids, len(real.class_names))
    thresholds = _thresholds(real, held_out, codes[:, 0], coder.step, overall, config)
    arrays: dict[str, npt.NDArray[Any]] = {
        "class_ids": real.class_ids,
        "codes": codes,
        "basis": coder.basis,
        "centre": coder.centre,
        "scale_step": np.array([coder.scale, coder.step]),
        "feature_rows": rows,
        "features": features,
        "typical": typical,
        **_clusters(features, class_ids),
    }
    write_screener(
        folder,
        class_names=real.class_names,
        config=config,
        thresholds=thresholds,
        graphs=classifiers,
        images=real.images,
        arrays=arrays,
    )
    measured = {name: round(value, 5) for name, value in vars(thresholds).items()}
    return {"recognised": round(held_out.recognised, 4), **measured}


class _HeldOut:
    """What the folds' classifiers say of the real images that each was trained without."""

    def __init__(self, folds: Sequence[Fold], n_classes: int) -> None:
        self.class_ids = _joined([fold.class_ids[fold.held_out] for fold in folds], np.int64)
        logits = [fold.logits[fold.held_out] for fold in folds]
        self.logits: Floats = np.concatenate([np.empty((0, n_classes), np.float32), *logits])
        parts = [held_out_realism(fold, n_classes) for fold in folds]
        self.realism: Floats = _joined([values for values, _, _ in parts], np.float32)
        self.closeness: Floats = _joined([values for _, values, _ in parts], np.float32)
        self.is_right = self.logits.argmax(axis=1) == self.class_ids
        self.is_measured = self.is_right & _joined([is_known for _, _, is_known in parts], bool)
        everything = np.ones(len(self.class_ids), bool)
        self.temperature = temperature(self.logits, self.class_ids, self._balanced(everything))

    @property
    def recognised(self) -> float:
        """Share of the images that are recognised, every class counting alike."""
        return float(self._balanced(np.ones(len(self.class_ids), bool)) @ self.is_right)

    def confidence_passed_by(self, share: float) -> float:
        """The confidence to ask for, so that a share of the images recognised reaches it.

        It is min(0.9, max {t: sum of w_i where c_i >= t is at least `share`}), over the held-out
        images i whose class is the one that their fold's classifier finds likeliest; c_i is
        softmax(logits / T) of that class, and w_i = 1 / (classes * recognised images of i's class).
        """
        if not self.is_right.any():
            return UNMEASURED_CONFIDENCE
        softmax = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        probability = calibrated(softmax / softmax.sum(axis=1, keepdims=True), self.temperature)
        own = probability[np.arange(len(probability)), self.class_ids]
        return min(MOST_CONFIDENCE, passed_by(own, self._balanced(self.is_right), share))

    def realism_passed_by(self, share: float) -> float:
        """The realism that a share of the images recognised reaches; 0 where there is none."""
        if not self.is_measured.any():
            return 0.0
        return passed_by(self.realism, self._balanced(self.is_measured), share)

    def closeness_passed_by(self, share: float) -> float:
        """The closeness to a real image that a share of the images recognised keeps."""
        if not self.is_measured.any():
            return AUTO_SHARE
        return passed_by(self.closeness, self._balanced(self.is_measured), share)

    def _balanced(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        return class_balanced(self.class_ids, chosen)


def _thresholds(
    real: LabelledImages,
    held_out: _HeldOut,
    codes: Codes,
    step: float,
    typical: float,
    config: ScreenConfig,
) -> Thresholds:
    """Measure what the settings leave `auto`.

    A distance set by hand moves all three copy distances by the same factor.

    Args:
        real: The real training images.
        held_out: What the folds say.
        codes: (N, CODE_BYTES) codes of the real images.
        step: Length, in pixels in 0..1, of one code unit.
        typical: Distance in features between real neighbours.
        config: The screening settings.
    """
    auto = copy_distance(real)
    min_distance = auto if config.min_distance == "auto" else config.min_distance
    factor = min_distance / max(auto, 1e-9)
    # Real images that are different ones may be near in features: they set how near.
    feature_share = min(AUTO_SHARE, held_out.closeness_passed_by(KEEP_DIFFERENT))
    sampled = sampled_rows(real)
    code_gaps = neighbour_distances(codes[sampled].astype(np.float32), real.class_ids[sampled])
    pixels = float(np.prod(real.images.shape[1:]))
    unmeasured = NO_NEIGHBOURS * np.sqrt(pixels) / step
    code_distance = AUTO_SHARE * np.median(code_gaps) if len(code_gaps) else unmeasured
    return Thresholds(
        temperature=held_out.temperature,
        min_confidence=(
            held_out.confidence_passed_by(config.keep_real)
            if config.min_confidence == "auto"
            else config.min_confidence
        ),
        min_realism=(
            held_out.realism_passed_by(KEEP_REALISTIC) if config.min_realism == "auto" else config.min_realism
        ),
        min_distance=float(min_distance),
        feature_distance=float(factor * feature_share * typical),
        code_distance=float(factor * code_distance),
    )


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts])


def _shifted(real: LabelledImages, coder: Coder) -> Codes:
    parts = [
        shifted_codes(np.asarray(real.images[start : start + BATCH]), coder)
        for start in range(0, len(real), BATCH)
    ]
    return np.concatenate(parts)


def _references(class_ids: ClassIds) -> ClassIds:
    """Rows of the real images whose features are kept: up to `REFERENCES` of each class."""
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(np.flatnonzero(class_ids == k))[:REFERENCES] for k in np.unique(class_ids)]
    return np.sort(np.concatenate(chosen))


def features_of(
    real: LabelledImages, rows: ClassIds, classifier: Path, progress: Progress = silent
) -> Floats:
    """(N, F) features that an exported classifier finds in these rows' images.

    Raises:
        ModelError: The classifier cannot be read, or gives no features.
    """
    try:
        content = classifier.read_bytes()
    except OSError as error:
        raise ModelError(f"the classifier {classifier} cannot be read ({error}); export it again") from error
    session = open_session(content, name=f"the classifier {classifier}", device="cpu", threads=0)
    if "features" not in {port.name for port in session.get_outputs()}:
        raise ModelError(f"the classifier {classifier} gives no features; export it again")
    parts = []
    for start in range(0, len(rows), BATCH):
        images = np.ascontiguousarray(real.images[rows[start : start + BATCH]])
        parts.append(session.run(["features"], {"image": images})[0])
        progress(min(start + BATCH, len(rows)), len(rows))
    features: Floats = np.concatenate(parts)
    return features


def _clusters(features: Floats, class_ids: ClassIds) -> dict[str, npt.NDArray[Any]]:
    """k-means clusters of each class's real images: centres, their classes, their shares."""
    from sklearn.cluster import KMeans

    centres, owners, shares = [], [], []
    for class_id in np.unique(class_ids):
        own = features[class_ids == class_id]
        wanted = int(np.clip(len(own) // CLUSTER_IMAGES, 1, MOST_CLUSTERS))
        wanted = min(wanted, len(np.unique(own, axis=0)))
        found = KMeans(wanted, n_init=4, random_state=0).fit(own)
        centres.append(found.cluster_centers_.astype(np.float32))
        owners.append(np.full(wanted, class_id, np.int64))
        shares.append(np.bincount(found.labels_, minlength=wanted) / len(own))
    return {
        "centres": np.concatenate(centres),
        "centre_class": np.concatenate(owners),
        "centre_share": np.concatenate(shares),
    }
