"""A production that is there is gone on with: what is right stays, what is not is made again."""

import json
import shutil

import pytest
from support.productions import SCREENER, SmallScreener, order, tree, with_small_screener

from ganaug.errors import OutputError, SettingsError
from ganaug.formats import FORMATS
from ganaug.places import PART
from ganaug.produce import manifest, produce

COUNTS = {"cat": 70, "emu": 41}
SECOND = {
    "npz": "data/000-cat-00001.npz",
    "parquet": "data/000-cat-00001.parquet",
    "webdataset": "data/000-cat-00001.tar",
    "folder": "data/cat/000000020.png",
}
"""A file of the second shard of cat."""


@pytest.fixture(params=FORMATS)
def name(request):
    """Every format."""
    return request.param


@pytest.fixture(params=[None, SCREENER], ids=["all", "screened"])
def screener(request, small_screener):
    """With a screen and without."""
    return request.param


def written(folder):
    """When every file was written, apart from what is written at the end of every call."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino)
        for part in ("data", "manifest")
        for path in (folder / part).rglob("*")
        if path.is_file()
    }


def rewritten(before, after):
    """Files that a call wrote again."""
    return {path for path in after if before.get(path) != after[path]}


def test_a_second_call_makes_and_writes_nothing(tiny_model, out, name, screener):
    asked = order(tiny_model, out, counts=COUNTS, format=name, screener=screener)
    first = produce(asked)
    held, times = tree(out), written(out)
    second = produce(asked)
    assert (first.made, second.made) == (111, 0)
    assert second.classes.keys() == first.classes.keys()
    assert [tally.plain() for tally in second.classes.values()] == [t.plain() for t in first.classes.values()]
    assert tree(out) == held
    assert written(out) == times


SPOIL = {
    "gone": lambda path: path.unlink(),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "altered": lambda path: path.write_bytes(
        path.read_bytes()[:-9] + bytes([path.read_bytes()[-9] ^ 1]) + path.read_bytes()[-8:]
    ),
}


@pytest.mark.parametrize(
    ("what", "spoil"),
    [("shard", spoil) for spoil in SPOIL] + [("piece", spoil) for spoil in ("gone", "cut")],
)
def test_what_is_missing_or_damaged_is_made_again_and_nothing_else_is(
    tiny_model, out, name, screener, what, spoil
):
    asked = order(tiny_model, out, counts=COUNTS, format=name, screener=screener)
    produce(asked)
    held = tree(out)
    piece = "manifest/000-cat-00001.parquet"
    file = SECOND[name] if what == "shard" else piece
    if screener and name == "folder" and what == "shard":
        file = next(path for path in held if path.startswith("data/cat/") and 16 <= int(path[9:-4]) < 32)
    SPOIL[spoil](out / file)
    times = written(out)
    result = produce(asked)
    assert result.made == 16
    assert tree(out) == held
    assert {path for path in rewritten(times, written(out)) if "manifest" in path} == {piece}
    assert len(rewritten(times, written(out))) <= (17 if name == "folder" else 2)


@pytest.mark.parametrize("changed", [70, 64, 20, 3], ids=str)
def test_fewer_images_leave_what_they_would_in_an_empty_place(tiny_model, tmp_path, name, screener, changed):
    settings = {"format": name, "screener": screener}
    produce(order(tiny_model, tmp_path / "used", counts=COUNTS, **settings))
    times = written(tmp_path / "used")
    result = produce(order(tiny_model, tmp_path / "used", counts={"cat": changed}, **settings))
    produce(order(tiny_model, tmp_path / "empty", counts={"cat": changed}, **settings))
    assert tree(tmp_path / "used") == tree(tmp_path / "empty")
    # Shards that are full in both stay; the last one is made again where it changed.
    assert result.made == (0 if changed == 70 else changed % 16)
    kept = {f"manifest/000-cat-{number:05d}.parquet" for number in range(changed // 16)}
    assert not kept & rewritten(times, written(tmp_path / "used"))


@pytest.mark.parametrize("changed", [71, 80, 120], ids=str)
def test_more_images_keep_the_full_shards(tiny_model, tmp_path, name, screener, changed):
    settings = {"format": name, "screener": screener}
    produce(order(tiny_model, tmp_path / "used", counts={"cat": 70}, **settings))
    times = written(tmp_path / "used")
    result = produce(order(tiny_model, tmp_path / "used", counts={"cat": changed}, **settings))
    assert result.made == changed - 64
    kept = {f"manifest/000-cat-{number:05d}.parquet" for number in range(4)}
    assert not kept & rewritten(times, written(tmp_path / "used"))
    produce(order(tiny_model, tmp_path / "empty", counts={"cat": changed}, **settings))
    assert tree(tmp_path / "used") == tree(tmp_path / "empty")


def test_what_a_killed_process_left_half_does_not_matter(tiny_model, tmp_path, name):
    produce(order(tiny_model, tmp_path / "calm", counts=COUNTS, format=name))
    used = tmp_path / "used"
    used.mkdir()
    (used / f"production.json{PART}").write_bytes(b"half")
    produce(order(tiny_model, used, counts={"cat": 16}, format=name))
    for file in (SECOND[name], "manifest/000-cat-00001.parquet", "production.json", "README.md"):
        (used / f"{file}{PART}").write_bytes(b"half")
    assert produce(order(tiny_model, used, counts=COUNTS, format=name)).made == 95
    finished = {path: held for path, held in tree(used).items() if not path.endswith(PART)}
    assert finished == tree(tmp_path / "calm")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 6}, "seed: 0 there, 6 asked"),
        ({"truncation": 0.5}, "truncation: 1.0 there, 0.5 asked"),
        ({"format": "parquet"}, '"format": "npz".* there, .*"format": "parquet".* asked'),
        ({"shard_images": 32}, '"shard_images": 16.* there, .*"shard_images": 32.* asked'),
        ({"parts": 2}, "parts: 1 there, 2 asked"),
        ({"screener": SCREENER}, '"screener_sha256": null.* there, .*"screener_sha256": "555.* asked'),
    ],
    ids=str,
)
def test_another_production_at_the_same_place_is_refused_with_what_differs(
    tiny_model, out, small_screener, changes, said
):
    produce(order(tiny_model, out, counts=COUNTS))
    held = tree(out)
    with pytest.raises(SettingsError, match=f"holds another production .*{said}.*choose another --out"):
        produce(order(tiny_model, out, counts=COUNTS, **changes))
    assert tree(out) == held


def test_another_screener_or_another_way_to_count_is_refused(tiny_model, out, monkeypatch):
    with_small_screener(monkeypatch)
    produce(order(tiny_model, out, counts=COUNTS, screener=SCREENER))
    with pytest.raises(SettingsError, match="until_kept: false there, true asked"):
        produce(order(tiny_model, out, counts=COUNTS, screener=SCREENER, until_kept=True))
    with_small_screener(monkeypatch, SmallScreener(sha256="6" * 64))
    with pytest.raises(SettingsError, match=r"555.* there, .*666.* asked"):
        produce(order(tiny_model, out, counts=COUNTS, screener=SCREENER))


@pytest.mark.parametrize(
    "change", [{"class_names": ("dog", "cat", "emu")}, {"image_shape": (8, 8, 3)}], ids=str
)
def test_a_screener_of_another_dataset_is_refused(tiny_model, out, monkeypatch, change):
    with_small_screener(monkeypatch, SmallScreener(**change))
    with pytest.raises(SettingsError, match="take the screener of the run that trained the model"):
        produce(order(tiny_model, out, counts=COUNTS, screener=SCREENER))
    assert not (out / "production.json").exists()


def test_images_of_another_model_at_the_same_place_are_refused(tiny_model, write_model, tmp_path, out):
    produce(order(tiny_model, out, counts=COUNTS))
    held = tree(out)
    write_model(tmp_path / "another", seed=1)
    with pytest.raises(SettingsError, match=r"holds another production .*model.*choose another --out"):
        produce(order(tmp_path / "another", out, counts=COUNTS))
    assert tree(out) == held


def test_the_same_model_under_another_name_goes_on(tiny_model, tmp_path, out):
    produce(order(tiny_model, out, counts=COUNTS))
    shutil.copytree(tiny_model, tmp_path / "copy")
    assert produce(order(tmp_path / "copy", out, counts=COUNTS)).made == 0


def test_another_licence_changes_the_card_alone(tiny_model, out):
    produce(order(tiny_model, out, counts=COUNTS))
    times = written(out)
    assert produce(order(tiny_model, out, counts=COUNTS, license="mit")).made == 0
    assert written(out) == times
    assert (out / "README.md").read_text().startswith("---\nlicense: mit\n")
    assert json.loads((out / "production.json").read_text())["license"] == "mit"


@pytest.mark.parametrize(
    "file", ["data/photo.png", "data/cat/photo.png", "manifest/own.parquet", "README.md"]
)
def test_a_folder_that_something_else_wrote_is_refused_and_left_alone(tiny_model, out, name, file):
    (out / file).parent.mkdir(parents=True)
    (out / file).write_bytes(b"mine")
    with pytest.raises(SettingsError, match="is not a production of ganaug; choose another --out"):
        produce(order(tiny_model, out, counts=COUNTS, format=name))
    assert tree(out) == {file: b"mine"}


def test_an_empty_folder_is_as_good_as_none(tiny_model, out):
    out.mkdir()
    assert produce(order(tiny_model, out, counts=COUNTS)).is_finished


def test_a_damaged_description_is_named_with_what_to_do(tiny_model, out):
    produce(order(tiny_model, out, counts=COUNTS))
    (out / "production.json").write_text("{")
    with pytest.raises(OutputError, match=r"production\.json is damaged .*; delete it"):
        produce(order(tiny_model, out, counts=COUNTS))


def test_a_place_that_cannot_be_made_is_a_clear_error(tiny_model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write to .*file/out: Not a directory"):
        produce(order(tiny_model, tmp_path / "file" / "out", counts=COUNTS))
    assert (tmp_path / "file").read_text() == "in the way"


def test_progress_only_rises_and_ends_with_all(tiny_model, out, screener):
    for parts in (1, 3):
        told = []
        asked = order(tiny_model, out / str(parts), counts=COUNTS, parts=parts, screener=screener)
        produce(asked, lambda done, total, told=told: told.append((done, total)))
        assert told == sorted(told)
        assert {total for _, total in told} == {111}
        assert told[-1] == (111, 111)


@pytest.mark.parametrize(("changed", "parts"), [(60, 1), (20, 2), (3, 1)])
def test_other_counts_after_a_death_leave_no_file_that_no_manifest_names(
    tiny_model, tmp_path, name, screener, monkeypatch, changed, parts
):
    settings = {"format": name, "screener": screener, "parts": parts}
    write, left = manifest.write_piece, 3

    def dying(place, unit, piece, columns):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("died between a shard and its piece")
        write(place, unit, piece, columns)

    monkeypatch.setattr(manifest, "write_piece", dying)
    with pytest.raises(OSError, match="died between"):
        produce(order(tiny_model, tmp_path / "used", counts={"cat": 100}, **settings))
    monkeypatch.setattr(manifest, "write_piece", write)
    produce(order(tiny_model, tmp_path / "used", counts={"cat": changed}, **settings))
    produce(order(tiny_model, tmp_path / "empty", counts={"cat": changed}, **settings))
    assert tree(tmp_path / "used") == tree(tmp_path / "empty")
