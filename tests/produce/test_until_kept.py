"""With `until_kept` the counts are of images kept: exactly so many, or an honest end."""

import sys

import pytest
from support.productions import SCREENER, SmallScreener, manifest_rows, order, tree, with_small_screener

from ganaug import cli
from ganaug.formats import FORMATS
from ganaug.produce import produce, reproduce

COUNTS = {"cat": 30, "emu": 17}
STINGY = SmallScreener(most_of_a_cluster=4)
"""No class gets more than 16 images past it."""


@pytest.fixture(autouse=True)
def _screen(small_screener):
    pass


def asked(model, out, **changes):
    return order(model, out, **{"counts": COUNTS, "screener": SCREENER, "until_kept": True, **changes})


def kept(folder):
    """Index of every image kept, by class."""
    found = {}
    for row in manifest_rows(folder):
        if row["kept"]:
            found.setdefault(row["class_name"], []).append(row["index"])
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_exactly_as_many_are_kept_as_are_wanted(model, out, name):
    result = produce(asked(model, out, format=name))
    assert {name: len(indices) for name, indices in kept(out).items()} == COUNTS
    assert result.unfilled == ()
    for tally in result.classes.values():
        assert tally.kept == tally.wanted
        assert tally.tried == tally.kept + sum(tally.rejected.values())


def test_the_images_kept_are_the_first_that_a_screen_lets_pass(model, tmp_path):
    produce(asked(model, tmp_path / "kept"))
    produce(asked(model, tmp_path / "tried", counts={"cat": 200, "emu": 200}, until_kept=False))
    passed = kept(tmp_path / "tried")
    for name, indices in kept(tmp_path / "kept").items():
        assert indices == passed[name][: COUNTS[name]]
    # Nothing was tried after the last one.
    last = {name: indices[-1] for name, indices in kept(tmp_path / "kept").items()}
    assert {row["class_name"]: row["index"] for row in manifest_rows(tmp_path / "kept")} == last


@pytest.mark.parametrize("changes", [{"batch": 1}, {"batch": 64, "workers": 4}, {"workers": 1}], ids=str)
def test_how_it_is_made_changes_no_file(tiny_model, tmp_path, changes):
    produce(asked(tiny_model, tmp_path / "one"))
    produce(asked(tiny_model, tmp_path / "other", **changes))
    assert tree(tmp_path / "one") == tree(tmp_path / "other")


def test_a_class_that_cannot_be_filled_ends_after_its_tries(tiny_model, out, monkeypatch):
    with_small_screener(monkeypatch, STINGY)
    result = produce(asked(tiny_model, out, max_tries=5))
    assert result.unfilled == ("cat", "emu")
    assert result.is_finished
    assert result.classes["cat"].tried == 150
    assert 4 <= result.classes["cat"].kept <= 16
    assert result.classes["dog"].is_filled
    assert produce(asked(tiny_model, out, max_tries=5)).made == 0


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2)])
def test_more_or_fewer_tries_leave_what_they_would_in_an_empty_place(
    tiny_model, tmp_path, monkeypatch, name, before, after
):
    with_small_screener(monkeypatch, STINGY)
    produce(asked(tiny_model, tmp_path / "used", max_tries=before, format=name))
    produce(asked(tiny_model, tmp_path / "used", max_tries=after, format=name))
    produce(asked(tiny_model, tmp_path / "empty", max_tries=after, format=name))
    assert tree(tmp_path / "used") == tree(tmp_path / "empty")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("changed", [{"cat": 60, "emu": 17}, {"cat": 8, "emu": 60}, {"cat": 1}], ids=str)
def test_other_numbers_leave_what_they_would_in_an_empty_place(tiny_model, tmp_path, name, changed):
    produce(asked(tiny_model, tmp_path / "used", format=name))
    produce(asked(tiny_model, tmp_path / "used", counts=changed, format=name))
    produce(asked(tiny_model, tmp_path / "empty", counts=changed, format=name))
    assert tree(tmp_path / "used") == tree(tmp_path / "empty")


def test_a_larger_number_keeps_the_shards_before_the_last(tiny_model, out):
    first = produce(asked(tiny_model, out, counts={"cat": 30}))
    full = first.classes["cat"].tried // 16 * 16
    second = produce(asked(tiny_model, out, counts={"cat": 60}))
    assert second.made == second.classes["cat"].tried - full


@pytest.mark.parametrize("shard", [0, 1, 2])
def test_a_shard_that_is_missing_is_made_again_and_nothing_else_is(tiny_model, out, shard):
    result = produce(asked(tiny_model, out, counts={"cat": 30}))
    held = tree(out)
    (out / f"data/000-cat-{shard:05d}.npz").unlink()
    again = produce(asked(tiny_model, out, counts={"cat": 30}))
    assert again.made == min(16, result.classes["cat"].tried - 16 * shard)
    assert tree(out) == held


@pytest.mark.parametrize("turns", [None, (1, 2, 3), (3, 1, 2)], ids=str)
def test_parts_reach_the_number_together_in_any_order(tiny_model, tmp_path, turns):
    whole = asked(tiny_model, tmp_path / "one", parts=3)
    produce(whole)
    for part in turns or (0,):
        result = produce(asked(tiny_model, tmp_path / "other", parts=3, part=part))
    assert result.is_finished
    assert {name: len(indices) for name, indices in kept(tmp_path / "other").items()} == COUNTS
    assert tree(tmp_path / "one") == tree(tmp_path / "other")


def test_parts_that_were_done_with_other_tries_do_not_count(tiny_model, out, monkeypatch):
    with_small_screener(monkeypatch, STINGY)
    produce(asked(tiny_model, out, parts=2, max_tries=2))
    assert not produce(asked(tiny_model, out, parts=2, part=1, max_tries=4)).is_finished
    assert produce(asked(tiny_model, out, parts=2, part=2, max_tries=4)).is_finished


def test_fewer_images_wanted_than_there_are_parts_is_no_trouble(tiny_model, out):
    result = produce(asked(tiny_model, out, counts={"cat": 2}, parts=5))
    assert result.classes["cat"].kept == 2
    assert result.unfilled == ()


def test_rows_after_a_shard_that_ended_early_are_made_again_too(tiny_model, out):
    produce(asked(tiny_model, out))
    rows = manifest_rows(out)
    for number in (number for number, row in enumerate(rows) if row["kept"]):
        found = reproduce(out, number, device="cpu")
        assert (found.row, found.is_same) == (rows[number], True)


def test_progress_counts_images_kept(tiny_model, out):
    told = []
    produce(asked(tiny_model, out), lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (47, 47)


def test_the_command_ends_with_3_and_names_the_class_its_images_and_its_tries(
    tiny_model, out, monkeypatch, capsys
):
    with_small_screener(monkeypatch, STINGY)
    words = ["--model", str(tiny_model), "--out", str(out), "--kept", "30", "--classes", "cat,dog"]
    words += ["--screener", "any", "--max-tries", "5", "--device", "cpu", "--shard-images", "16"]
    monkeypatch.setattr(sys, "argv", ["ganaug", "produce", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 3
    said = " ".join(capsys.readouterr().err.split())
    count = len(kept(out)["cat"])
    assert f"class cat could not be filled: {count} of 30 kept after 150 tries" in said
    assert "mostly because of: label" in said
    assert "Raise --max-tries" in said
    assert "class dog could not be filled" in said
    assert "emu" not in said
