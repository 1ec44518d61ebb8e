"""Models and productions at addresses: what a server may do to who asks it, and what is told of the way in."""

import contextlib
import functools
import http.server
import json
import shutil
import threading

import pytest
from support.productions import order, tree

import ganaug
from ganaug import fetch, store
from ganaug.errors import ModelError, OutputError
from ganaug.places import open_place
from ganaug.produce import produce


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(fetch.CACHE, str(tmp_path / "cache"))


@pytest.fixture
def served(tmp_path, tiny_model):
    """The address of a server with a store, which sends some on to elsewhere and others on for ever."""
    store.publish(tiny_model, tmp_path / "shelf", "animals")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved"))
                self.end_headers()
            elif self.path in endless:
                self.send_response(200)
                self.end_headers()
                # Until the client has had enough.
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(bytes(2**16))
                        sent[self.path] = sent.get(self.path, 0) + 2**16
            else:
                super().do_GET()

        do_HEAD = do_GET  # noqa: N815 - as the library calls it

        def log_message(self, *arguments):
            pass

    endless, sent = set(), {}
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "shelf"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", endless, sent
    server.shutdown()
    thread.join()
    server.server_close()


def test_where_a_redirect_leads_the_hash_decides(served):
    address, _, _ = served
    right = ganaug.load(f"{address}/animals@1").sha256
    shutil.rmtree(fetch.cache_folder())
    assert ganaug.load(f"{address}/moved/animals/1", sha256=right).sha256 == right
    shutil.rmtree(fetch.cache_folder())
    with pytest.raises(ModelError, match="another model"):
        ganaug.load(f"{address}/moved/animals/1", sha256="0" * 64)


@pytest.mark.parametrize("file", ["card.json", "generator.onnx"])
def test_an_answer_without_end_is_read_no_further_than_is_allowed(served, file):
    address, endless, sent = served
    endless.add(f"/animals/1/{file}")
    with pytest.raises(ModelError, match=r"larger than|more than"):
        ganaug.load(f"{address}/animals@1")
    # What waits in the buffers of the system has been sent and not read.
    assert sum(sent.values()) < 64 * 2**20


def test_a_model_that_was_changed_in_the_cache_is_fetched_again(served):
    address, _, _ = served
    right = ganaug.load(f"{address}/animals@1").sha256
    home = fetch.cache_folder() / "models" / right
    card = json.loads((home / "card.json").read_text())
    (home / "card.json").write_text(json.dumps({**card, "verdict": "helps"}))
    generator = ganaug.load(f"{address}/animals@1", sha256=right)
    assert generator.card.verdict is None
    assert generator.sample("cat", 1).shape == (1, 8, 8, 1)


def test_an_address_is_told_without_its_secrets(tmp_path, tiny_model):
    pytest.importorskip("fsspec")
    address = "http://user:hunter2@127.0.0.1:9/cats?X-Amz-Signature=hunter2"
    with pytest.raises(ModelError) as caught:
        ganaug.load(address)
    assert "hunter2" not in str(caught.value)
    assert "http://***@127.0.0.1:9/cats?***" in str(caught.value)
    assert "hunter2" not in open_place("memory://user:hunter2@bucket/x").address
    with pytest.raises(OutputError) as refused:
        open_place("no-such-thing://user:hunter2@bucket/x?key=hunter2")
    assert "hunter2" not in str(refused.value)


def test_a_production_does_not_say_what_its_address_or_the_environment_keep_to_themselves(
    served, tmp_path, monkeypatch
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    host = served[0].removeprefix("http://")
    produce(order(f"http://user:hunter2@{host}/animals/1", tmp_path / "out", count=2))
    held = tree(tmp_path / "out")
    assert json.loads(held["production.json"])["model"] == f"http://***@{host}/animals/1"
    assert not [name for name, content in held.items() if b"hunter2" in content]
