"""Models from an address: every file system that fsspec knows; HTTP and S3 are real servers on loopback."""

import functools
import http.server
import json
import shutil
import threading

import numpy as np
import pytest

import ganaug
from ganaug import fetch, store
from ganaug.card import MAX_SIDE_PX, ModelCard
from ganaug.errors import ModelError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(fetch.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shelf(tmp_path, tiny_model):
    """A store with two versions of `animals`."""
    for _ in range(2):
        store.publish(tiny_model, tmp_path / "shelf", "animals")
    return tmp_path / "shelf"


@pytest.fixture
def served(shelf):
    """Its address at an HTTP server, and the paths that were asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(shelf))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["animals", "animals@1", "animals/2"])
def test_a_model_over_http_makes_the_images_that_it_makes_here(served, shelf, name):
    address, _ = served
    generator = ganaug.load(f"{address}/{name}")
    np.testing.assert_array_equal(generator.sample("cat", 3), ganaug.load(shelf / "animals").sample("cat", 3))
    assert generator.card.version == (1 if name == "animals@1" else 2)


def test_graphs_are_fetched_once(served):
    address, asked = served
    for _ in range(2):
        ganaug.load(f"{address}/animals").sample("cat", 1)
    # Size and content may be separate requests.
    assert {path for path in asked if path.endswith(".onnx")} == {"/animals/2/generator.onnx"}
    assert sum(path.endswith("2/card.json") for path in asked) > 1
    first = len(asked)
    ganaug.load(f"{address}/animals").sample("cat", 1)
    assert not any(path.endswith(".onnx") for path in asked[first:])


def test_a_new_version_is_noticed(served, shelf, tiny_model):
    address, _ = served
    assert ganaug.load(f"{address}/animals").card.version == 2
    store.publish(tiny_model, shelf, "animals")
    assert ganaug.load(f"{address}/animals").card.version == 3


def test_a_pinned_model_that_is_here_needs_no_network(served, shelf):
    address, _ = served
    pin = ganaug.load(f"{address}/animals@1").sha256
    shutil.rmtree(shelf)
    assert ganaug.load(f"{address}/animals", sha256=pin).sample("dog", 1).shape == (1, 8, 8, 1)


@pytest.mark.parametrize("where", ["address", "folder"])
def test_another_model_than_the_pinned_one_is_refused(served, shelf, where):
    model = f"{served[0]}/animals" if where == "address" else shelf / "animals"
    assert ganaug.load(model, sha256=ganaug.load(model).sha256)
    with pytest.raises(ModelError, match="somebody changed it"):
        ganaug.load(model, sha256="0" * 64)


def test_a_graph_that_was_changed_at_the_address_never_gets_here(served, shelf, cache):
    graph = shelf / "animals" / "2" / "generator.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match="SHA-256"):
        ganaug.load(f"{served[0]}/animals")
    graph.write_bytes(graph.read_bytes() + bytes(10**6))
    with pytest.raises(ModelError, match="more than"):
        ganaug.load(f"{served[0]}/animals")
    assert list(cache.rglob("*.onnx")) == []


def test_a_graph_that_was_changed_here_is_not_run(served, cache):
    address, _ = served
    ganaug.load(f"{address}/animals")
    (graph,) = cache.rglob("*.onnx")
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match="damaged or swapped"):
        ganaug.load(f"{address}/animals").sample("cat", 1)


def test_what_a_killed_fetch_left_half_is_fetched_again(served, cache):
    address, _ = served
    ganaug.load(f"{address}/animals")
    (graph,) = cache.rglob("*.onnx")
    graph.write_bytes(graph.read_bytes()[:100])
    assert len(ganaug.load(f"{address}/animals").sample("cat", 1)) == 1
    assert [path.name for path in (cache / "models").iterdir()] == [graph.parent.name]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "there is no model at"),
        ("animals@7", "there is no model at"),
        ("animals/current.json", "there is no model at"),
    ],
)
def test_what_is_not_at_the_address_is_a_clear_error(served, path, message):
    with pytest.raises(ModelError, match=message):
        ganaug.load(f"{served[0]}/{path}")


def test_a_damaged_pointer_is_told(served, shelf):
    (shelf / "animals" / "current.json").write_text('{"version": "../../x"}')
    with pytest.raises(ModelError, match=r"damaged.*@1"):
        ganaug.load(f"{served[0]}/animals")


def test_a_server_that_is_not_there_is_a_clear_error():
    with pytest.raises(ModelError, match=r"cannot read the model at.*[Cc]onnect"):
        ganaug.load("http://127.0.0.1:9/animals")


@pytest.mark.parametrize("address", ["nosuch://a/b", "s4://bucket/animals"])
def test_an_address_that_nothing_opens_is_refused(address):
    with pytest.raises(ModelError, match="cannot use the address"):
        ganaug.load(address)


def test_a_cache_that_cannot_be_written_is_a_clear_error(served, cache):
    cache.write_text("in the way")
    with pytest.raises(ModelError, match=fetch.CACHE):
        ganaug.load(f"{served[0]}/animals")


def test_fetchers_at_once_leave_one_model(served, cache):
    address, _ = served
    threads = [threading.Thread(target=ganaug.load, args=(f"{address}/animals",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (folder,) = (cache / "models").iterdir()
    assert len(ganaug.load(folder).sample("cat", 2)) == 2


def test_a_card_of_images_that_would_take_all_memory_is_refused(tiny_model):
    path = tiny_model / "card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "image_shape": [MAX_SIDE_PX + 1, 8, 1]}))
    with pytest.raises(ModelError, match="image_shape"):
        ModelCard.load(tiny_model)
