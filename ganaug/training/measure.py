"""How good a generator is: its images against held-out real ones, class by class and overall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ganaug.dataset import ClassIds, Images, LabelledImages
from ganaug.errors import DatasetError
from ganaug.progress import Progress, silent
from ganaug.quality.neighbourhood import compare, nearest_distances
from ganaug.screen.pixels import BATCH, RealNeighbours, copy_distance
from ganaug.training.accuracy_score import Score, accuracy_score, fill_with_real, share_of
from ganaug.training.classifier import BATCH as TRAIN_BATCH
from ganaug.training.classifier import Classifier, auto_steps, predict
from ganaug.training.features import ClassifierFeatures, frechet_distance, kernel_distance

NEIGHBOURS = 5
OVERALL = "overall"

Floats = npt.NDArray[np.float32]
Distances = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassQuality:
    """One class, or all together. What cannot be measured on so few images is None.

    Attributes:
        class_name: Its name; `overall` for all together.
        synthetic: Synthetic images.
        held_out: Held-out real images, which the synthetic ones are compared to.
        train: Real training images.
        frechet_distance: Lower is better; it falls with the number of images, too.
        kernel_distance: Lower is better; 0 on average for two draws of the same images.
        k: Neighbours of the next four.
        precision: Share of synthetic images that lie among the real ones.
        recall: Share of real images that lie among the synthetic ones.
        density: How densely real images surround the synthetic ones; about 1 is as real ones do.
        coverage: Share of real images that have a synthetic one near.
        right_label_rate: Share of synthetic images that the classifier calls by their label.
        memorisation_features: Distance to the nearest training image of the class, median over
            that of held-out images; below 1 the images are nearer than real ones are.
        memorisation_pixels: The same by root mean square difference of pixels.
        copies: Share of synthetic images nearer than `copy_distance` to a real one.
        score_recall: Recall of the classifier trained on synthetic images.
        real_score_recall: Recall of the classifier trained on real images.
        is_filled_with_real: There were no synthetic images of it to train that classifier on.
    """

    class_name: str
    synthetic: int
    held_out: int
    train: int
    frechet_distance: float | None = None
    kernel_distance: float | None = None
    k: int | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    right_label_rate: float | None = None
    memorisation_features: float | None = None
    memorisation_pixels: float | None = None
    copies: float | None = None
    score_recall: float | None = None
    real_score_recall: float | None = None
    is_filled_with_real: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Quality:
    """What was measured of a generator.

    Attributes:
        classes: A row per class, in the order of class ids.
        overall: All together. Distances, neighbourhoods and memorisation are taken over as many
            synthetic images of each class as fit the held-out images' shares of the classes.
        copy_distance: Root mean square difference of pixels below which an image is a copy.
        score: Classification accuracy score; None when it was not asked for.
        real_score: The same classifier trained on the real training images, to compare with.
        filled_with_real: Classes whose real training images stood in for synthetic ones.
    """

    classes: tuple[ClassQuality, ...]
    overall: ClassQuality
    copy_distance: float
    score: Score | None = None
    real_score: Score | None = None
    filled_with_real: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `quality.json` holds them."""
        return asdict(self)


