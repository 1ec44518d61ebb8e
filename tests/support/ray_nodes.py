"""A Ray cluster of two nodes on this machine, as `ray start` makes it, and the death of one of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

START_S = 90.0


class Node:
    """One node: its raylet, and what that started."""

    def __init__(self, words: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *words, "--block"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_up(self) -> None:
        """Return when the node has joined the cluster."""
        deadline = time.monotonic() + START_S
        while "Ray runtime started" not in self._log.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self._log.read_text())
            time.sleep(0.1)

    def tasks(self) -> list[str]:
        """What its workers are doing, as Ray titles their processes: `ray::` and the function."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += process.cmdline()[:1]
        return [title for title in found if title.startswith("ray::") and not title.startswith("ray::IDLE")]

    def kill(self) -> None:
        """Kill all of its processes at once, as when a machine loses its power."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            everything = [root, *root.children(recursive=True)]
            for process in everything:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGSTOP)
            for process in everything:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait()


class Cluster:
    """Nodes with a core each.

    Attributes:
        joining: What a driver's environment needs to join.
        nodes: The nodes that were started, the head first.
    """

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        # Ray's port is open to the network, and whoever may submit a task runs what they like: a token
        # of this cluster's own keeps others out.
        secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._secret = {**secret, "RAY_USAGE_STATS_ENABLED": "0"}
        self._folder, self._address = folder, f"127.0.0.1:{port}"
        self.joining = {**self._secret, "RAY_ADDRESS": self._address}
        self.nodes: list[Node] = []
        head = [
            "--head",
            "--port",
            str(port),
            "--include-dashboard",
            "false",
            "--temp-dir",
            str(folder / "ray"),
        ]
        self._start(head)

    def add(self) -> Node:
        """Start one more node."""
        return self._start(["--address", self._address])

    def _start(self, words: list[str]) -> Node:
        common = ["--num-cpus", "1", "--node-ip-address", "127.0.0.1", "--object-store-memory", str(2**27)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        log = self._folder / f"node-{len(self.nodes)}.log"
        self.nodes.append(Node([*words, *common], {**environment, **self._secret}, log))
        self.nodes[-1].wait_until_up()
        return self.nodes[-1]


@contextlib.contextmanager
def two_nodes() -> Iterator[Cluster]:
    """A cluster of a head and one more node; all of its processes are gone after the block."""
    # Short: sockets lie in it, and their paths may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    cluster = None
    try:
        cluster = Cluster(folder)
        cluster.add()
        yield cluster
    finally:
        for node in reversed(cluster.nodes if cluster else []):
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)
