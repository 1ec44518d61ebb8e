"""Straight into object storage: the promises of a folder hold at `s3://` too, against a real server."""

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import s3fs
from support.productions import SCREENER, order, tree
from support.s3 import BUCKET, Line, environment, running_server

import ganaug
from ganaug import places, store
from ganaug.errors import DatasetError, MissingExtraError, ModelError, OutputError, SettingsError
from ganaug.formats import FORMATS
from ganaug.places import LocalPlace, RemotePlace, open_place
from ganaug.produce import account, produce, reproduce

COUNTS = {"cat": 20, "emu": 12}

# It dies at its third shard, claim and all.
DYING = """
import json, os, signal, sys
from ganaug.places import RemotePlace
from ganaug.produce import Production, calibrate, produce
calibrate.TRY_S = 0.0
write, left = RemotePlace.write, 2
def dying(place, name, chunks):
    global left
    left -= name.startswith("data/")
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(place, name, chunks)
RemotePlace.write = dying
produce(Production(**json.loads(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server with an empty bucket."""
    with running_server(tmp_path_factory.mktemp("s3") / "server") as address:
        yield address


@pytest.fixture(autouse=True)
def _shell(server, monkeypatch):
    """The environment of a shell in which `s3://` is the server; no waiting for others."""
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(places, "_SETTLE_S", 0.01)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def there(tmp_path):
    """An address of its own in the bucket."""
    return f"s3://{BUCKET}/{tmp_path.name}"


def files():
    return s3fs.S3FileSystem(skip_instance_cache=True)


def remote_tree(address):
    """Every object below an address; claims are gone when nobody works."""
    store, root = files(), address.removeprefix("s3://")
    return {name.removeprefix(f"{root}/"): store.cat_file(name) for name in store.find(root)}


@pytest.mark.parametrize("name", FORMATS)
def test_what_lies_there_is_what_would_lie_in_a_folder(tiny_model, tmp_path, there, name):
    result = produce(order(tiny_model, there, counts=COUNTS, format=name))
    assert (result.address, result.made, result.is_finished) == (there, 32, True)
    produce(order(tiny_model, tmp_path / "folder", counts=COUNTS, format=name))
    assert remote_tree(there) == tree(tmp_path / "folder")
    held = {path: about["LastModified"] for path, about in files().find(there, detail=True).items()}
    assert produce(order(tiny_model, there, counts=COUNTS, format=name)).made == 0
    after = {path: about["LastModified"] for path, about in files().find(there, detail=True).items()}
    kept = {path for path in held if "/data/" in path or "/manifest/" in path}
    assert kept
    assert {path: after[path] for path in kept} == {path: held[path] for path in kept}
    found = reproduce(there, 25, device="cpu")
    assert (found.row["class_name"], found.row["index"], found.is_same) == ("emu", 5, True)