def measure(
    synthetic: LabelledImages,
    train: LabelledImages,
    held_out: LabelledImages,
    classifier: Classifier,
    *,
    seen: LabelledImages | None = None,
    seeds: Sequence[int] = (0,),
    steps: int | None = None,
    augment: str | None = None,
    device: str = "cpu",
    progress: Progress = silent,
    with_score: bool = True,
) -> Quality:
    """Measure synthetic images against real ones, class by class and overall.

    Args:
        synthetic: Synthetic images; `class_id` in the index. Classes may be missing.
        train: Real training images.
        held_out: Real images, none of them in `train`.
        classifier: Trained on real training images; gives features and labels.
        seen: Real images that the generator trained on, for `copies`; None means `train`.
        seeds: Of the classifiers that are trained for the score.
        steps: Their training steps; None chooses by the number of images.
        augment: Strength of albumentations on their training images; None for none.
        device: `cpu` or `cuda`.
        progress: Told of the images judged and trained on.
        with_score: Train those classifiers; nearly all of the time goes there.

    Raises:
        DatasetError: A set is empty, or sets and classifier differ in classes or image size.
    """
    seen = train if seen is None else seen
    _check(classifier, synthetic=synthetic, train=train, held_out=held_out, seen=seen)
    classifier.to(device)
    extractor, threshold = ClassifierFeatures(classifier), copy_distance(seen)
    sides = [_Side.of(part, classifier) for part in (synthetic, held_out, train)]
    fakes, reals, references = sides
    trained = _trained_images(synthetic, train, seeds, steps) if with_score else 0
    judged = _stretch(progress, 0, len(synthetic), len(synthetic) + trained)
    for side in (fakes, reals):
        _fill_nearness(side, references)
    copied = fakes.pixels if seen is train else _nearest_pixels(fakes, seen.images, seen.class_ids)
    rows = []
    for class_id, name in enumerate(train.class_names):
        own = [side.take(np.flatnonzero(side.class_ids == class_id)) for side in sides]
        is_copy = copied[fakes.class_ids == class_id] < threshold
        rows.append(_row(name, own[0], own[1], own[2], is_copy, extractor))
        judged(class_id + 1, len(train.class_names) + 1)
    matched = fakes.take(matched_rows(synthetic.class_ids, held_out.class_ids))
    present = reals.take(np.flatnonzero(np.isin(reals.class_ids, matched.class_ids)))
    overall = _row(OVERALL, matched, present, references, copied < threshold, extractor)
    overall = replace(overall, synthetic=len(synthetic), right_label_rate=_rate(fakes.is_right))
    judged(1, 1)
    quality = Quality(tuple(rows), overall, threshold)
    if not with_score:
        return quality
    how = {"seeds": seeds, "steps": steps, "augment": augment, "device": device}
    return _with_score(
        quality,
        synthetic,
        train,
        held_out,
        _stretch(progress, len(synthetic), trained, len(synthetic) + trained),
        how,
    )


def _trained_images(
    synthetic: LabelledImages, train: LabelledImages, seeds: Sequence[int], steps: int | None
) -> int:
    """Images that the score's classifiers will be trained on, about: filling is not counted."""
    both = (steps or auto_steps(len(part)) for part in (synthetic, train))
    return len(seeds) * TRAIN_BATCH * sum(both)


