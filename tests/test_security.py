"""The threat model (docs/security.md): what other test files do not hold, and that each of its lines has a test."""

import ast
import contextlib
import io
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from support.productions import order, tree

import ganaug
from ganaug import cli, fetch, store
from ganaug.config import Config, DataConfig, Section, load
from ganaug.errors import DatasetError, ModelError, OutputError, SettingsError, UnreadableImageError
from ganaug.formats import decode
from ganaug.produce import produce
from ganaug.readers import fingerprint, read
from ganaug.run import CONFIG_FILE, RunFolder

ROOT = Path(__file__).parents[1]
CLEAR_SCREEN = "\x1b[2Jcat\r\x9b1A\u202edog"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(fetch.CACHE, str(tmp_path / "cache"))


class Payload:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


# Datasets


def test_a_pickle_among_arrays_is_not_loaded(tmp_path):
    labels = np.array([Payload(tmp_path / "ran"), None], dtype=object)
    np.savez(tmp_path / "data.npz", images=np.zeros((2, 8, 8), np.uint8), labels=labels)
    with pytest.raises(DatasetError, match="never loaded"):
        read(DataConfig(path=tmp_path / "data.npz"), tmp_path / "out", previews=False)
    assert not (tmp_path / "ran").exists()


def test_class_names_lead_nowhere(write_model, tmp_path):
    names = ("../../cat", "/dog", "CON")
    write_model(tmp_path / "a" / "model", class_names=names)
    before = tree(tmp_path)
    produce(order(tmp_path / "a" / "model", tmp_path / "a" / "b" / "out", format="folder", count=2))
    made = tree(tmp_path).keys() - before.keys()
    assert len([name for name in made if name.startswith("a/b/out/data/")]) == 6
    assert all(name.startswith("a/b/out/") for name in made)


def test_a_name_from_elsewhere_does_not_move_the_cursor(write_model, tmp_path, monkeypatch, capsys):
    write_model(tmp_path / "model", class_names=(CLEAR_SCREEN, "dog", "emu"))
    store.publish(tmp_path / "model", tmp_path / "exported", "animals")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for words in (["models"], ["produce", "--model", f"no{CLEAR_SCREEN}where", "--out", "x", "--count", "1"]):
        monkeypatch.setattr(sys, "argv", ["ganaug", *words])
        with contextlib.suppress(SystemExit):
            cli.main()
        said = "".join(capsys.readouterr())
        assert "␛[2Jcat" in said.replace("\n", "")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", said)


def test_an_image_of_a_shard_is_not_decoded_beyond_what_generators_make():
    file = io.BytesIO()
    Image.new("1", (5000, 3000)).save(file, "PNG")
    with pytest.raises(UnreadableImageError, match="5,000 x 3,000 px"):
        decode(file.getvalue())


# Settings


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [{}]", "!!python/name:os.system"])
def test_a_settings_file_makes_no_objects(tag, tmp_path):
    (tmp_path / "run.yaml").write_text(f"name: {tag.format(tmp_path / 'ran')}")
    with pytest.raises(SettingsError, match="not a YAML file"):
        load(tmp_path / "run.yaml")
    assert not (tmp_path / "ran").exists()


def test_a_settings_file_whose_aliases_unfold_to_gigabytes_is_refused_in_a_few_words(tmp_path):
    lines = [
        "a0: &a0 [x]",
        *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)),
        "name: *a11",
    ]
    (tmp_path / "run.yaml").write_text("\n".join(lines))
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / "run.yaml")
    assert len(str(caught.value)) < 20_000


def test_no_setting_is_a_secret():
    def names(section):
        for name, field in section.model_fields.items():
            yield name
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                yield from names(field.annotation)

    assert not [
        name for name in names(Config) if re.search("password|secret|token|credential|auth|key", name)
    ]


# Models


def greedy(model):
    """A graph that asks for 256 TiB on its way."""
    nodes = model.graph.node
    nodes.append(helper.make_node("ConstantOfShape", ["so_many"], ["vast"]))
    nodes.append(helper.make_node("ReduceSum", ["vast"], ["total"], keepdims=0))
    nodes.append(helper.make_node("Add", ["grey", "total"], ["greyer"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**46], np.int64), "so_many"))
    rounding = next(node for node in nodes if node.op_type == "Round")
    rounding.input[0] = "greyer"
    ordered = [
        *(node for node in nodes if node is not rounding and node.op_type not in {"Clip", "Cast", "Reshape"}),
        rounding,
    ]
    ordered += [node for node in nodes if node.op_type in {"Clip", "Cast", "Reshape"}]
    whole = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(whole)
    return model


