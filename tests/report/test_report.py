"""The report: what it promises to its readers, on a run folder made of real digits."""

import base64
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.page import Page, page_of

from ganaug.config import Config, load
from ganaug.errors import RunFolderError
from ganaug.report import write_report
from ganaug.report.arena import read_arena
from ganaug.report.collect import class_rows, collect
from ganaug.report.provenance import command
from ganaug.report.samples import (
    BUDGET_BYTES,
    ERRORS_BUDGET_BYTES,
    MOST_SAMPLES,
    REJECTED_BUDGET_BYTES,
    gather,
)
from ganaug.report.sheets import LARGEST_PX, LOSSLESS_PX, picture, run_sheet
from ganaug.run import STEP_FILE
from ganaug.screen import REASONS

SECTIONS = [
    "verdict",
    "arms",
    "classes",
    "errors",
    "amounts",
    "cost",
    "counts",
    "samples",
    "rejections",
    "training",
    "data",
    "reproduce",
    "glossary",
]


def pixels(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


@pytest.fixture(scope="module")
def finished(build_run):
    """A finished run; one of its classes has no image that passed the screen."""
    return build_run(nothing_kept={6}).through("publish")


@pytest.fixture(scope="module")
def page(finished):
    return page_of(finished)


def test_the_verdict_comes_first_and_every_section_follows(page):
    _, page = page
    assert [attrs["id"] for attrs in page.all("section")] == SECTIONS
    assert page.text.index("The synthetic images help") < page.text.index("Ways of training")


def test_the_page_needs_no_network_no_file_and_no_script(page):
    html, page = page
    addresses = [attrs[key] for _, attrs in page.elements for key in ("src", "href") if key in attrs]
    assert addresses
    assert {address[0] for address in addresses if not address.startswith("data:image/")} == {"#"}
    assert not page.all("script")
    assert not page.all("link")
    assert not re.search(r"url\(|@import|https?:", html)


def test_the_page_is_whole_html_whose_references_all_lead_somewhere(page):
    _, page = page
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {attrs["href"][1:] for attrs in page.all("a")}
    labels = {attrs["aria-labelledby"] for _, attrs in page.elements if "aria-labelledby" in attrs}
    assert links | labels <= set(ids)
    assert set(SECTIONS) <= links


def test_images_tables_and_plots_can_be_read_without_eyes(page):
    _, page = page
    assert all(attrs.get("alt") for attrs in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attrs.get("scope") in {"col", "row"} for attrs in page.all("th"))
    assert all(attrs.get("aria-label") for _, attrs in page.elements if attrs.get("role") == "img")
    drawn = [attrs for attrs in page.all("svg") if "class" in attrs]
    assert drawn
    assert all(attrs.get("aria-hidden") == "true" for attrs in drawn)


def test_headings_do_not_skip_a_level(page):
    _, page = page
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [
        ("helps", "The synthetic images help"),
        ("no difference", "make no difference"),
        ("hurts", "The synthetic images hurt"),
        ("cannot tell", "cannot be told"),
    ],
)
def test_each_verdict_has_its_headline(finished, tmp_path, verdict, headline):
    file = shutil.copytree(finished.folder, tmp_path / "run") / "evaluate" / "verdict.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"verdict": verdict}))
    page = Page(write_report(tmp_path / "run", tmp_path, finished.config).read_text("utf-8"))
    assert headline in page.text
    assert f"Verdict: {verdict}" in page.text


def test_a_refusal_is_told_with_its_reason(build_run):
    _, page = page_of(build_run(verdict="hurts").through("publish"))
    assert "Not published it made things worse" in page.text


def test_a_report_can_be_asked_for_in_the_middle_of_a_run(build_run):
    run = build_run()
    missing = {"split": 8, "plan": 6, "train": 5, "export": 5, "produce": 5, "screen": 3, "assemble": 3}
    for last, count in missing.items():
        _, page = page_of(run.through(last))
        assert [attrs["id"] for attrs in page.all("section")] == SECTIONS
        assert "Verdict: not measured yet" in page.text
        assert (last, page.text.count("Not run yet")) == (last, count)


