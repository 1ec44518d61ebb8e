"""Thresholds are those that held-out real images set, computed here again in the plainest way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial.distance import cdist
from support.screening import PLAIN, bright_and_dark, brightness_classifier, make_screener, noisy

from ganaug.config import ScreenConfig
from ganaug.dataset import LabelledImages
from ganaug.errors import DatasetError, ModelError
from ganaug.screen import Screener, fit_screener
from ganaug.screen.folds import Fold, sample_rows

RNG = np.random.default_rng(0)
AUTO = ScreenConfig(quota=0.0)


def made_up_folds(folder: Path, class_ids: np.ndarray, folds: int = 3, spread: float = 1.5) -> list[Path]:
    """Folds of classifiers that are right mostly; features lie around a place per class."""
    rng = np.random.default_rng(0)
    fold_of = rng.permutation(np.arange(len(class_ids)) % folds)
    classes = int(class_ids.max()) + 1
    paths = []
    for number in range(folds):
        logits = 2 * np.eye(classes)[class_ids] + rng.normal(0, spread, (len(class_ids), classes))
        features = 5 * np.eye(classes, 6)[class_ids] + rng.normal(size=(len(class_ids), 6))
        path = folder / f"fold-{number}.npz"
        Fold(class_ids, fold_of == number, logits.astype(np.float32), features.astype(np.float32)).save(path)
        paths.append(path)
    return paths


def plain_quantile(values: list[tuple[float, int]], share: float) -> float:
    """The largest value that a share of the weight reaches, each class weighing alike."""
    counts = {class_id: sum(one == class_id for _, one in values) for _, class_id in values}
    total = len(counts)
    best = -np.inf
    for threshold, _ in values:
        reached = sum(1 / counts[class_id] for value, class_id in values if value >= threshold)
        if reached >= share * total - 1e-9:
            best = max(best, threshold)
    return best


@pytest.fixture
def real() -> LabelledImages:
    return bright_and_dark(80, 20, RNG)


def test_confidence_and_realism_are_what_held_out_real_images_reach(
    real: LabelledImages, tmp_path: Path
) -> None:
    paths = made_up_folds(tmp_path, real.class_ids)
    found = make_screener(tmp_path, real, AUTO, folds=paths).thresholds
    confidence, realism, closeness = [], [], []
    for fold in map(Fold.load, paths):
        seen = ~fold.held_out
        gaps = {}
        for k in (0, 1):
            own = fold.features[seen & (fold.class_ids == k)]
            between = cdist(own, own)
            np.fill_diagonal(between, np.inf)
            gaps[k] = between.min(axis=1)
        for row in np.flatnonzero(fold.held_out):
            k = int(fold.class_ids[row])
            if fold.logits[row].argmax() != k:
                continue
            powers = np.exp(fold.logits[row].astype(float) / found.temperature)
            confidence.append((powers[k] / powers.sum(), k))
            nearest = cdist(fold.features[[row]], fold.features[seen & (fold.class_ids == k)]).min()
            realism.append((np.median(gaps[k]) / nearest, k))
            closeness.append((nearest / np.median(np.concatenate([gaps[0], gaps[1]])), k))
    assert found.min_confidence == pytest.approx(plain_quantile(confidence, 0.9), rel=1e-3)
    assert found.min_realism == pytest.approx(plain_quantile(realism, 0.99), rel=1e-3)
    # The graph's features are the means of quarters; real neighbours in them are the measure.
    quarters = real.images.reshape(-1, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(-1, 4) / 255
    neighbours = []
    for k in (0, 1):
        between = cdist(quarters[real.class_ids == k], quarters[real.class_ids == k])
        np.fill_diagonal(between, np.inf)
        neighbours += between.min(axis=1).tolist()
    share = min(0.35, plain_quantile(closeness, 0.99))
    assert found.feature_distance == pytest.approx(share * np.median(neighbours), rel=1e-2)


def test_confidence_is_told_at_the_temperature(real: LabelledImages, tmp_path: Path) -> None:
    screener = make_screener(tmp_path, real, AUTO, folds=made_up_folds(tmp_path, real.class_ids, spread=4))
    images = noisy(20, 140, RNG)
    logit = 8 * (images.reshape(20, -1).mean(axis=1) - 127.5) / 127.5
    expected = 1 / (1 + np.exp(-logit / screener.thresholds.temperature))
    assert screener.thresholds.temperature != pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(screener.for_class(1).look(images).confidence, expected, rtol=1e-3)


def test_a_quota_at_which_production_would_stand_still_is_refused() -> None:
    for quota in (0.5, 1.0):
        with pytest.raises(ValidationError, match=r"at least 1\.1"):
            ScreenConfig(quota=quota)
    assert (ScreenConfig(quota=0).quota, ScreenConfig(quota=1.1).quota) == (0, 1.1)


def test_the_temperature_is_that_of_least_loss_with_classes_alike(
    real: LabelledImages, tmp_path: Path
) -> None:
    paths = made_up_folds(tmp_path, real.class_ids)
    found = make_screener(tmp_path, real, AUTO, folds=paths).thresholds.temperature

    def loss(t: float) -> float:
        total = 0.0
        for k in (0, 1):
            own = [f.logits[f.held_out & (f.class_ids == k)].astype(float) / t for f in map(Fold.load, paths)]
            rows = np.concatenate(own)
            total += np.mean(np.log(np.exp(rows).sum(axis=1)) - rows[:, k])
        return total

    assert loss(found) < min(loss(found * 1.05), loss(found / 1.05))


def test_images_whose_features_are_those_of_a_real_one_are_copies(
    real: LabelledImages, tmp_path: Path
) -> None:
    screener = make_screener(tmp_path, real)
    # The classifier's features are the means of quarters: other pixels, the same features.
    quarters = real.images[-5:].reshape(5, 2, 4, 2, 4, 1)
    others = RNG.permuted(quarters.reshape(5, 2, 4, 8), axis=2).reshape(5, 8, 8, 1)
    others = np.ascontiguousarray(real.images[-5:][:, [1, 2, 3, 0, 5, 6, 7, 4]])
    looks = screener.for_class(1).look(others)
    assert (looks.real_distance > screener.thresholds.min_distance).all()
    assert (looks.reason == "copy of a real image").all()
    assert looks.nearest_real.tolist() == list(range(95, 100))


def test_settings_given_as_numbers_are_taken_as_they_are(real: LabelledImages, tmp_path: Path) -> None:
    config = ScreenConfig(min_confidence=0.3, min_realism=0.2, min_distance=0.1)
    auto = make_screener(tmp_path / "auto", real, PLAIN).thresholds
    found = make_screener(tmp_path / "given", real, config).thresholds
    assert (found.min_confidence, found.min_realism, found.min_distance) == (0.3, 0.2, 0.1)
    factor = 0.1 / auto.min_distance
    assert found.code_distance == pytest.approx(factor * auto.code_distance)
    assert found.feature_distance == pytest.approx(factor * auto.feature_distance)


def test_code_copies_are_nearer_than_a_share_of_the_codes_of_real_neighbours(
    real: LabelledImages, tmp_path: Path
) -> None:
    screener = make_screener(tmp_path, real)
    codes = [screener._coder(real.images[real.class_ids == k]).astype(float) for k in (0, 1)]
    gaps = []
    for own in codes:
        between = cdist(own, own)
        np.fill_diagonal(between, np.inf)
        gaps += between.min(axis=1).tolist()
    assert screener.thresholds.code_distance == pytest.approx(0.35 * np.median(gaps), rel=1e-5)


def test_certain_classifiers_do_not_ask_for_certainty(real: LabelledImages, tmp_path: Path) -> None:
    paths = made_up_folds(tmp_path, real.class_ids, spread=0.01)
    assert make_screener(tmp_path, real, AUTO, folds=paths).thresholds.min_confidence == 0.9


def test_noise_is_unrealistic_and_real_images_are_not(tmp_path: Path) -> None:
    # Features of noise lie off the place where the class lies, and the label is right all the same.
    real = bright_and_dark(40, 60, RNG)
    half = make_screener(tmp_path, real, PLAIN.model_copy(update={"min_realism": 0.2})).for_class(1)
    fresh = half.look(noisy(200, 215, RNG))
    assert (fresh.reason == "").mean() > 0.9
    assert 0.5 < np.median(fresh.realism) < 2
    noise = RNG.integers(0, 256, (300, 8, 8, 1)).astype(np.uint8)
    noise[:, :, :4] = np.maximum(noise[:, :, :4], 170)
    looks = half.look(noise)
    judged = looks.right_label & (looks.confidence >= 0.6)
    assert judged.any()
    assert (looks.reason[judged] == "unrealistic").all()


def test_a_class_of_one_image_is_screened_by_what_is_typical_of_all(tmp_path: Path) -> None:
    real = bright_and_dark(40, 1, RNG)
    paths = made_up_folds(tmp_path, real.class_ids)
    screener = make_screener(tmp_path, real, AUTO, folds=paths)
    screen = screener.for_class(1)
    assert screen._reals.typical == pytest.approx(float(screener.for_class(0)._reals.typical))
    screen.decide(screen.look(noisy(5, 215, RNG)))


def test_auto_without_folds_is_refused(real: LabelledImages, tmp_path: Path) -> None:
    for config in (AUTO, PLAIN.model_copy(update={"min_realism": "auto"})):
        with pytest.raises(ModelError, match="left no folds"):
            make_screener(tmp_path, real, config)


def test_without_real_images_or_classifiers_there_is_no_screener(
    real: LabelledImages, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="at least one classifier"):
        fit_screener(real, [], [], PLAIN, tmp_path)
    graph = brightness_classifier(tmp_path / "graph.onnx")
    with pytest.raises(DatasetError, match="none"):
        fit_screener(real.take(np.empty(0, np.int64)), [graph], [], PLAIN, tmp_path)


def test_a_graph_that_is_no_classifier_is_refused(real: LabelledImages, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    for path in (tmp_path / "broken.onnx", tmp_path / "missing.onnx"):
        with pytest.raises(ModelError, match="onnx"):
            fit_screener(real, [path], [], PLAIN, tmp_path / "out")
    for_others = brightness_classifier(tmp_path / "others.onnx", shape=(8, 8, 3))
    good = brightness_classifier(tmp_path / "good.onnx")
    fit_screener(real, [good, for_others], [], PLAIN, tmp_path / "out")
    with pytest.raises(ModelError, match="not a graph of this kind"):
        Screener.open(tmp_path / "out")


def test_a_sample_has_every_image_of_the_rare_classes() -> None:
    class_ids = RNG.permutation(np.repeat([0, 1, 3], [9000, 40, 500]))
    rows = sample_rows(class_ids, 2000)
    counts = np.bincount(class_ids[rows])
    assert counts[[1, 3]].tolist() == [40, 500]
    assert 1900 < len(rows) <= 2000
    np.testing.assert_array_equal(sample_rows(class_ids, 10**6), np.arange(len(class_ids)))


def test_a_fold_that_is_no_fold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fold-0.npz").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="train the classifiers again"):
        Fold.load(tmp_path / "fold-0.npz")