def test_a_graph_that_asks_for_all_memory_is_an_error_and_not_the_end_of_the_process(tmp_path, write_model):
    write_model(tmp_path, change=greedy)
    with pytest.raises(ModelError):
        ganaug.load(tmp_path, device="cpu").sample("cat", 1)


def test_nothing_is_unpickled_evaluated_or_given_to_a_shell():
    forbidden = {"pickle", "cPickle", "dill", "shelve", "marshal", "joblib"}
    calls = {
        "eval",
        "exec",
        "os.system",
        "os.popen",
        "torch.load",
        "yaml.load",
        "yaml.unsafe_load",
        "pd.read_pickle",
    }
    found = []
    for path in [*ROOT.glob("ganaug/**/*.py"), *ROOT.glob("pipeline/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Call):
                names += [ast.unparse(node.func)] if ast.unparse(node.func) in calls else []
                names += [
                    word.arg or ""
                    for word in node.keywords
                    if word.arg in {"shell", "allow_pickle"}
                    and getattr(word.value, "value", True) is not False
                ]
            found += [
                f"{path.name}:{node.lineno} {name}"
                for name in names
                if name.split(".")[0] in forbidden or name in calls or name in {"shell", "allow_pickle"}
            ]
    assert found == []


# Folders of others


def hostile_manifest(out, victim):
    """Let every piece of a production's manifest name a file of somebody else's."""
    for path in (out / "manifest").glob("*.parquet"):
        table = pq.read_table(path)
        column = table.schema.get_field_index("file")
        names = table["file"].to_pandas().map(lambda name: name and os.path.relpath(victim, out))
        table = table.set_column(column, table.schema.field("file"), [names.tolist()])
        pq.write_table(table, path)


def test_a_production_of_somebody_else_cannot_have_files_outside_removed(tiny_model, tmp_path):
    out, victim = tmp_path / "out", tmp_path / "thesis.txt"
    victim.write_text("four years")
    produce(order(tiny_model, out, count=40))
    hostile_manifest(out, victim)
    with pytest.raises(OutputError, match="does not lie in the folder"):
        produce(order(tiny_model, out, count=2))
    assert victim.read_text() == "four years"


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Give a command of `ganaug` in a folder of its own; returns what it said."""
    monkeypatch.chdir(tmp_path)

    def give(*words):
        monkeypatch.setattr(sys, "argv", ["ganaug", *words])
        with contextlib.suppress(SystemExit):
            cli.main()
        return " ".join("".join(capsys.readouterr()).split())

    return give


THEIRS = {
    "evaluate.classifier": ["theirs:make", f"command: {sys.executable} theirs.py {{folder}} {{predictions}}"],
    "evaluate.arms": [["real", "theirs:arm"]],
}


@pytest.mark.parametrize(("setting", "value"), [(name, one) for name, all_ in THEIRS.items() for one in all_])
def test_code_that_only_a_run_folder_names_is_not_run(setting, value, command, tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text("import os\nos.makedirs('ran')\nmake = arm = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    there = load(None, {setting: value, "run_dir": "run"})
    RunFolder.create(tmp_path / "run", there, fingerprint(there.data))
    for words in (["evaluate"], ["report"], ["split"], ["run"], ["produce", "--out", "x"]):
        said = command(*words, "--run-dir", "run")
        assert words[0] in {"produce"} or "was never given here" in said, said
        assert not (tmp_path / "ran").exists()


def test_code_that_was_given_once_may_be_gone_on_with(command, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("make = print\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "never given" not in command("plan", "--run-dir", "run", "--evaluate.classifier", "mine:make")
    assert load(tmp_path / "run" / CONFIG_FILE).evaluate.classifier == "mine:make"
    assert "never given" not in command("plan", "--run-dir", "run")
    shutil.rmtree(fetch.cache_folder() / "own-code")
    assert "never given" in command("plan", "--run-dir", "run")
    assert "never given" not in command("plan", "--run-dir", "run", "--evaluate.classifier", "mine:make")


# Supply


def test_every_dependency_is_pinned_to_one_version():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!-]+( *;.*)?", line)] == []


# The page


def named_tests(path):
    """Names of the tests of a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_line_of_the_threat_model_names_a_test_that_exists():
    page = (ROOT / "docs" / "security.md").read_text()
    lines = [line for line in page.splitlines() if re.match(r"\| (?!threat|---)", line)]
    assert len(lines) > 25
    for line in lines:
        cells = line.strip("|").split("|")
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", cells[-1])
        assert len(cells) == 4, line
        assert named, line
        for file, test in named:
            assert test in named_tests(ROOT / file), f"{file}::{test}"