def test_a_class_name_can_do_no_harm(build_run):
    names = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "<b>&amp;"]
    run = build_run(names=names)
    run.unreadable = [("<script>alert(2)</script>.png", "<i>broken</i>")]
    html, page = page_of(run.through("publish"))
    assert not page.all("script")
    assert not [attrs for _, attrs in page.elements if "onerror" in attrs]
    assert not page.all("b") or "<b>&amp;" not in html
    for text in [*names, "<script>alert(2)</script>.png", "<i>broken</i>"]:
        assert text in page.text
    assert "<script" not in html


def test_a_class_without_kept_images_says_so(page):
    _, page = page
    assert "No image of this class passed the screen" in page.text


def test_a_run_that_wants_nothing_says_so(build_run):
    _, page = page_of(build_run(names=["a", "b"]).through("publish"))
    assert "No class wants synthetic images" in page.text


def test_one_class_is_enough_for_a_page(build_run):
    _, page = page_of(build_run(names=["only"]).through("plan"))
    assert "only" in page.text


def test_a_hundred_classes_fit_on_a_page_that_says_how_many_it_shows(build_run):
    run = build_run(names=[f"class {number}" for number in range(100)], images=1400).through("publish")
    html, page = page_of(run)
    wanted = sum(row.is_wanted for row in class_rows(run.folder))
    assert wanted > 24
    assert f"24 of {wanted} classes are shown" in page.text
    assert all(f"class {number}" in page.text for number in range(100))
    assert len(html.encode()) < 5_000_000


def test_samples_stop_where_their_budget_is_spent(finished):
    rows = class_rows(finished.folder)
    whole = gather(finished.folder, rows, REASONS, 8)
    part = gather(finished.folder, rows, REASONS, 8, budget_bytes=whole.classes[0].bytes + 10)
    assert (len(whole.classes), len(part.classes), part.classes_total) == (3, 1, 3)


@pytest.mark.parametrize("size", [LOSSLESS_PX, LARGEST_PX, 256])
def test_one_class_always_fits_the_budget_and_all_pictures_a_page_of_5_mb(size):
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)
    worst = len(picture(noise).source)
    assert 3 * MOST_SAMPLES * worst < BUDGET_BYTES
    assert BUDGET_BYTES + REJECTED_BUDGET_BYTES + ERRORS_BUDGET_BYTES < 4_300_000


def test_rows_say_what_the_step_folders_hold(finished):
    rows = {row.class_name: row for row in class_rows(finished.folder)}
    screened = pd.read_parquet(finished.folder / "screen" / rows["3"].part / "screened.parquet")
    train = finished.data.index["split"].eq("train") & finished.data.index["class_id"].eq(3)
    test = finished.data.index["split"].eq("test") & finished.data.index["class_id"].eq(3)
    per_class = pd.read_parquet(finished.folder / "evaluate" / "per_class.parquet")
    recall = per_class[per_class["arm"].str.endswith("synthetic") & per_class["class_id"].eq(3)]["recall"]
    row = rows["3"]
    assert (row.real, row.test) == (train.sum(), test.sum())
    assert (row.produced, row.kept) == (len(screened), screened["kept"].sum())
    assert row.recall_after == pytest.approx(recall.mean())
    assert row.after == row.target
    assert rows["6"].after == rows["6"].real
    assert rows["0"].produced == 0


def test_before_the_plan_there_are_no_rows(build_run):
    assert class_rows(build_run().through("split").folder) == []


def test_kept_and_rejected_images_add_up_to_those_made(finished):
    report = collect(finished.folder, finished.config)
    assert report.reasons == REASONS
    assert len(report.rejections) == 3
    for row in report.rejections:
        assert row.kept + sum(row.reasons) == row.produced
        assert row.right == row.produced - row.reasons[0]


