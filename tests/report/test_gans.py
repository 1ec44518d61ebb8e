"""How the GANs did: what the training section of the page promises to tell."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from support.page import Page, page_of

from ganaug.report import figures, write_report
from ganaug.report.collect import collect
from ganaug.report.curves import CURVE_POINTS, IN_TABLE, PLOTS, sort_curves
from ganaug.run import STEP_FILE
from ganaug.training.health import DETECTORS, Finding

NEW = ("stopped", "best_step", "findings", "exams", "settings", "recipe", "why")


@pytest.fixture(scope="module")
def trained(build_run):
    return build_run().through("train")


@pytest.fixture(scope="module")
def page(trained):
    return page_of(trained)[1]


def changed(trained, folder, part="base", *, drop=(), **changes):
    """The same run with another summary of one GAN."""
    file = shutil.copytree(trained.folder, folder / "run") / "train" / part / STEP_FILE
    record = json.loads(file.read_text())
    record["summary"] = {
        key: value for key, value in (record["summary"] | changes).items() if key not in drop
    }
    file.write_text(json.dumps(record))
    return folder / "run"


def base_of(folder, config):
    return collect(folder, config).gans[0]


def text_of(folder, config):
    return Page(write_report(folder, folder / "report", config).read_text("utf-8")).text


def test_the_page_tells_why_a_recipe_was_chosen(page):
    assert "Recipe pair : 8 px images" in page.text


def test_it_tells_why_training_stopped_and_whether_all_steps_were_trained(page):
    assert "All steps were trained." in page.text
    assert "Stopped early: no better score in 5 examinations (train.patience)." in page.text


@pytest.mark.parametrize(
    ("best_step", "scores", "sentence"),
    [
        (1875, (0.0, 0.7), "The weights of step 1,875 scored best and are used."),
        (0, (0.8, 0.7), "The weights that it began with scored best and are used."),
        (2500, (0.0, 0.0), "No examination scored above 0, so the last weights, of step 2,500, are used."),
    ],
)
def test_it_tells_which_step_s_weights_are_used(trained, tmp_path, best_step, scores, sentence):
    exams = [
        {"step": step, "score": score, "classes": {}} for step, score in zip((0, 1875), scores, strict=True)
    ]
    folder = changed(trained, tmp_path, best_step=best_step, exams=exams)
    assert sentence in text_of(folder, trained.config)


def test_what_went_wrong_is_told_with_its_meaning_measure_and_remedy(page):
    assert "Memorisation samples copy training images augment more 0.62 limit 0.5 1,250" in page.text


def test_where_nothing_went_wrong_it_says_so(trained, tmp_path):
    assert text_of(trained.folder, trained.config).count("Nothing went wrong") == 3  # the specialists
    assert text_of(changed(trained, tmp_path, findings=[]), trained.config).count("Nothing went wrong") == 4


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_measure_that_is_no_number_and_a_remedy_that_was_not_taken_are_told(trained, tmp_path, value):
    found = {"detector": "divergence", "step": 50, "value": value, "threshold": 50.0, "remedy": "none"}
    text = text_of(changed(trained, tmp_path, findings=[found]), trained.config)
    assert "Divergence nothing: train.remedies is off not a number limit 50 50" in text


@pytest.mark.parametrize("name", DETECTORS)
def test_a_finding_carries_its_meaning_to_the_page(name):
    row = Finding(name, 10, 3.0, 1.0, "stop").to_dict()
    assert row["meaning"] == DETECTORS[name].meaning


def test_the_examination_shown_is_that_of_the_weights_in_use(trained):
    base = base_of(trained.folder, trained.config)
    record = json.loads((trained.folder / "train" / "base" / STEP_FILE).read_text())
    exam = record["summary"]["exams"][3]
    assert base.exam_step == exam["step"] == 1875
    assert [row.class_name for row in base.exam] == [str(digit) for digit in range(10)]
    assert dict(base.exam[3].values) == exam["classes"]["3"]


def test_every_class_of_the_examination_is_a_row_of_the_page(trained, page):
    captions = [attrs["id"] for attrs in page.all("caption") if attrs.get("id", "").startswith("exam-")]
    assert len(captions) == len(trained.plan.wanted) + 1
    assert re.search(r"\b3 68% 75% 90% 78% 1% 20% 1\.10 0\.98\b", page.text)


def test_a_table_of_many_classes_is_folded(build_run):
    _, few = page_of(build_run(names=["a", "b", "c", "d"]).through("train"))
    _, many = page_of(build_run(names=[f"class {k}" for k in range(30)]).through("train"))
    assert all("open" in attrs for attrs in few.all("details") if "id" not in attrs)
    assert not all("open" in attrs for attrs in many.all("details") if "id" not in attrs)


def test_curves_stand_in_the_plots_where_a_reader_looks_for_them(trained):
    plots = {plot.kind.title: plot for plot in base_of(trained.folder, trained.config).plots}
    assert list(plots) == [kind.title for kind in PLOTS]
    assert [curve.name for curve in plots["Examinations"].curves] == [
        *("score", "coverage", "diversity", "copies")
    ]
    right = plots["How often the discriminator is right"]
    assert [curve.name for curve in right.curves[:3]] == [
        *("training images called real", "held-out images called real", "fakes called real")
    ]


def test_a_discriminator_that_is_fooled_half_of_the_time_is_marked_and_explained(trained, page):
    assert "fooled half of the time, by fakes as often as not, has nothing left to teach" in page.text
    (right,) = (
        plot for plot in base_of(trained.folder, trained.config).plots if plot.kind.reference is not None
    )
    panel = figures.panel(right)
    at = re.search(r'class="reference" x1="0" x2="100" y1="([\d.]+)"', panel.svg)
    assert float(at[1]) == pytest.approx(20.0)  # half way between the lines of 0 and 100 %
    assert (panel.low, panel.high) == ("0%", "100%")


def test_only_plots_that_are_drawn_are_explained(trained, tmp_path):
    run = shutil.copytree(trained.folder, tmp_path / "run")
    for file in run.glob("train/*/curves.parquet"):
        table = pd.read_parquet(file)
        table[table["name"].str.endswith("_loss")].to_parquet(file)
    assert [kind.title for kind in collect(run, trained.config).plot_kinds] == ["Losses"]


def test_a_curve_that_no_plot_names_is_drawn_all_the_same():
    table = pd.DataFrame({"step": [1, 2], "name": "brand_new", "value": [0.1, 0.2]})
    (plot,) = sort_curves(table)
    assert (plot.kind.title, plot.curves[0].name) == ("Other", "brand new")


def test_curves_of_the_table_are_not_drawn_too():
    table = pd.DataFrame([(1, name, 0.5) for name in IN_TABLE], columns=["step", "name", "value"])
    assert sort_curves(table) == ()


def test_values_that_are_no_numbers_are_left_out():
    table = pd.DataFrame({"step": [1, 2, 3], "name": "r1", "value": [0.5, np.inf, np.nan]})
    ((curve,),) = (plot.curves for plot in sort_curves(table))
    assert curve.steps == (1.0,)


def test_long_and_wide_curves_are_drawn_alike():
    steps = np.arange(10)
    wide = pd.DataFrame({"step": steps, "generator_loss": steps / 7.0, "judge_score": np.nan})
    long = wide.melt("step", var_name="name", value_name="value")
    assert sort_curves(wide) == sort_curves(long)
    assert [plot.kind.title for plot in sort_curves(wide)] == ["Losses"]


def test_long_curves_are_thinned_and_keep_their_ends():
    steps = np.arange(0, 100_000, 7)
    ((curve,),) = (plot.curves for plot in sort_curves(pd.DataFrame({"step": steps, "r1": steps / 1.0})))
    assert len(curve.steps) == CURVE_POINTS
    assert curve.values[0] < 1000
    assert curve.values[-1] > 99_000


def test_a_flat_curve_is_drawn_without_dividing_by_zero():
    (plot,) = sort_curves(pd.DataFrame({"step": [5], "r1": [0.0]}))
    assert "nan" not in figures.panel(plot).svg


def test_runs_from_before_gans_were_watched_still_have_a_page(trained, tmp_path):
    folder = changed(trained, tmp_path, drop=NEW)
    base = base_of(folder, trained.config)
    assert (base.findings, base.exam, base.ending, base.weights) == (None, (), "", "")
    text = text_of(folder, trained.config)
    assert "Base, all classes" in text
    assert text.count("Nothing went wrong") == 3
