"""A screener keeps good images, names one reason for each of the others, and can be stopped at any time."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from support.screening import PLAIN, bright_and_dark, bright_screen, make_screener, noisy

from ganaug.dataset import Images, LabelledImages
from ganaug.errors import DatasetError, ModelError
from ganaug.run import sha256_file
from ganaug.screen import CODE_BYTES, REASONS, ClassScreen, Looks, Screener

RNG = np.random.default_rng(0)
SHAPE = (8, 8, 1)


def bright(count: int) -> Images:
    return noisy(count, 215, RNG)


def unsure(count: int) -> Images:
    """Images whose mean is 131 exactly: bright by a hair."""
    noise = RNG.integers(-30, 31, (count, 4, 8, 1))
    return (131 + np.concatenate([noise, -noise], axis=1)).astype(np.uint8)


def part_of(looks: Looks, rows: slice) -> Looks:
    return Looks(**{field.name: getattr(looks, field.name)[rows] for field in fields(Looks)})


@pytest.fixture(scope="module")
def real() -> LabelledImages:
    return bright_and_dark(40, 30, np.random.default_rng(1))


@pytest.fixture
def screen(real: LabelledImages, tmp_path: Path) -> ClassScreen:
    return bright_screen(tmp_path, real)


@pytest.fixture(scope="module")
def screener(real: LabelledImages, tmp_path_factory: pytest.TempPathFactory) -> Screener:
    return make_screener(tmp_path_factory.mktemp("screener"), real)


def test_each_image_is_kept_or_rejected_for_its_one_reason(real: LabelledImages, tmp_path: Path) -> None:
    # Half bright and half dark: as bright as the others by their mean, and like none of them.
    halves = bright(2)
    halves[:, :4], halves[:, 4:] = 90, 255
    good = bright(3)
    config = PLAIN.model_copy(update={"min_realism": 0.1, "quota": 0.0})
    screen = bright_screen(tmp_path, real, config)
    images = {
        "": good,
        "wrong label": np.concatenate([noisy(2, 60, RNG), real.images[:1]]),  # a copy, too
        "low confidence": unsure(2),
        "unrealistic": halves,
        "copy of a real image": real.images[-2:] ^ 1,
        "copy of a synthetic image": good ^ 1,
    }
    looks = screen.look(np.concatenate(list(images.values())))
    expected = [reason for reason, group in images.items() for _ in group]
    assert screen.decide(looks).tolist() == expected
    stateless = [reason if reason != "copy of a synthetic image" else "" for reason in expected]
    assert looks.reason.tolist() == stateless
    is_copy = np.array(expected) == "copy of a real image"
    assert looks.nearest_real[is_copy].tolist() == [68, 69]
    assert looks.real_distance[is_copy] == pytest.approx(1 / 255, rel=1e-3)
    assert looks.code.shape == (len(expected), CODE_BYTES)


def lit(count: int, top: int, bottom: int) -> Images:
    """Images whose halves differ in brightness: clusters that k-means finds."""
    halves = [noisy(count, level, RNG, (4, 8, 1)) for level in (top, bottom)]
    return np.concatenate(halves, axis=1)


@pytest.fixture(scope="module")
def uneven() -> LabelledImages:
    """Bright images of which nine of ten are lit from above."""
    real = bright_and_dark(40, 100, RNG)
    return replace(real, images=np.concatenate([real.images[:40], lit(90, 220, 160), lit(10, 160, 220)]))


def test_a_cluster_gets_no_more_than_its_quota(uneven: LabelledImages, tmp_path: Path) -> None:
    screen = bright_screen(tmp_path, uneven, PLAIN.model_copy(update={"quota": 2.0, "min_distance": 0.0}))
    looks = screen.look(np.concatenate([lit(300, 160, 220), lit(100, 220, 160)]))
    reasons = screen.decide(looks)
    assert set(reasons) == {"", REASONS[5]}
    from_below = reasons[:300] == ""
    assert from_below.sum() < 60
    assert (reasons[300:] == "").sum() > 80


def test_all_classifiers_must_agree_and_the_least_sure_counts(real: LabelledImages, tmp_path: Path) -> None:
    images = noisy(6, 150, RNG)
    sure = make_screener(tmp_path / "a", real, steepness=[20.0]).for_class(1).look(images)
    both = make_screener(tmp_path / "b", real, steepness=[20.0, 0.5]).for_class(1).look(images)
    assert (sure.reason == "").all()
    assert (both.reason == "low confidence").all()
    assert both.right_label.all()
    turned = make_screener(tmp_path / "d", real, steepness=[0.5, 20.0]).for_class(1).look(images)
    np.testing.assert_allclose(turned.confidence, both.confidence, rtol=1e-5)
    opposed = make_screener(tmp_path / "c", real, steepness=[20.0, -20.0]).for_class(1).look(images)
    assert not opposed.right_label.any()


def test_the_second_classifier_sees_only_what_the_first_calls_right(screener: Screener) -> None:
    screen = screener.for_class(1)
    seen: list[int] = []

    class Counting:
        def run(self, names: object, feed: dict[str, Images]) -> list[np.ndarray]:
            seen.append(len(feed["image"]))
            return [np.tile(np.array([0.0, 1.0], np.float32), (len(feed["image"]), 1))]

    screen._sessions = [*screen._sessions, Counting()]
    screen.look(np.concatenate([bright(5), noisy(3, 40, RNG)]))
    screen.look(noisy(3, 40, RNG))
    assert seen == [5]


def test_what_a_classifier_cannot_say_in_numbers_is_not_kept(screener: Screener) -> None:
    screen = screener.for_class(0)
    images, whole = noisy(3, 40, RNG), screen._sessions[0]

    class Broken:
        def run(self, names: object, feed: dict[str, Images]) -> list[np.ndarray]:
            probability, features = whole.run(["probability", "features"], feed)
            return [probability * np.nan, features]

    assert "low confidence" not in screen.look(images).reason
    screen._sessions = [Broken()]
    assert (screen.look(images).reason == "low confidence").all()


@pytest.mark.parametrize("sizes", [(1, 2, 3), (7,), (64, 1), (500,)])
def test_batches_change_nothing(sizes: tuple[int, ...], screener: Screener, monkeypatch) -> None:
    # The inverted file is reached early, so that batches end before, at and behind its filling;
    # and it finds little, so that whoever asks it too early or too late answers otherwise.
    monkeypatch.setattr("ganaug.screen.kept.BLOCK", 64)
    monkeypatch.setattr("ganaug.screen.kept.PROBES", 1)
    looks = near_one_another(600, screener.thresholds.code_distance)
    expected = screener.for_class(1).decide(looks)
    assert 100 < (expected == REASONS[4]).sum() < 500
    parts = screener.for_class(1)
    found: list[str] = []
    turn = 0
    while len(found) < len(looks):
        end = len(found) + sizes[turn % len(sizes)]
        found += parts.decide(part_of(looks, slice(len(found), end))).tolist()
        turn += 1
    assert found == expected.tolist()


def near_one_another(count: int, threshold: float) -> Looks:
    """Looks at good images whose codes lie so dense that a part of them are copies."""
    codes = np.random.default_rng(4).normal(0, 0.2 * threshold, (count, CODE_BYTES))
    return Looks(
        right_label=np.ones(count, bool),
        confidence=np.ones(count, np.float32),
        realism=np.ones(count, np.float32),
        real_distance=np.ones(count, np.float32),
        nearest_real=np.zeros(count, np.int64),
        code=np.clip(np.rint(codes), -127, 127).astype(np.int8),
        cluster=np.zeros(count, np.int16),
        reason=np.full(count, "", object),
    )


@pytest.mark.parametrize("size", [1, 100, 700])
def test_an_image_is_seen_alike_in_any_batch(size: int, screener: Screener) -> None:
    screen = screener.for_class(1)
    images = np.concatenate([bright(600), unsure(50), noisy(50, 60, RNG)])
    whole = screen.look(images)
    parts = [screen.look(images[start : start + size]) for start in range(0, len(images), size)]
    for field in fields(Looks):
        found = np.concatenate([getattr(part, field.name) for part in parts])
        if found.dtype == np.float32:
            np.testing.assert_allclose(found, getattr(whole, field.name), rtol=1e-4)
        else:
            np.testing.assert_array_equal(found, getattr(whole, field.name))


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_restored_screen_decides_as_if_it_had_never_stopped(
    pieces: int, uneven: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganaug.screen.kept.BLOCK", 64)
    screener = make_screener(tmp_path, uneven, PLAIN.model_copy(update={"quota": 2.0}))
    images = RNG.permutation(np.concatenate([lit(300, 160, 220), lit(200, 220, 160)]))
    images[400:450] = images[:50] ^ 1
    never_stopped = screener.for_class(1)
    looks = never_stopped.look(images)
    expected = never_stopped.decide(looks)
    assert set(expected[300:]) >= {"", REASONS[4], REASONS[5]}
    restored = screener.for_class(1)
    kept = np.flatnonzero(expected[:300] == "")
    for rows in np.array_split(kept, pieces):
        restored.restore(looks.code[rows], looks.cluster[rows])
    found = restored.decide(part_of(looks, slice(300, None)))
    assert found.tolist() == expected[300:].tolist()


def test_several_threads_see_what_one_sees(screener: Screener) -> None:
    screen, images = screener.for_class(1), bright(600)
    batches = np.array_split(images, 24)
    alone = [screen.look(batch) for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(screen.look, batches))
    for one, other in zip(alone, together, strict=True):
        for field in fields(Looks):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_screens_of_one_screener_do_not_share_what_they_kept(screener: Screener) -> None:
    images = bright(4)
    for _ in range(2):
        screen = screener.for_class(1)
        assert (screen.decide(screen.look(images)) == "").all()
    assert (screen.decide(screen.look(images)) == REASONS[4]).all()


def test_a_distance_of_zero_calls_nothing_a_copy(real: LabelledImages, tmp_path: Path) -> None:
    screen = bright_screen(tmp_path, real, PLAIN.model_copy(update={"min_distance": 0.0}))
    images = np.concatenate([real.images[-3:], real.images[-3:]])
    assert (screen.decide(screen.look(images)) == "").all()


def test_a_large_distance_calls_everything_a_copy(real: LabelledImages, tmp_path: Path) -> None:
    screen = bright_screen(tmp_path, real, PLAIN.model_copy(update={"min_distance": 0.9}))
    assert (screen.look(bright(5)).reason == "copy of a real image").all()


def test_no_images_are_an_empty_look(screen: ClassScreen) -> None:
    looks = screen.look(np.empty((0, *SHAPE), np.uint8))
    assert len(looks) == 0
    assert screen.decide(looks).shape == (0,)
    screen.restore(looks.code, looks.cluster)


def test_images_of_another_size_are_refused(screen: ClassScreen) -> None:
    for images in (np.zeros((2, 9, 8, 1), np.uint8), np.zeros((2, *SHAPE), np.float32)):
        with pytest.raises(DatasetError, match="these are"):
            screen.look(images)


@pytest.mark.parametrize("class_id", [-1, 2])
def test_a_class_without_real_images_is_refused(class_id: int, screener: Screener) -> None:
    with pytest.raises(ModelError, match=r"images of \[0, 1\]"):
        screener.for_class(class_id)


def test_one_hash_stands_for_everything_in_it(real: LabelledImages, tmp_path: Path) -> None:
    first, again = (make_screener(tmp_path / name, real) for name in ("first", "again"))
    assert first.sha256 == again.sha256
    other = make_screener(tmp_path / "other", real, PLAIN.model_copy(update={"quota": 3.0}))
    fewer = make_screener(tmp_path / "fewer", real.take(np.arange(69)))
    assert len({first.sha256, other.sha256, fewer.sha256}) == 3


@pytest.mark.parametrize("file", ["classifier-0.onnx", "images.npy", "arrays.npz"])
@pytest.mark.parametrize("way", ["changed", "longer", "missing"])
def test_a_screener_whose_files_were_tampered_with_is_refused(
    file: str, way: str, real: LabelledImages, tmp_path: Path
) -> None:
    make_screener(tmp_path, real)
    path = tmp_path / "screener" / file
    content = path.read_bytes()
    if way == "missing":
        path.unlink()
    else:
        path.write_bytes(content + b"\0" if way == "longer" else content[:-9] + b"!" + content[-8:])
    with pytest.raises(ModelError, match="make it again"):
        Screener.open(tmp_path / "screener")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("class_names", ["a", "b", "c"]),
        ("image_shape", [8, 8, 3]),
        ("classifiers", ["../graphs/0.onnx"]),
        ("classifiers", []),
        ("thresholds", {"temperature": 1.0}),
        ("settings", {"no such": 1}),
    ],
)
def test_a_note_that_does_not_fit_is_refused(
    key: str, value: object, real: LabelledImages, tmp_path: Path
) -> None:
    make_screener(tmp_path, real)
    note = tmp_path / "screener" / "screener.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), key: value}))
    with pytest.raises(ModelError, match="make it again"):
        Screener.open(tmp_path / "screener")


def test_a_note_that_points_out_of_its_folder_is_refused(real: LabelledImages, tmp_path: Path) -> None:
    make_screener(tmp_path, real)
    path = tmp_path / "screener" / "screener.json"
    note = json.loads(path.read_text())
    outside = "../graphs/0.onnx"
    note["classifiers"], note["files"][outside] = [outside], note["files"]["classifier-0.onnx"]
    path.write_text(json.dumps(note))
    with pytest.raises(ModelError, match="not the name of a file in it"):
        Screener.open(tmp_path / "screener")


def test_packed_arrays_are_refused_before_they_are_unpacked(real: LabelledImages, tmp_path: Path) -> None:
    make_screener(tmp_path, real)
    arrays, path = tmp_path / "screener" / "arrays.npz", tmp_path / "screener" / "screener.json"
    with np.load(arrays) as loaded:
        content = dict(loaded)
    np.savez_compressed(arrays, **content)
    note = json.loads(path.read_text())
    note["files"]["arrays.npz"] = {"sha256": sha256_file(arrays), "bytes": arrays.stat().st_size}
    path.write_text(json.dumps(note))
    with pytest.raises(ModelError, match="compressed"):
        Screener.open(tmp_path / "screener")


def test_no_folder_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no usable screener"):
        Screener.open(tmp_path / "nothing")
