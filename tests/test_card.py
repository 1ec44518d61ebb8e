import json

import pytest

from ganaug import card as cards
from ganaug.card import CARD_FILE, MAX_CARD_BYTES, GraphCard, ModelCard
from ganaug.errors import ModelError, UnknownClassError


def edit(folder, **changes):
    tree = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps(tree | changes))


def test_a_card_is_read_back_as_it_was_written(tmp_path, write_model):
    card = write_model(tmp_path, exemplar_counts=(4, 2, 3))
    assert ModelCard.load(tmp_path) == card
    assert [path.name for path in tmp_path.glob("*.new")] == []


def test_an_intact_model_is_verified(tiny_model):
    assert cards.verify(tiny_model).class_names == ("cat", "dog", "emu")


def test_a_folder_without_a_card_is_not_a_model(tmp_path):
    with pytest.raises(ModelError, match=r"is not a model: it has no card\.json"):
        ModelCard.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b'{"format": 1, "name"', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "holds a list"),
        (b"{}", "damaged or not a model card"),
        (b" " * (MAX_CARD_BYTES + 1), "larger than"),
    ],
    ids=["empty", "cut", "binary", "deep", "list", "other", "huge"],
)
def test_a_damaged_card_is_refused_with_its_path(tiny_model, text, message):
    (tiny_model / CARD_FILE).write_bytes(text)
    with pytest.raises(ModelError, match=message) as error:
        ModelCard.load(tiny_model)
    assert str(tiny_model) in str(error.value)


def test_a_card_of_a_newer_ganaug_asks_for_an_upgrade(tiny_model):
    edit(tiny_model, format=2, something_new=True)
    with pytest.raises(ModelError, match="newer ganaug wrote it"):
        ModelCard.load(tiny_model)


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": ["cat", "dog", "dog"]},
        {"class_names": ["cat", "dog"]},
        {"image_shape": [8, 8, 2]},
        {"surprise": 1},
        {"graphs": []},
        {"name": "../evil"},
        {"name": "a@2"},
    ],
    ids=lambda changes: str(next(iter(changes.items()))),
)
def test_a_card_that_contradicts_itself_is_refused(tiny_model, changes):
    edit(tiny_model, **changes)
    with pytest.raises(ModelError, match="damaged or not a model card"):
        ModelCard.load(tiny_model)


@pytest.mark.parametrize("file", ["../x.onnx", "/etc/x.onnx", "a/b.onnx", "x.bin", ".x.onnx", "x\\y.onnx"])
def test_a_graph_file_is_a_plain_name_inside_the_folder(tiny_model, file):
    graph = json.loads((tiny_model / CARD_FILE).read_text())["graphs"][0]
    edit(tiny_model, graphs=[graph | {"file": file}])
    with pytest.raises(ModelError, match=r"graphs\.0\.file"):
        ModelCard.load(tiny_model)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "class-conditional", "exemplar_counts": (1, 2)},
        {"kind": "exemplar-conditional", "exemplar_counts": None},
        {"kind": "exemplar-conditional", "exemplar_counts": (1,)},
    ],
)
def test_exemplar_counts_belong_to_exemplar_conditional_graphs(fields):
    with pytest.raises(ValueError, match="exemplar_counts"):
        GraphCard(file="a.onnx", sha256="0" * 64, bytes=1, classes=("cat", "dog"), z_dim=3, **fields)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged or swapped"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "more than"),
        (lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]), "SHA-256"),
    ],
    ids=["missing", "cut", "longer", "one bit"],
)
def test_a_graph_that_is_not_the_one_of_the_card_is_noticed(tiny_model, spoil, message):
    spoil(tiny_model / "generator.onnx")
    with pytest.raises(ModelError, match=message):
        cards.verify(tiny_model)


def test_a_class_is_made_by_its_specialist_if_there_is_one(tmp_path, write_model):
    base = write_model(tmp_path, file="base.onnx")
    own = write_model(tmp_path, file="002-emu.onnx", class_ids=(2,))
    card = base.model_copy(update={"graphs": (*own.graphs, *base.graphs)})
    assert [card.graph_for(name).file for name in card.class_names] == [
        "base.onnx",
        "base.onnx",
        "002-emu.onnx",
    ]
    with pytest.raises(UnknownClassError, match="cannot generate"):
        card.graph_for("yak")