def test_datasets_opens_it_from_there(tiny_model, tmp_path, there, monkeypatch):
    import datasets

    # Other tests turn the network off for the whole process; this server is on loopback.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    datasets.disable_progress_bars()
    produce(order(tiny_model, there, counts=COUNTS, format="parquet"))
    data = datasets.load_dataset(
        "parquet", data_files=f"{there}/data/*.parquet", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert data["label"][:] == [0] * 20 + [2] * 12
    assert data[0]["image"].size == (8, 8)


def test_a_screened_production_goes_on_there(tiny_model, tmp_path, there, small_screener):
    settings = {"screener": SCREENER, "until_kept": True}
    produce(order(tiny_model, there, counts={"cat": 9}, **settings))
    produce(order(tiny_model, there, counts={"cat": 20}, **settings))
    produce(order(tiny_model, tmp_path / "folder", counts={"cat": 20}, **settings))
    assert remote_tree(there) == tree(tmp_path / "folder")


def test_an_object_that_is_gone_or_cut_is_made_again(tiny_model, there):
    asked = order(tiny_model, there, counts=COUNTS)
    produce(asked)
    held = remote_tree(there)
    files().rm_file(f"{there}/data/000-cat-00000.npz")
    files().pipe_file(f"{there}/data/002-emu-00000.npz", b"cut")
    assert produce(asked).made == 16 + 12
    assert remote_tree(there) == held


def test_fewer_images_remove_what_is_too_many(tiny_model, tmp_path, there):
    produce(order(tiny_model, there, counts=COUNTS, format="folder"))
    produce(order(tiny_model, there, counts={"cat": 5}, format="folder"))
    produce(order(tiny_model, tmp_path / "folder", counts={"cat": 5}, format="folder"))
    assert remote_tree(there) == tree(tmp_path / "folder")


@pytest.mark.parametrize("file", ["data/cat/photo.png", "README.md", "manifest/own.parquet"])
def test_a_place_that_something_else_wrote_is_refused(tiny_model, there, file):
    files().pipe_file(f"{there}/{file}", b"mine")
    with pytest.raises(SettingsError, match="is not a production of ganaug"):
        produce(order(tiny_model, there, counts=COUNTS))
    assert remote_tree(there) == {file: b"mine"}


@pytest.mark.parametrize("machine", ["this one", "another"])
def test_killed_there_it_goes_on_as_soon_as_nobody_can_be_at_work(
    machine, tiny_model, tmp_path, there, monkeypatch
):
    asked = order(tiny_model, there, counts={"cat": 60})
    done = subprocess.run([sys.executable, "-c", DYING, asked.model_dump_json()], check=False)
    assert done.returncode == -9
    if machine == "another":
        # Whether a process of another machine lives is seen by its silence alone.
        claim = f"{there}/.ganaug/part-00001-of-00001.claim"
        files().pipe_file(claim, json.dumps({**json.loads(files().cat_file(claim)), "host": "far"}).encode())
        with pytest.raises(
            OutputError, match=rf"another ganaug process is producing into {there} \(on far; .*90 s"
        ):
            produce(asked)
        monkeypatch.setattr(places, "CLAIM_S", 0.0)
    assert 16 <= produce(asked).made < 60
    produce(order(tiny_model, tmp_path / "folder", counts={"cat": 60}))
    assert remote_tree(there) == tree(tmp_path / "folder")


def test_a_second_process_is_refused_while_a_claim_is_renewed(tiny_model, there, monkeypatch):
    monkeypatch.setattr(places, "RENEW_S", 0.05)
    asked, claim = order(tiny_model, there, counts=COUNTS), f"{there}/.ganaug/part-00001-of-00001.claim"
    with open_place(there).claimed("part-00001-of-00001"):
        first = json.loads(files().cat_file(claim))
        with pytest.raises(OutputError, match=rf"{there} \(on {first['host']}; .*\) \(part-00001-of-00001\)"):
            produce(asked)
        for _ in range(200):
            if json.loads(files().cat_file(claim))["time"] > first["time"]:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the claim was never renewed")
    assert not files().exists(claim)
    assert produce(asked).is_finished


def test_different_parts_are_claimed_by_different_processes(tiny_model, tmp_path, there):
    asked = order(tiny_model, there, counts={"cat": 60}, parts=2)
    with open_place(there).claimed("part-00001-of-00002"):
        assert not produce(asked.model_copy(update={"part": 2})).is_finished
        with pytest.raises(OutputError, match="part-00001-of-00002"):
            produce(asked)
    assert produce(asked.model_copy(update={"part": 1})).is_finished
    assert account(asked).classes["cat"].kept == 60


def test_of_two_that_claim_at_the_same_moment_one_goes_on(there, monkeypatch):
    monkeypatch.setattr(places, "_SETTLE_S", 0.5)
    both, ended = threading.Barrier(2), []
    claim = RemotePlace._claim

    def at_once(place, name):
        found = claim(place, name)
        if threading.current_thread() not in looked:
            looked.append(threading.current_thread())
            both.wait(timeout=20)
        return found

    looked: list[threading.Thread] = []
    monkeypatch.setattr(RemotePlace, "_claim", at_once)

    def work():
        try:
            with open_place(there).claimed("part"):
                ended.append("went on")
                time.sleep(0.6)
        except OutputError:
            ended.append("refused")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["refused", "went on"]


def test_a_store_that_goes_away_is_a_clear_error_and_it_goes_on_later(
    tiny_model, tmp_path, there, server, monkeypatch
):
    line = Line(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.address)
    s3fs.S3FileSystem.clear_instance_cache()

    def cut(done, total):
        if done == 40:
            line.cut()

    asked = order(tiny_model, there, counts={"cat": 320})
    with pytest.raises(
        OutputError, match=rf"cannot write to {there}: .*mend the .*connection, and give the same"
    ):
        produce(asked, cut)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(places, "CLAIM_S", 0.0)
    result = produce(asked)
    assert result.is_finished
    assert result.made > 200
    produce(order(tiny_model, tmp_path / "folder", counts={"cat": 320}))
    assert remote_tree(there) == tree(tmp_path / "folder")


def test_wrong_credentials_are_a_clear_error(tiny_model, there, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(OutputError, match=rf"cannot write to {there}: .*mend the permissions"):
        produce(order(tiny_model, there, counts=COUNTS))


def test_a_bucket_that_is_not_there_is_a_clear_error(tiny_model, there, monkeypatch):
    # This server makes buckets as it needs them; S3 says this, and s3fs makes it a missing file.
    async def refuse(*_words, **_options):
        raise FileNotFoundError("The specified bucket does not exist")

    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", refuse)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(OutputError, match=rf"cannot write to {there}: The specified bucket does not exist"):
        produce(order(tiny_model, there, counts=COUNTS))


def test_nothing_to_reproduce_there_is_a_clear_error(there):
    with pytest.raises(DatasetError, match="has no manifest/"):
        reproduce(there, 0)


def test_the_address_and_the_keys_may_come_from_settings_of_fsspec(tiny_model, there, server):
    # What docs name beside the variables of AWS; fsspec reads these when it is imported.
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    ours = environment(server)
    own |= {
        "FSSPEC_S3_ENDPOINT_URL": ours["AWS_ENDPOINT_URL"],
        "FSSPEC_S3_KEY": ours["AWS_ACCESS_KEY_ID"],
        "FSSPEC_S3_SECRET": ours["AWS_SECRET_ACCESS_KEY"],
    }
    words = ["produce", "--model", str(tiny_model), "--out", there, "--count", "5", "--device", "cpu"]
    subprocess.run([sys.executable, "-m", "ganaug.cli", *words], env=own, check=True, capture_output=True)
    assert f"{there}/README.md".removeprefix("s3://") in files().find(there)


def test_an_address_that_nothing_knows_is_refused():
    with pytest.raises(OutputError, match="cannot use the address what://x: Protocol not known: what"):
        open_place("what://x")


def test_a_file_system_that_is_not_installed_names_what_is_to_be():
    with pytest.raises(
        MissingExtraError, match=r"writing to gcs://x/y \(.*gcsfs.*pip install 'ganaug\[remote\]'"
    ):
        open_place("gcs://x/y")


def test_a_file_address_is_a_folder(tmp_path):
    place = open_place(f"file://{tmp_path}/out")
    assert isinstance(place, LocalPlace)
    assert place.address == f"{tmp_path}/out"


def test_a_model_in_a_bucket_is_opened_by_its_address(there, tmp_path, tiny_model, monkeypatch):
    monkeypatch.setenv("GANAUG_CACHE", str(tmp_path / "cache"))
    store.publish(tiny_model, tmp_path / "shelf", "animals")
    files().put(f"{tmp_path}/shelf/", there, recursive=True)
    for name in ("animals", "animals@1", "animals/1"):
        np.testing.assert_array_equal(
            ganaug.load(f"{there}/{name}").sample("cat", 2), ganaug.load(tiny_model).sample("cat", 2)
        )
    with pytest.raises(ModelError, match="there is no model at"):
        ganaug.load(f"{there}/plants")