def test_what_the_screener_measured_is_told_and_nothing_is_where_there_is_none(finished, build_run, tmp_path):
    page = write_report(finished.folder, tmp_path, finished.config).read_text("utf-8")
    for words in ("93% were recognised", "confidence of 71%", "realism of 0.52", "Nearer than 0.047"):
        assert words in page
    assert collect(build_run().through("produce").folder, finished.config).screener is None


def test_each_synthetic_image_stands_above_its_nearest_real_one(finished):
    samples = gather(finished.folder, class_rows(finished.folder), REASONS, 4)
    one = samples.classes[0]
    folder = finished.folder / "screen" / one.row.part
    screened = pd.read_parquet(folder / "screened.parquet").query("kept").reset_index(drop=True)
    assert len(one.pairs) == 4
    last = screened.iloc[-1]
    assert np.array_equal(pixels(one.pairs[-1].synthetic.source), np.load(folder / "kept.npy")[-1, :, :, 0])
    nearest = finished.train.images[last["nearest_real"]][:, :, 0]
    assert np.array_equal(pixels(one.pairs[-1].nearest.source), nearest)
    assert one.pairs[-1].distance == pytest.approx(last["real_distance"])


def test_rejected_examples_are_shown_under_their_own_reason(finished):
    samples = gather(finished.folder, class_rows(finished.folder), REASONS, 4)
    assert [reason for reason, _ in samples.rejected] == list(REASONS)
    for reason, pairs in samples.rejected:
        # Taken from the classes in turn.
        assert [pair.class_name for pair in pairs[:3]] == ["3", "6", "9"]
        assert all((pair.nearest is not None) == (reason == "copy of a real image") for pair in pairs)


def test_arms_and_changes_are_those_that_evaluate_left(finished):
    arena = read_arena(finished.folder / "evaluate", finished.config.evaluate)
    scores = pd.read_parquet(finished.folder / "evaluate" / "scores.parquet")
    verdict = json.loads((finished.folder / "evaluate" / "verdict.json").read_text())
    means = scores.groupby("arm")["macro_f1"].mean()
    assert {arm.name: arm.measures[0].mean.value for arm in arena.arms} == pytest.approx(means.to_dict())
    assert [arm.is_baseline for arm in arena.arms] == [False, True, False]
    assert arena.arms[2].difference.low == verdict["low"]
    assert arena.arms[1].difference is None
    assert arena.changes[0].difference.high == verdict["measures"]["macro_f1"]["high"]


def test_further_measures_stand_in_the_table_where_the_run_has_them(finished):
    arena = read_arena(finished.folder / "evaluate", finished.config.evaluate)
    assert [one.name for one in arena.arms[0].more] == ["balanced_accuracy", "calibration_error"]
    page = Page((finished.folder / "report" / "report.html").read_text("utf-8"))
    assert "Balanced accuracy" in page.text
    assert "Calibration error" in page.text
    assert "Recall, head" not in page.text  # no class has so many training images


def test_other_arms_have_the_interval_that_holds_for_all_at_once(finished):
    arena = read_arena(finished.folder / "evaluate", finished.config.evaluate)
    assert (arena.arms[0].difference.low, arena.arms[0].difference.high) == (-0.09, -0.05)
    assert [arm.has_synthetic for arm in arena.arms] == [False, False, True]


def test_the_page_says_what_the_test_images_of_each_class_can_show(finished):
    page = Page((finished.folder / "report" / "report.html").read_text("utf-8"))
    assert "with 90 test images nothing under 8 points can be seen" in page.text


def test_intervals_of_arms_are_students(finished):
    from scipy.stats import ttest_1samp

    arm = read_arena(finished.folder / "evaluate", finished.config.evaluate).arms[0]
    expected = ttest_1samp(arm.measures[0].seeds, 0.0).confidence_interval(0.95)
    assert (arm.measures[0].mean.low, arm.measures[0].mean.high) == pytest.approx(
        (expected.low, expected.high)
    )


