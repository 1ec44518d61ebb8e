"""What an error on a rare class looks like in the report."""

import base64
import io
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.evaluation import save_guesses, without_synthetic_arm
from support.page import page_after, page_of

from ganaug.dataset import LabelledImages
from ganaug.report import samples
from ganaug.report.errors_seen import SHOWN, compare

BEFORE, AFTER = "oversampling+albumentations", "oversampling+albumentations+synthetic"
WANTED = (3, 6, 9)


@pytest.fixture(scope="module")
def called(finished):
    """(labels, guesses before, guesses after) of the run, (N,) and twice (S, N)."""
    with np.load(finished.folder / "evaluate" / "predictions.npz") as file:
        arms = file["arms"].tolist()
        guesses = file["probability"].argmax(3)
        return file["labels"], guesses[arms.index(BEFORE)], guesses[arms.index(AFTER)]


def test_every_test_image_is_counted_in_the_group_that_most_seeds_put_it_in(report, called):
    labels, before, after = called
    expected = Counter()
    for row, label in enumerate(labels):
        rights = [sum(guess == label for guess in arm[:, row]) for arm in (before, after)]
        words = {True: "right", False: "wrong"}
        key = "even" if 2 in rights else f"{words[rights[0] > 2]} {words[rights[1] > 2]}"
        expected[key, label in WANTED] += 1
    keys = ("wrong right", "right wrong", "wrong wrong", "right right", "even")
    found = {(key, True): group.rare for key, group in zip(keys, report.errors.groups, strict=True)}
    found |= {(key, False): group.other for key, group in zip(keys, report.errors.groups, strict=True)}
    assert found == {key: expected[key] for key in found}
    assert sum(found.values()) == len(labels)
    assert min(report.errors.groups[at].rare for at in range(3)) > 0


def test_an_error_is_shown_with_what_the_seeds_call_it(finished, report, called):
    labels, before, after = called
    test = finished.data.part("test")
    shown = samples.gather(finished.folder, report.classes, (), 2, error_rows=report.errors.rows).errors
    fixed = report.errors.groups[0]
    assert fixed.seen
    for error in fixed.seen:
        assert labels[error.row] in WANTED
        assert error.class_name == str(labels[error.row])
        pixels = np.asarray(
            Image.open(io.BytesIO(base64.b64decode(shown[error.row].source.partition(",")[2])))
        )
        assert np.array_equal(pixels, test.images[error.row][:, :, 0])
        for call, arm in ((error.before, before), (error.after, after)):
            votes = Counter(str(guess) for guess in arm[:, error.row])
            assert call.seeds == votes[call.class_name]
            if not call.is_right:
                assert call.seeds == max(number for name, number in votes.items() if name != error.class_name)
        assert (error.before.is_right, error.after.is_right) == (False, True)


def test_the_alternative_text_of_an_error_says_what_is_written_beside_it(finished, report, tmp_path):
    page = page_after(finished.folder, finished.config, tmp_path)
    texts = {attrs["alt"] for attrs in page.all("img")}
    for group in report.errors.groups:
        for error in group.seen:
            assert (
                f"Real test image of class {error.class_name}: called {error.before.class_name} by "
                f"{error.before.seeds} of 4 seeds without synthetic images, {error.after.class_name} by "
                f"{error.after.seeds} of 4 with them"
            ) in texts


def test_classes_come_in_turn_and_the_most_agreed_errors_first(report):
    seen = report.errors.groups[2].seen
    assert [error.class_name for error in seen[:3]] == ["3", "6", "9"]
    agreed = [error.before.seeds + error.after.seeds for error in seen if error.class_name == "3"]
    assert agreed == sorted(agreed, reverse=True)


def test_misses_and_false_alarms_are_means_over_seeds(report, called):
    from sklearn.metrics import confusion_matrix

    labels, *arms = called
    wanted, others = list(WANTED), [k for k in range(10) if k not in WANTED]
    for side, arm in zip(("before", "after"), arms, strict=True):
        tables = [confusion_matrix(labels, guess, labels=range(10)) for guess in arm]
        missed = np.mean([table[wanted].sum() - table[wanted, wanted].sum() for table in tables])
        mistaken = np.mean([table[np.ix_(others, wanted)].sum() for table in tables])
        assert getattr(report.errors.missed, side) == pytest.approx(missed)
        assert getattr(report.errors.mistaken, side) == pytest.approx(mistaken)
        mean = np.mean(tables, axis=0)
        for row in report.errors.confusions:
            others_named = np.delete(mean[int(row.class_name)], int(row.class_name))
            assert getattr(row, f"taken_{side}")[1] == pytest.approx(others_named.max())


