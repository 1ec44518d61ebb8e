"""What settings ask for: counts of classes, and the units of work that they come to."""

import itertools
import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from support.productions import SCREENER, order

from ganaug.config import explain
from ganaug.errors import PathNotFoundError, SettingsError, UnknownClassError
from ganaug.produce import Production, planned, produce
from ganaug.produce.order import (
    AUTO_SHARD_BYTES,
    AUTO_SHARD_IMAGES,
    ClassOrder,
    apportion,
    counts_of,
    read_counts,
    shard_images,
    share,
    units,
)

ABLE = ("cat", "dog", "emu")
TRAINED = {"cat": 30, "dog": 10}


def counts(**settings):
    return counts_of(Production(**settings), ABLE, TRAINED)


def refusal(**settings) -> str:
    """What is said of settings that are no production."""
    with pytest.raises(ValidationError) as caught:
        Production(**settings)
    return "\n".join(explain(caught.value, Production))


def test_a_count_is_of_each_class():
    assert counts(count=7) == {"cat": 7, "dog": 7, "emu": 7}


def test_only_the_classes_that_are_named_get_images():
    assert counts(count=7, classes=("emu", "cat")) == {"cat": 7, "dog": 0, "emu": 7}


def test_with_a_mix_the_count_is_of_all_classes_together():
    assert counts(count=10, mix={"cat": 3, "dog": 1}) == {"cat": 8, "dog": 2, "emu": 0}
    assert sum(counts(count=101, mix={"cat": 1, "dog": 1, "emu": 1}).values()) == 101


def test_a_mix_may_be_that_of_the_training_images():
    assert counts(count=20, mix="trained") == {"cat": 15, "dog": 5, "emu": 0}


def test_classes_narrow_a_mix_down():
    assert counts(count=20, mix="trained", classes=("dog",)) == {"cat": 0, "dog": 20, "emu": 0}


def test_a_table_in_the_settings_says_all():
    assert counts(counts={"dog": 5, "cat": 0}) == {"cat": 0, "dog": 5, "emu": 0}


def test_class_names_that_yaml_reads_as_numbers_are_names():
    assert Production(counts={3: 5}).counts == {"3": 5}
    assert Production(count=1, mix={3: 1.5}).mix == {"3": 1.5}


PLAN = {
    "classes": [
        {"class_name": "cat", "deficit": 12, "is_wanted": True},
        {"class_name": "dog", "deficit": 0, "is_wanted": False},
        {"class_name": "emu", "deficit": 3, "is_wanted": True},
    ]
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bare.csv", "cat,12\nemu,3\n"),
        ("headed.csv", "class,count\ncat,12\n\n emu , 3 \n"),
        ("marked.csv", "\ufeffcat,12\nemu,3\n"),
        ("quoted.csv", '"cat",12\n"emu",3\n'),
        ("counts.json", '{"cat": 12, "emu": 3}'),
        ("counts.yaml", "cat: 12\nemu: 3\n"),
        ("counts.yml", "{cat: 12, emu: 3}"),
        ("plan.json", json.dumps(PLAN)),
    ],
)
def test_counts_come_from_tables_of_every_kind(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_counts(tmp_path / name) == {"cat": 12, "emu": 3}


def test_numbers_as_class_names_are_read_from_tables(tmp_path):
    (tmp_path / "a.yaml").write_text("3: 12\n8: 3\n")
    (tmp_path / "b.csv").write_text("3,12\n8,3\n")
    assert read_counts(tmp_path / "a.yaml") == read_counts(tmp_path / "b.csv") == {"3": 12, "8": 3}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", ""),
        ("a.csv", "cat\n"),
        ("a.csv", "cat,many\ndog,few\n"),
        ("a.csv", "cat,1.5\n"),
        ("a.json", "[1, 2]"),
        ("a.json", "{"),
        ("a.json", '{"classes": [{"class_name": "cat"}]}'),
        ("a.yaml", "cat: [1]"),
        ("a.yaml", "a: b: c"),
        ("a.yaml", ""),
        ("a.yaml", "cat: many"),
        ("a.json", '{"cat": -5}'),
        ("a.csv", "cat,5\ndog,-5\n"),
        ("a.json", '{"cat": 1.5}'),
        ("a.csv", "cat,5\ncat,7\n"),
    ],
)
def test_what_is_no_table_of_counts_is_refused_with_an_example(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match=r"counts: .*a\.\w+ is no table of class and count.*`cat,100`"):
        read_counts(tmp_path / name)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PathNotFoundError, match=r"table of counts '.*gone\.csv' does not exist"):
        read_counts(tmp_path / "gone.csv")


