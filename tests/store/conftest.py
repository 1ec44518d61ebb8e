"""Every kind of store keeps the same promises."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.s3 import BUCKET, environment, running_server

from ganaug import fetch


@pytest.fixture(scope="package")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of an S3 server with an empty bucket."""
    with running_server(tmp_path_factory.mktemp("s3") / "server") as address:
        yield address


@pytest.fixture
def bucket(server, monkeypatch) -> str:
    """An address of its own in the bucket, in a shell in which `s3://` is the server."""
    import s3fs

    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(fetch.CACHE, str(tmp_path / "cache"))


@pytest.fixture(params=["folder", "s3", "memory"])
def place(request, tmp_path) -> Path | str:
    """A store that is empty: a folder, a bucket, and a file system without conditional writes."""
    if request.param == "folder":
        return tmp_path / "exported"
    return request.getfixturevalue("bucket") if request.param == "s3" else f"memory://{uuid.uuid4().hex}"