def _stretch(progress: Progress, start: int, size: int, total: int) -> Progress:
    """The progress of work that takes `size` of `total` images, from `start` on."""
    return lambda done, of: progress(start + size * done // of, total)


def matched_rows(class_ids: ClassIds, like: ClassIds) -> npt.NDArray[np.int64]:
    """Choose as many rows as can be so that classes have the shares that they have in `like`.

    Overall distances would otherwise measure that a generator makes classes equally often.

    Args:
        class_ids: (N,) of the synthetic images.
        like: (M,) of the real ones.

    Returns:
        Row numbers, the first of each class; none of classes that either lacks.

    >>> matched_rows(np.array([0, 0, 0, 0, 1, 1, 1, 1, 2]), np.array([0, 0, 1])).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    n_classes = int(max(class_ids.max(initial=0), like.max(initial=0))) + 1
    has, wants = np.bincount(class_ids, minlength=n_classes), np.bincount(like, minlength=n_classes)
    shared = (has > 0) & (wants > 0)
    if not shared.any():
        return np.empty(0, np.int64)
    scale = (has[shared] / wants[shared]).min()
    counts = np.where(shared, np.maximum(1, np.floor(scale * wants + 1e-9)), 0).astype(np.int64)
    chosen = [np.flatnonzero(class_ids == class_id)[:count] for class_id, count in enumerate(counts)]
    return np.concatenate(chosen)


@dataclass(frozen=True)
class _Side:
    """Images with what the classifier says of them, and how near the nearest training image is.

    Attributes:
        images: (N, H, W, C) uint8.
        class_ids: (N,).
        features: (N, 128).
        is_right: (N,) bool, whether the classifier says the label.
        near: (N,) distance in features to the nearest training image of the class; NaN for none.
        pixels: (N,) the same in pixels.
    """

    images: Images
    class_ids: ClassIds
    features: Floats
    is_right: npt.NDArray[np.bool_]
    near: Distances
    pixels: Distances

    @classmethod
    def of(cls, part: LabelledImages, classifier: Classifier) -> _Side:
        probability, features = predict(classifier, part.images)
        class_ids, unknown = part.class_ids, np.full(len(part), np.nan)
        return cls(
            part.images, class_ids, features, probability.argmax(1) == class_ids, unknown, unknown.copy()
        )

    def take(self, rows: npt.NDArray[np.int64]) -> _Side:
        return _Side(*(getattr(self, name.name)[rows] for name in fields(self)))


def _fill_nearness(side: _Side, references: _Side) -> None:
    for class_id in np.unique(side.class_ids):
        own, others = side.class_ids == class_id, references.class_ids == class_id
        side.near[own] = nearest_distances(side.features[own], references.features[others])
    side.pixels[:] = _nearest_pixels(side, references.images, references.class_ids)


def _nearest_pixels(side: _Side, images: Images, class_ids: ClassIds) -> Distances:
    """(N,) distance to the nearest image of the class, as the screen measures it."""
    nearest = np.full(len(side.images), np.nan)
    for class_id in np.unique(side.class_ids):
        rows = np.flatnonzero(side.class_ids == class_id)
        others = images[class_ids == class_id]
        for start in range(0, len(rows) if len(others) else 0, BATCH):
            batch = rows[start : start + BATCH]
            nearest[batch] = RealNeighbours(others)(side.images[batch])[0]
    return nearest


def _row(
    name: str,
    fakes: _Side,
    reals: _Side,
    references: _Side,
    is_copy: npt.NDArray[np.bool_],
    extractor: nn.Module,
) -> ClassQuality:
    row = ClassQuality(
        name,
        synthetic=len(fakes.images),
        held_out=len(reals.images),
        train=len(references.images),
        frechet_distance=frechet_distance(reals.images, fakes.images, extractor),
        kernel_distance=kernel_distance(reals.images, fakes.images, extractor),
        right_label_rate=_rate(fakes.is_right),
        memorisation_features=_ratio(fakes.near, reals.near),
        memorisation_pixels=_ratio(fakes.pixels, reals.pixels),
        copies=_rate(is_copy),
    )
    k = min(NEIGHBOURS, row.synthetic - 1, row.held_out - 1)
    return row if k < 1 else replace(row, **asdict(compare(reals.features, fakes.features, k)))


def _rate(answers: npt.NDArray[np.bool_]) -> float | None:
    return float(answers.mean()) if len(answers) else None


def _ratio(above: Distances, below: Distances) -> float | None:
    """Median over median, of what is known."""
    above, below = above[~np.isnan(above)], below[~np.isnan(below)]
    if not len(above) or not len(below) or np.median(below) == 0:
        return None
    return float(np.median(above) / np.median(below))


def _with_score(
    quality: Quality,
    synthetic: LabelledImages,
    train: LabelledImages,
    held_out: LabelledImages,
    progress: Progress,
    how: dict[str, Any],
) -> Quality:
    filled, names = fill_with_real(synthetic, train)
    made = accuracy_score(filled, held_out, **how, progress=share_of(progress, 0, 2))
    real = accuracy_score(train, held_out, **how, progress=share_of(progress, 1, 2))
    rows = tuple(
        replace(row, score_recall=mine, real_score_recall=reals, is_filled_with_real=row.class_name in names)
        for row, mine, reals in zip(quality.classes, made.recall, real.recall, strict=True)
    )
    return replace(quality, classes=rows, score=made, real_score=real, filled_with_real=names)


def _check(classifier: Classifier, **parts: LabelledImages) -> None:
    names, shape = parts["train"].class_names, classifier.image_shape
    for word, part in parts.items():
        if not len(part):
            raise DatasetError(f"there are no images in `{word}`; nothing can be measured without them")
        if part.class_names != names or len(names) != classifier.n_classes:
            raise DatasetError(
                f"`{word}` has the classes {list(part.class_names)}, `train` {list(names)} and the classifier "
                f"{classifier.n_classes}; all must be the same, in the same order"
            )
        if tuple(part.images.shape[1:]) != tuple(shape):
            raise DatasetError(
                f"`{word}` has images of shape {part.images.shape[1:]} and the classifier is for {shape}; "
                "bring them to one size"
            )