@pytest.mark.parametrize("total", [1, 2, 7, 100, 12345])
@pytest.mark.parametrize("shares", [(1, 1, 1), (0.5, 0.25, 0.25), (1e-9, 1, 0), (3, 0, 7), (1 / 3, 1 / 7, 1)])
def test_apportioned_counts_add_up_and_are_within_one_of_their_share(total, shares):
    parts = apportion(total, dict(enumerate(shares)))
    assert sum(parts.values()) == total
    for number, part in parts.items():
        exact = total * shares[number] / sum(shares)
        assert abs(part - exact) < 1
        assert part == 0 or shares[number] > 0


def test_a_mix_of_nothing_is_refused():
    with pytest.raises(SettingsError, match="mix: no class has a share above 0"):
        counts(count=5, mix={"cat": 0})
    with pytest.raises(SettingsError, match="mix: no class has a share above 0"):
        counts_of(Production(count=5, mix="trained"), ABLE, {})


def test_a_class_that_the_model_does_not_make_is_refused_with_those_that_it_does():
    for settings in (
        {"count": 5, "classes": ("yak",)},
        {"counts": {"yak": 5}},
        {"count": 5, "mix": {"yak": 1}},
        {"count": 5, "mix": {"cat": 1}, "classes": ("cat", "yak")},
    ):
        with pytest.raises(UnknownClassError, match=r"'yak'.*'cat', 'dog', 'emu'"):
            counts(model="tiny", **settings)


def test_settings_that_come_to_no_image_are_refused():
    with pytest.raises(SettingsError, match="no image of any class"):
        counts(counts={"cat": 0})


def test_settings_without_a_count_say_how_to_give_one():
    with pytest.raises(SettingsError, match="Give --count N, --counts TABLE or --kept N"):
        counts(classes=("cat",))


def test_settings_without_a_place_or_a_model_say_how_to_give_one(tiny_model, tmp_path):
    with pytest.raises(SettingsError, match=r"Give --out FOLDER or --out s3://bucket/path"):
        produce(order(tiny_model, "", count=5))
    for do in (produce, planned):
        with pytest.raises(SettingsError, match="Give --model NAME or --run-dir FOLDER"):
            do(order("", tmp_path / "out", count=5))
    assert not (tmp_path / "out").exists()


def test_a_plan_lists_what_would_be_made_and_makes_nothing(tiny_model, tmp_path):
    asked = order(tiny_model, tmp_path / "out", counts={"emu": 2, "cat": 5, "dog": 0})
    assert planned(asked) == {"cat": 5, "emu": 2}
    assert not (tmp_path / "out").exists()


GOES_WITH = {
    "count": {"count": 5},
    "mix": {"count": 5, "mix": {"cat": 1}},
    "classes": {"count": 5, "classes": ("cat",)},
    "counts": {"counts": {"cat": 5}},
}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(GOES_WITH, 2)))
def test_ways_to_give_counts_that_say_the_same_twice_are_refused(one, other):
    settings = GOES_WITH[one] | GOES_WITH[other]
    if "counts" in settings:
        assert "counts says all; it goes with neither count, mix nor classes" in refusal(**settings)
    else:
        Production(**settings)