def test_a_verdict_without_a_synthetic_arm_has_a_page(finished, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "run") / "evaluate"
    file = folder / "verdict.json"
    empty = {"after": "", "difference": None, "low": None, "high": None, "measures": {}, "classes": []}
    file.write_text(json.dumps(json.loads(file.read_text()) | empty | {"verdict": "cannot tell"}))
    scores = pd.read_parquet(folder / "scores.parquet").iloc[:8]
    scores.assign(rare_recall=np.nan).to_parquet(folder / "scores.parquet")
    page = Page(write_report(tmp_path / "run", tmp_path, finished.config).read_text("utf-8"))
    assert "It cannot be told" in page.text
    assert not re.search(r"\bnan\b", page.text)


def test_steps_made_before_their_inputs_changed_are_called_out_of_date(finished, tmp_path):
    assert collect(finished.folder, finished.config).stale == ()
    file = shutil.copytree(finished.folder, tmp_path / "run") / "split" / STEP_FILE
    record = json.loads(file.read_text())
    record["outputs"]["split.parquet"]["sha256"] = "0" * 64
    file.write_text(json.dumps(record))
    assert "evaluate" in collect(tmp_path / "run", finished.config).stale
    assert "Out of date" in write_report(tmp_path / "run", tmp_path, finished.config).read_text("utf-8")


def test_a_damaged_record_is_a_clear_error(build_run):
    run = build_run().through("plan")
    (run.folder / "plan" / STEP_FILE).write_text("{")
    with pytest.raises(RunFolderError, match="damaged"):
        write_report(run.folder, run.folder / "report", run.config)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"train.steps": 500},
        {"data.path": "my photos/cells.zip", "data.group_pattern": "^(.*)-", "split.keep": {"a b": 20}},
        {
            "data.path": "x",
            "plan.target": 0.5,
            "evaluate.arms": ["real", "oversampling"],
            "split.long_tail": 20,
        },
        {"split.near_duplicates": False, "plan.target": {"3": 40}, "train.batch": 16},
    ],
)
def test_the_command_of_the_page_gives_the_same_settings_again(options):
    config = load(None, options)
    program, verb, *words = shlex.split(command(config))
    assert (program, verb) == ("ganaug", "run")
    path = words.pop(0) if words and not words[0].startswith("--") else None
    given = {key[2:]: value for key, value in zip(words[::2], words[1::2], strict=True)}
    assert load(None, given, data=path) == config


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 24, 3), (16, 40, 4), (200, 100, 3), (130, 260, 1)])
def test_pictures_keep_their_proportions_and_stay_small(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    shown = picture(image)
    assert shown.width_px / shown.height_px == pytest.approx(shape[1] / shape[0], rel=0.03)
    assert max(shown.width_px, shown.height_px) <= 96
    if max(shape) <= 48:
        assert np.array_equal(pixels(shown.source).reshape(shape), image)
        assert shown.width_px % shape[1] == 0


def test_the_sheet_of_a_run_is_a_picture_of_every_wanted_class(finished):
    sheet = np.asarray(Image.open(io.BytesIO(run_sheet(finished.folder))).convert("L"))
    rows = np.array_split(sheet, 3)
    is_right = [(row[:, row.shape[1] // 2 + 80 :] < 255).any() for row in rows]
    assert is_right == [True, False, True]


def test_there_is_no_sheet_before_the_screen(build_run):
    run = build_run()
    assert run_sheet(run.folder) is None
    assert run_sheet(run.through("produce").folder) is None


def test_the_page_is_replaced_and_nothing_is_left_beside_it(build_run, tmp_path):
    run = build_run().through("split")
    page_of(run, tmp_path)
    page_of(run.through("plan"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "Class by class" in (tmp_path / "report.html").read_text("utf-8")


def test_reading_a_run_loads_neither_torch_nor_jinja_nor_matplotlib():
    code = (
        "import sys, ganaug.report.collect, ganaug.report.sheets; "
        "print({'torch', 'jinja2', 'matplotlib', 'scipy', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_run_without_any_settings_of_its_own_is_reported(tmp_path):
    (tmp_path / "run").mkdir()
    page = write_report(tmp_path / "run", tmp_path / "out", Config())
    assert "No verdict yet" in page.read_text("utf-8")
