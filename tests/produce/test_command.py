"""`ganaug produce` and `ganaug reproduce` as a user has them."""

import inspect
import io
import re
import sys

import numpy as np
import pytest
from PIL import Image
from support.productions import SCREENER, images_of, manifest_rows, order, tree

from ganaug import cli, cli_production
from ganaug.generate import Generator
from ganaug.produce import produce


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """A working directory with nothing in it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def ganaug(monkeypatch, capsys):
    """Give a command; returns its exit code, and what it said on both outputs, in one line."""

    def give(*words):
        monkeypatch.setattr(sys, "argv", ["ganaug", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        return code, " ".join(said.out.split()), " ".join(said.err.split())

    return give


def test_it_shows_a_table_and_where_the_images_are(ganaug, out):
    code, said, wrong = ganaug("produce", "--model", "digits@1", "--counts", "3=50,8=20", "--out", out)
    assert (code, wrong) == (0, "")
    assert re.search(r"class .* wanted .* tried .* kept", said)
    assert re.search(r"│ 3 │ 50 │ 50 │ 50 │", said)
    assert re.search(r"│ 8 │ 20 │ 20 │ 20 │", said)
    assert "│ 5 │" not in said
    assert re.search(r"70 tried in [\d.]+ s, [\d,]+ images/s \(\d+ calls at a time", said)
    assert f"in {out}" in said
    generator = Generator.open("digits@1", device="cpu")
    wanted = {("3", index): image.tobytes() for index, image in enumerate(generator.sample("3", 50))}
    assert wanted.items() <= images_of(out).items()


def test_the_same_command_again_says_that_nothing_was_to_do(ganaug, tiny_model, out):
    words = ["produce", "--model", tiny_model, "--count", "5", "--out", out]
    ganaug(*words)
    held = tree(out)
    code, said, _ = ganaug(*words)
    assert code == 0
    assert "nothing was to do: all of it was there" in said
    assert tree(out) == held


def test_every_option_reaches_the_production(ganaug, tiny_model, tmp_path, out, small_screener):
    words = (
        f"--counts cat=9,emu=4 --until-kept --max-tries 30 --screener {SCREENER} --format folder --encoding raw "
        "--seed 7 --truncation 0.5 --shard-images 8 --batch 4 --workers 1 --threads 1 --license mit --device cpu"
    ).split()
    assert ganaug("produce", "--model", tiny_model, "--out", out, *words)[0] == 0
    wanted = order(
        tiny_model,
        tmp_path / "wanted",
        counts={"cat": 9, "emu": 4},
        until_kept=True,
        max_tries=30,
        format="folder",
        encoding="raw",
        seed=7,
        truncation=0.5,
        shard_images=8,
        license="mit",
        screener=SCREENER,
    )
    produce(wanted)
    assert tree(out) == tree(tmp_path / "wanted")


def test_kept_is_a_count_of_images_kept(ganaug, tiny_model, out, small_screener):
    words = ["--kept", "9", "--classes", "cat,emu", "--screener", SCREENER, "--device", "cpu"]
    assert ganaug("produce", "--model", tiny_model, "--out", out, *words)[0] == 0
    kept = [row["class_name"] for row in manifest_rows(out) if row["kept"]]
    assert kept == ["cat"] * 9 + ["emu"] * 9


def test_a_mix_and_a_table_are_understood(ganaug, tiny_model, tmp_path, out):
    ganaug("produce", "--model", tiny_model, "--out", out / "mix", "--count", "12", "--mix", "cat=2,dog=1")
    (tmp_path / "table.csv").write_text("class,count\ncat,8\ndog,4\n")
    ganaug("produce", "--model", tiny_model, "--out", out / "table", "--counts", tmp_path / "table.csv")
    assert tree(out / "mix") == tree(out / "table")
    assert len(manifest_rows(out / "mix")) == 12


def test_shards_of_the_work_come_together(ganaug, tiny_model, tmp_path, out):
    words = ["produce", "--model", tiny_model, "--count", "40", "--shard-images", "8", "--device", "cpu"]
    code, said, _ = ganaug(*words, "--out", out, "--shard", "2/2")
    assert code == 0
    assert "this part is done; other parts are not yet" in said
    code, said, _ = ganaug(*words, "--out", out, "--shard", "1/2")
    assert code == 0
    assert "not yet" not in said
    ganaug(*words, "--out", tmp_path / "whole", "--parts", "2")
    assert tree(out) == tree(tmp_path / "whole")


def test_a_dry_run_lists_what_would_be_made_and_writes_nothing(ganaug, tiny_model, tmp_path, out):
    before = tree(tmp_path)
    for words in (["--out", out], []):
        code, said, wrong = ganaug(
            "produce", "--model", tiny_model, "--counts", "cat=1200,emu=4", "--dry-run", *words
        )
        assert (code, wrong) == (0, "")
        assert re.search(r"cat \S 1,200", said)
        assert re.search(r"emu \S 4", said)
        assert "dog" not in said
    assert tree(tmp_path) == before
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", r"Give --count N, --counts TABLE or --kept N"),
        ("--count 5 --kept 5", r"--count and --kept: one of them"),
        ("--kept 5", r"until_kept needs a screener"),
        ("--count 5 --counts cat=5", r"counts says all"),
        ("--mix cat=1", r"mix needs count"),
        ("--counts cat=many", r"--counts 'cat=many': wanted is class=number,class=number"),
        ("--count 5 --mix cat=x", r"--mix 'cat=x': wanted is class=number,class=number"),
        ("--count 5 --mix cat", r"--mix 'cat': wanted is class=number,class=number"),
        ("--counts cat=5,dog", r"--counts 'cat=5,dog': wanted is class=number,class=number"),
        ("--counts cat=5,cat=6", r"--counts 'cat=5,cat=6': a class stands there twice"),
        ("--counts gone.csv", r"table of counts 'gone.csv' does not exist"),
        ("--counts cat=-5", r"counts"),
        ("--count 0", r"count: "),
        ("--count 5 --classes yak", r"cannot generate \['yak'\]; it knows \['cat', 'dog', 'emu'\]"),
        ("--count 5 --shard 3", r"--shard '3': wanted is k/n with k from 1 to n, such as 3/16"),
        ("--count 5 --shard 0/2", r"--shard '0/2': wanted is k/n"),
        ("--count 5 --shard 3/2", r"--shard '3/2': wanted is k/n"),
        ("--count 5 --parts 0", r"parts: "),
        ("--count 5 --truncation 2", r"truncation: "),
        ("--count 5 --quality 0", r"quality: "),
        ("--count 5 --max-tries 0.5", r"max_tries: "),
        ("--count 5 --seed -1", r"seed: "),
        ("--count 5 --batch -3", r"batch: "),
        ("--count 5 --shard-images -3", r"shard_images: "),
        ("--count 5 --shard-images 0", r"shard_images: "),
        ("--count 5 --batch 0", r"batch: "),
        ("--count 5 --workers 0", r"workers: "),
        ("--count 5 --threads 0", r"threads: "),
        ("--count 5 --format npz --encoding png", r"npz holds arrays: it takes no encoding"),
        ("--count 5 --format zip", r"format"),
        ("--count 5 --encoding gif", r"encoding"),
        ("--count 5 --runner spark", r"runner"),
        ("--count 5 --precision int8", r"precision"),
        ("--count many", r"count"),
        ("--count 5 --colour red", r"colour"),
        ("--count 5 --device tpu", r"device"),
        ("--count 5 --device cuda", r"device 'cuda' was asked for"),
        ("--count 5 --shard 1/2 --runner threads", r"--shard k/n does one part here; with --runner give"),
    ],
)
def test_a_bad_option_is_named_with_what_it_takes(ganaug, tiny_model, out, words, said):
    code, _, wrong = ganaug("produce", "--model", tiny_model, "--out", out, *words.split())
    # What the parser itself refuses ends with 2.
    assert code in {1, 2}
    assert re.search(said, wrong), wrong
    assert "Traceback" not in wrong
    assert not (out / "production.json").exists()


def test_a_model_that_is_not_there_is_named(ganaug, out):
    code, _, wrong = ganaug("produce", "--model", "nobody", "--count", "5", "--out", out)
    assert code == 1
    assert "nobody" in wrong
    assert not out.exists()


def test_a_model_without_a_place_says_how_to_give_one(ganaug, tiny_model):
    code, _, wrong = ganaug("produce", "--model", tiny_model, "--count", "5")
    assert code == 1
    assert "Give --out FOLDER or --out s3://bucket/path" in wrong


def test_a_place_without_a_model_or_a_run_says_what_is_missing(ganaug, out):
    code, _, wrong = ganaug("produce", "--count", "5", "--out", out)
    assert code == 1
    assert "Traceback" not in wrong
    assert not out.exists()


@pytest.mark.parametrize("verb", ["produce", "screen", "reproduce"])
def test_the_help_says_what_each_option_is_for(ganaug, verb):
    code, said, _ = ganaug(verb, "--help")
    assert code == 0
    for name in inspect.signature(getattr(cli_production, verb)).parameters:
        if name not in {"path", "production"}:
            assert f"--{name.replace('_', '-')}" in said, name


def test_a_row_is_made_again_and_compared(ganaug, tiny_model, tmp_path, out):
    produce(order(tiny_model, out, count=20, format="folder"))
    code, said, _ = ganaug(
        "reproduce", out, "--row", "25", "--device", "cpu", "--save", tmp_path / "again.png"
    )
    assert code == 0
    assert said == ("class dog, seed 0, index 5, in data/dog/000000005.png the same to the last bit")
    with Image.open(tmp_path / "again.png") as again:
        wanted = Generator.open(tiny_model, device="cpu").sample("dog", 1, start=5)[0]
        np.testing.assert_array_equal(np.array(again)[..., None], wanted)


def test_a_row_that_differs_ends_with_1_and_says_by_how_much(ganaug, tiny_model, out):
    produce(order(tiny_model, out, count=20, format="folder"))
    path = out / "data/dog/000000005.png"
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        pixels = np.array(image)
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    code, said, _ = ganaug("reproduce", out, "--row", "25", "--device", "cpu")
    assert code == 1
    assert "differs by up to 1 grey levels" in said


def test_a_rejected_row_says_why_there_is_nothing_to_compare(ganaug, tiny_model, out, small_screener):
    produce(order(tiny_model, out, count=40, screener=SCREENER))
    number, row = next((n, row) for n, row in enumerate(manifest_rows(out)) if not row["kept"])
    code, said, _ = ganaug("reproduce", out, "--row", number, "--device", "cpu")
    assert code == 0
    assert f"in no file made again; it was not kept ({row['reason']})" in said