@pytest.mark.parametrize("settings", [{"mix": {"cat": 1}}, {"mix": {"cat": 1}, "classes": ("cat",)}])
def test_counts_go_with_neither_mix_nor_classes_even_without_a_count(settings):
    assert "counts says all" in refusal(counts={"cat": 5}, **settings)
    assert "mix needs count: images of all classes together" in refusal(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"parts": 2, "part": 3}, "there is no part 3 of 2"),
        ({"part": 2}, "there is no part 2 of 1"),
        ({"count": 5, "until_kept": True}, "until_kept needs a screener: without one every image is kept"),
        ({"images": "there"}, "images to screen need a screener"),
        ({"mix": "trained"}, "mix needs count: images of all classes together"),
        ({"format": "npz", "encoding": "png"}, "npz holds arrays: it takes no encoding"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_with_the_reason(settings, said):
    assert said in refusal(**settings)


def test_all_that_does_not_fit_together_is_said_at_once():
    said = refusal(
        part=5,
        until_kept=True,
        images="there",
        counts={"cat": 1},
        mix={"cat": 1},
        format="npz",
        encoding="raw",
    )
    for problem in ("no part 5 of 1", "until_kept needs", "images to screen", "counts says all", "npz holds"):
        assert problem in said


@pytest.mark.parametrize(
    "settings",
    [
        {"part": 3, "parts": 3},
        {"count": 5, "until_kept": True, "screener": SCREENER},
        {"images": Path("there"), "screener": SCREENER},
        {"count": 5, "mix": {"cat": 1}, "classes": ("cat",)},
        {"format": "npz", "encoding": "auto"},
    ],
    ids=str,
)
def test_settings_that_fit_together_are_taken(settings):
    taken = Production(**settings)
    assert {name: getattr(taken, name) for name in settings} == settings


@pytest.mark.parametrize(
    "settings",
    [
        {"count": 0},
        {"counts": {"cat": -1}},
        {"mix": {"cat": -1}, "count": 5},
        {"mix": "all", "count": 5},
        {"max_tries": 0.5},
        {"format": "zip"},
        {"encoding": "gif"},
        {"quality": 0},
        {"quality": 101},
        {"shard_images": 0},
        {"shard_images": "many"},
        {"parts": 0},
        {"part": -1},
        {"seed": -1},
        {"truncation": 0},
        {"truncation": 1.1},
        {"device": "tpu"},
        {"batch": 0},
        {"workers": 0},
        {"threads": -1},
        {"precision": "int8"},
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused_by_its_name(settings):
    assert refusal(**settings).startswith(next(iter(settings)))


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize(("wanted", "size"), [(1, 4), (4, 4), (10, 4), (100, 1), (5, 100)])
def test_the_units_of_all_parts_hold_each_index_once(wanted, size, parts):
    asked = ClassOrder(1, "dog", wanted, wanted, "")
    found = [unit for part in range(parts) for unit in units(asked, size, part, parts)]
    indices = sorted(index for unit in found for index in range(unit.start, unit.start + unit.count))
    assert indices == list(range(wanted))
    assert len({unit.name for unit in found}) == len(found) == -(-wanted // size)


def test_a_unit_is_the_same_whatever_the_number_of_parts():
    asked = ClassOrder(1, "dog", 50, 50, "")
    whole = {unit.number: unit for unit in units(asked, 4, 0, 1)}
    for parts in (2, 5, 20):
        for part in range(parts):
            for unit in units(asked, 4, part, parts):
                assert unit == whole[unit.number]


@pytest.mark.parametrize("until_kept", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_the_shares_of_all_parts_add_up_to_the_order(parts, until_kept):
    asked = ClassOrder(1, "dog", 50, 200 if until_kept else 50, "")
    shares = [share(asked, 4, part, parts, until_kept=until_kept).wanted for part in range(parts)]
    assert sum(shares) == 50


HOSTILE = ("a/b", "..", ".", "", "ü", "CON", 'x"|\n', "-", "a" * 300, "a b", "a-b", "000-a")


def test_hostile_class_names_give_units_of_different_plain_names():
    names = [
        unit.name
        for class_id, name in enumerate(HOSTILE)
        for unit in units(ClassOrder(class_id, name, 20, 20, ""), 4, 0, 1)
    ]
    assert len({name.casefold() for name in names}) == len(HOSTILE) * 5
    for name in names:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert name[:3].isdecimal()
        assert len(name) < 100


def test_large_images_go_into_smaller_shards_unless_a_number_is_set():
    assert shard_images(Production(), (8, 8, 1)) == AUTO_SHARD_IMAGES
    assert 100 < shard_images(Production(), (256, 256, 3)) <= AUTO_SHARD_BYTES / (256 * 256 * 3)
    assert shard_images(Production(), (10_000, 10_000, 3)) == 1
    assert shard_images(Production(shard_images=5), (256, 256, 3)) == 5
