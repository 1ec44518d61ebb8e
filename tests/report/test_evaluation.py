"""The evaluation's part of the report: amounts, cost, arms, recalls and the verdict in plain words."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from support.evaluation import NOTHING, rewrite, without_synthetic_arm, write_tuning
from support.page import page_after, page_of

from ganaug.report.amounts import read_amounts
from ganaug.report.arena import Estimate, read_arena
from ganaug.report.collect import RECALLS_DRAWN, collect
from ganaug.report.cost import PHASES
from ganaug.report.plain import in_plain_words

BEFORE, AFTER = "oversampling+albumentations", "oversampling+albumentations+synthetic"


# Amounts


def test_gains_are_paired_with_no_synthetic_images(copied):
    write_tuning(copied / "evaluate", AFTER)
    table = pd.read_parquet(copied / "evaluate" / "tuning.parquet").query("what == 'synthetic'")
    wide = table.pivot_table(index=["fold", "seed"], columns="candidate", values="macro_f1")
    amounts = read_amounts(copied / "evaluate")
    assert (amounts.folds, amounts.seeds, len(amounts.candidates)) == (3, 2, 5)
    assert amounts.candidates[0].arm == NOTHING
    for one in amounts.candidates[1:]:
        name = one.arm if one.share is None else f"{one.arm} at {one.share:g}"
        assert one.score == pytest.approx(wide[name].mean())
        assert sorted(one.gains) == pytest.approx(sorted(wide[name] - wide[NOTHING]))
        assert one.gain == pytest.approx(wide[name].mean() - wide[NOTHING].mean())
    assert (amounts.chosen.arm, amounts.chosen.share) == (AFTER, 0.25)
    assert [one.is_chosen for one in amounts.strengths] == [False, True, False]


def test_the_plot_of_amounts_says_its_numbers(copied, finished, tmp_path):
    write_tuning(copied / "evaluate", AFTER)
    page = page_after(copied, finished.config, tmp_path)
    labels = [attrs["aria-label"] for _, attrs in page.elements if attrs.get("role") == "img"]
    told = next(label for label in labels if label.startswith("Gain in macro-F1"))
    (_, ones), *_ = read_amounts(copied / "evaluate").doses
    assert [one.share for one in ones] == [0.1, 0.25, 0.5]
    for one in ones:
        assert f"share {100 * one.share:g}%: {100 * one.gain:+.1f} points".replace("-", "\u2212") in told
    assert "Chosen: oversampling + albumentations + synthetic at a share of 25%" in page.text
    assert "oversampling + medium albumentations 9" in page.text
    assert "worse stopped" not in page.text
    assert "Ways without synthetic images" not in page.text


def test_the_ways_without_synthetic_images_that_were_tried_are_told(copied, finished, tmp_path):
    write_tuning(copied / "evaluate", AFTER)
    file = copied / "evaluate" / "tuning.parquet"
    ways = [("real", 0, 0.8), ("logit adjustment", 0, 0.9), ("logit adjustment", 1, 0.94)]
    more = [("baseline", name, fold, seed, level) for name, seed, level in ways for fold in range(3)]
    table = pd.read_parquet(file)
    pd.concat([table, pd.DataFrame(more, columns=table.columns)]).to_parquet(file)
    rewrite(copied / "evaluate" / "tuning.json", baseline="logit adjustment")
    found = {
        one.arm: (one.score, one.is_chosen, one.is_stopped)
        for one in read_amounts(copied / "evaluate").baselines
    }
    assert found == {
        "real": (pytest.approx(0.8), False, True),
        "logit adjustment": (pytest.approx(0.92), True, False),
    }
    text = page_after(copied, finished.config, tmp_path).text
    assert "Ways without synthetic images: real 80.0% (stopped), logit adjustment 92.0% (chosen)" in text
    assert "unless another is better by more than two standard errors" in text


def test_candidates_that_were_stopped_are_told_and_compared_on_what_they_had(copied, finished, tmp_path):
    write_tuning(copied / "evaluate", AFTER)
    file = copied / "evaluate" / "tuning.parquet"
    table = pd.read_parquet(file)
    name = f"{AFTER} at 0.5"
    is_gone = table["candidate"].isin([name, "oversampling+light albumentations"]) & (table["seed"] == 1)
    table[~is_gone].to_parquet(file)
    amounts = read_amounts(copied / "evaluate")
    assert [one.share for one in amounts.candidates if one.is_stopped] == [0.5]
    assert [one.arm for one in amounts.strengths if one.is_stopped] == ["oversampling+light albumentations"]
    first = table.query("seed == 0").pivot_table(index="fold", columns="candidate", values="macro_f1")
    stopped = next(one for one in amounts.candidates if one.is_stopped)
    assert stopped.gain == pytest.approx((first[name] - first[NOTHING]).mean())
    page = page_after(copied, finished.config, tmp_path)
    assert "2 classifier seeds each, the worse stopped before the last" in page.text
    assert page.text.count("(stopped)") == 2


def test_no_synthetic_images_can_be_what_was_chosen(copied, finished, tmp_path):
    write_tuning(copied / "evaluate", AFTER, chosen="")
    assert read_amounts(copied / "evaluate").chosen.arm == NOTHING
    assert f"Chosen: {NOTHING}" in page_after(copied, finished.config, tmp_path).text


def test_without_a_tuning_the_page_says_how_to_get_one(finished, report, tmp_path):
    assert report.amounts is None
    assert report.tuning_command == "ganaug run --evaluate.budget standard"
    page = page_after(finished.folder, finished.config, tmp_path)
    assert "No amounts were tried in this run" in page.text
    assert report.tuning_command in page.text


def test_a_tuning_of_strength_alone_is_told(copied, finished, tmp_path):
    write_tuning(copied / "evaluate", AFTER)
    file = copied / "evaluate" / "tuning.parquet"
    pd.read_parquet(file).query("what == 'strength'").to_parquet(file)
    page = page_after(copied, finished.config, tmp_path)
    assert "No use of synthetic images was tried" in page.text
    assert "(chosen)" in page.text


# Cost


def test_each_finished_step_is_counted_once(finished, report):
    records = [json.loads(file.read_text()) for file in finished.folder.rglob("step.json")]
    records = [record for record in records if record["step"] != "report"]
    making = sum(
        record["seconds"] for record in records if record["step"] in {"train", "export", "produce", "screen"}
    )
    assert report.costs.seconds() == pytest.approx(sum(record["seconds"] for record in records))
    assert report.costs.seconds("making") == pytest.approx(making)
    assert report.costs.seconds("measuring") == 55.0
    assert sum(phase.parts for phase in report.costs.phases) == len(records)
    assert report.costs.devices("making") == ("CPU",)
    assert len({phase.title for phase in PHASES}) == len(PHASES)


def test_a_gpu_is_told(copied, finished):
    for file in (copied / "train").rglob("step.json"):
        record = json.loads(file.read_text())
        rewrite(file, summary=record["summary"] | {"device": "cuda:0"})
    assert collect(copied, finished.config).costs.devices("making") == ("GPU",)


def test_a_shown_gain_has_a_price(report, finished, tmp_path):
    making, change = report.costs.seconds("making"), report.arena.changes[0].difference
    price = report.costs.price
    assert price.seconds_per_point == pytest.approx(making / (100 * change.value))
    assert price.low == pytest.approx(making / (100 * change.high))
    assert price.high == pytest.approx(making / (100 * change.low))
    assert "per point of macro-F1 gained" in page_after(finished.folder, finished.config, tmp_path).text


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("no difference", "No gain is shown, so no price per point."),
        ("cannot tell", "No gain is shown, so no price per point."),
        ("hurts", "They made the classifier worse, so the time bought no points."),
    ],
)
def test_a_gain_that_is_not_shown_has_none(copied, finished, tmp_path, verdict, words):
    rewrite(copied / "evaluate" / "verdict.json", verdict=verdict)
    page = page_after(copied, finished.config, tmp_path)
    assert words in page.text
    assert "per point of macro-F1 gained" not in page.text


def test_there_is_no_price_before_there_is_a_gain(build_run, copied, finished):
    run = build_run().through("assemble")
    assert collect(run.folder, run.config).costs.price.sentence.startswith("Not measured yet")
    without_synthetic_arm(copied)
    price = collect(copied, finished.config).costs.price
    assert price.sentence.startswith("No arm with synthetic images")
    assert price.seconds_per_point is None


def test_what_one_classifier_takes_is_told_where_it_was_recorded(copied, finished, report):
    assert report.costs.fit_before is None
    file = copied / "evaluate" / "scores.parquet"
    scores = pd.read_parquet(file)
    scores.assign(seconds=np.arange(len(scores), dtype=float)).to_parquet(file)
    costs = collect(copied, finished.config).costs
    assert (costs.fit_before, costs.fit_after) == (5.5, 9.5)


# The verdict, arms and recalls


@pytest.mark.parametrize(
    ("verdict", "words", "advised"),
    [
        ("helps", "more than chance explains", AFTER),
        ("hurts", "scores only", BEFORE),
        ("no difference", "smaller than 1 point, too small to matter", BEFORE),
        ("cannot tell", "only a difference of about 0.7 points would show", BEFORE),
    ],
)
def test_each_verdict_is_said_in_plain_words_with_what_to_do(report, verdict, words, advised):
    arena = replace(report.arena, verdict=verdict, smallest_visible=0.0071)
    plain = in_plain_words(arena)
    assert words in plain.sentence
    assert "93.5 of 100" in plain.sentence
    assert "91.5" in plain.sentence
    assert plain.arm == advised
    assert plain.meaning


def test_of_few_seeds_or_splits_it_is_said_that_more_would_tell(report):
    arena = replace(report.arena, verdict="cannot tell", smallest_visible=0.0071)
    assert arena.seeds == 4
    assert in_plain_words(arena).advice.startswith("Until more test images tell,")
    for more, changed in (
        ("classifier seeds", replace(arena, arms=tuple(map(_of_two_seeds, arena.arms)))),
        ("test splits", replace(arena, splits=2)),
    ):
        plain = in_plain_words(changed)
        assert plain.advice.startswith(f"Until more test images or {more} tell,")
        assert f"with these test images and so few {more} only a difference" in plain.sentence


def _of_two_seeds(arm):
    return replace(arm, measures=tuple(replace(one, seeds=one.seeds[:2]) for one in arm.measures))


def test_plain_words_doubt_a_change_whose_interval_holds_zero(report):
    sure, change = in_plain_words(report.arena), report.arena.change("rare_recall")
    assert sure.rare == "Of 100 images of a rare class it recognises 94 instead of 92."
    wide = replace(change, difference=Estimate(change.difference.value, -0.01, 0.05))
    changes = tuple(wide if one is change else one for one in report.arena.changes)
    assert in_plain_words(replace(report.arena, changes=changes)).rare.endswith("92, which may be chance.")


def test_the_plain_sentence_comes_before_the_numbers(finished, report, tmp_path):
    page = page_after(finished.folder, finished.config, tmp_path)
    places = [page.text.index(words) for words in (report.plain.sentence, report.plain.advice, "In numbers.")]
    assert places == sorted(places)
    assert page.text.index(report.arena.sentence) > places[-1]


def test_arms_are_ranked_by_their_macro_f1(report):
    means = [arm.measures[0].mean.value for arm in report.arena.ranked]
    assert means == sorted(means, reverse=True)
    assert report.arena.ranked[-1].name == "real"


def test_arms_and_recalls_have_their_intervals_as_text(finished, report, tmp_path):
    page = page_after(finished.folder, finished.config, tmp_path)
    assert "98.5% +2.0" not in page.text
    assert re.search(r"real 8\d\.\d% \u22127\.0 \(\u22129\.0 to \u22125\.0\)", page.text)
    for row in report.recall_changes:
        assert f"{100 * row.before:.1f}% → to {100 * row.after:.1f}%" in page.text
    assert "+2.0 (+1.2 to +2.8)" in page.text


def test_wanted_classes_come_first_in_the_plot_of_recalls_which_is_bounded(build_run, report):
    assert [row.is_wanted for row in report.recall_changes] == [True] * 3 + [False] * 7
    run = build_run(names=[f"class {number}" for number in range(40)], images=800).through("evaluate")
    _, page = page_of(run)
    assert len(collect(run.folder, run.config).recall_changes) == RECALLS_DRAWN
    assert f"{RECALLS_DRAWN} of 40 classes are drawn" in page.text


def test_arms_on_several_test_splits_are_paired_by_split_and_seed(copied, finished, tmp_path):
    folder = copied / "evaluate"
    scores = pd.read_parquet(folder / "scores.parquet")
    # The second split is harder for all alike: unpaired, that would drown the difference.
    harder = scores.assign(split=1, macro_f1=scores["macro_f1"] - 0.2)
    both = pd.concat([scores.assign(split=0), harder], ignore_index=True)
    # Rows need not stand in the same order for each arm.
    both.sample(frac=1.0, random_state=0).to_parquet(folder / "scores.parquet")
    classes = pd.read_parquet(folder / "per_class.parquet")
    pd.concat([classes.assign(split=0), classes.assign(split=1, recall=0.0)]).to_parquet(
        folder / "per_class.parquet"
    )
    rewrite(folder / "verdict.json", comparisons=[])
    arena = read_arena(folder, finished.config.evaluate)
    assert (arena.splits, arena.seeds) == (2, 4)
    own, best = (
        both[both["arm"] == arm].sort_values(["split", "seed"])["macro_f1"] for arm in ("real", BEFORE)
    )
    gaps = own.to_numpy() - best.to_numpy()
    real = next(arm for arm in arena.arms if arm.name == "real")
    assert real.difference.value == pytest.approx(gaps.mean())
    assert real.difference.high - real.difference.low < 0.05
    assert arena.recall_before[0] == pytest.approx(
        classes[classes["arm"].eq(BEFORE) & classes["class_id"].eq(0)]["recall"].mean() / 2
    )
    assert "4 classifier seeds on each of 2 test splits" in page_after(copied, finished.config, tmp_path).text