def test_false_alarms_are_images_of_other_classes_that_an_arm_calls_a_marked_one(
    finished, report, called, tmp_path
):
    labels, before, after = called
    expected = {
        row
        for row, label in enumerate(labels)
        if label not in WANTED
        and any(sum(guess in WANTED for guess in arm[:, row]) > len(arm) / 2 for arm in (before, after))
    }
    alarms = report.errors.alarms
    assert alarms.other == len(expected) > 0
    assert len(alarms.seen) == min(len(expected), SHOWN)
    assert {error.row for error in alarms.seen} <= expected
    page = page_after(finished.folder, finished.config, tmp_path)
    texts = [attrs["alt"] for attrs in page.all("img")]
    assert all(
        any(text.startswith(f"Real test image of class {error.class_name}: called") for text in texts)
        for error in alarms.seen
    )
    assert (
        f"{len(expected)} image{'s' * (len(expected) != 1)} of other classes that an arm calls" in page.text
    )


def test_no_more_errors_are_shown_than_there_is_room_for(copied, finished, tmp_path, monkeypatch):
    labels = LabelledImages.load(copied / "split").part("test").class_ids
    wrong = np.broadcast_to((labels + 1) % 10, (2, 4, len(labels)))
    save_guesses(copied / "evaluate", labels, (BEFORE, AFTER), wrong, 10)
    page = page_after(copied, finished.config, tmp_path / "whole")
    errors = [attrs for attrs in page.all("img") if attrs["alt"].startswith("Real test image")]
    # Those that are missed, and those of others that are taken for them.
    assert len(errors) == 2 * SHOWN
    assert f"{np.isin(labels, WANTED).sum()} images of marked classes, {SHOWN} shown" in page.text
    monkeypatch.setattr(samples, "ERRORS_BUDGET_BYTES", len(errors[0]["src"]) + 10)
    page = page_after(copied, finished.config, tmp_path / "cut")
    assert sum(attrs["alt"].startswith("Real test image") for attrs in page.all("img")) == 1


def test_without_an_arm_with_synthetic_images_the_errors_of_the_best_arm_are_shown(
    copied, finished, tmp_path, called
):
    without_synthetic_arm(copied)
    page = page_after(copied, finished.config, tmp_path)
    labels, before, _ = called
    wrong = (np.isin(labels, WANTED) & ((before == labels).sum(0) < 2)).sum()
    assert f"Wrong {wrong} image" in page.text
    assert "Right only with synthetic images" not in page.text
    assert "with them" not in page.text
    assert "“”" not in page.text


def test_what_errors_cannot_be_shown_is_said(copied, finished, build_run, tmp_path):
    predictions = copied / "evaluate" / "predictions.npz"
    labels = LabelledImages.load(copied / "split").part("test").class_ids

    def text() -> str:
        return page_after(copied, finished.config, tmp_path / "out").text

    save_guesses(predictions.parent, labels[::-1].copy(), (BEFORE,), np.zeros((1, 2, len(labels)), int), 10)
    assert "of other test images than the split's" in text()
    save_guesses(predictions.parent, labels, ("another",), np.zeros((1, 2, len(labels)), int), 10)
    assert f"do not hold the arm “{BEFORE}”" in text()
    predictions.unlink()
    assert "predictions of this run were not kept" in text()
    assert "no rare class whose errors" in page_of(build_run(names=["a", "b"]).through("evaluate"))[1].text


def test_wanted_classes_without_test_images_have_no_errors_to_show(copied, finished, tmp_path):
    index = pd.read_parquet(copied / "split" / "index.parquet")
    index.loc[index["class_id"].isin(WANTED) & index["split"].eq("test"), "split"] = "unused"
    index.to_parquet(copied / "split" / "index.parquet")
    labels = LabelledImages.load(copied / "split").part("test").class_ids
    save_guesses(copied / "evaluate", labels, (BEFORE, AFTER), np.zeros((2, 4, len(labels)), int), 10)
    page = page_after(copied, finished.config, tmp_path)
    assert "No class that wants synthetic images has test images" in page.text


def test_seeds_that_are_split_evenly_make_an_arm_neither_right_nor_wrong():
    labels = np.array([0, 0])
    before, after = np.array([[0, 1], [1, 1]]), np.array([[0, 0], [0, 0]])
    groups = {group.title: group.rare for group in compare(labels, [before, after], [0], ["a", "b"]).groups}
    assert groups["Seeds of an arm split evenly"] == 1
    assert groups["Right only with synthetic images"] == 1


def test_an_arm_that_is_wrong_is_never_said_to_call_an_image_by_its_class():
    labels, scattered = np.array([0]), np.array([[0], [0], [1], [2], [3]])
    errors = compare(labels, [scattered, scattered], [0], ["a", "b", "c", "d"])
    call = errors.groups[2].seen[0].before
    assert (call.class_name, call.seeds, call.is_right) == ("b", 1, False)


def test_class_names_in_errors_do_no_harm(build_run):
    names = ["a", "b", "c", "<b>bold</b>"]
    html, page = page_of(build_run(names=names, images=400).through("evaluate"))
    assert "<b>bold" not in html
    assert any("class <b>bold</b>: called" in attrs["alt"] for attrs in page.all("img"))
    assert "is <b>bold</b>" in page.text
