"""A real Prefect server, with workers, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

_START_S = 180


class Server:
    """A server that can be stopped and started again on the same port and database.

    Attributes:
        environment: What its clients are given.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as one:
            self._port = one.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/api"
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(folder),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "COLUMNS": "200",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self._port)]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *words], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/health").close()
                return
            time.sleep(0.2)
        raise RuntimeError((self._folder / "server.log").read_text()[-4000:])

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            kill_group(self._process)

    def ask(self, path: str, content: Mapping[str, Any] | None = None, method: str = "POST") -> Any:
        """Call the server's API."""
        request = urllib.request.Request(
            f"{self.url}/{path}",
            None if content is None else json.dumps(content).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def flow_runs(self) -> list[dict[str, Any]]:
        """All flow runs, the first expected first."""
        found: list[dict[str, Any]] = self.ask("flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
        return found

    def wait_for(self, run_id: str, *states: str, within_s: float = 400) -> dict[str, Any]:
        """Wait until a flow run is in one of these states."""
        deadline = time.monotonic() + within_s
        while True:
            run: dict[str, Any] = self.ask(f"flow_runs/{run_id}", method="GET")
            if run["state_type"] in states or run["state_name"] in states:
                return run
            logs = self._folder.glob("*.log")
            assert time.monotonic() < deadline, (
                run["state"],
                {log.name: log.read_text()[-3000:] for log in logs},
            )
            time.sleep(0.5)

    @contextlib.contextmanager
    def worker(self, pool: str = "ganaug") -> Iterator[subprocess.Popen[bytes]]:
        """A worker of the pool, while the block runs."""
        words = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
        with (self._folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *words], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                kill_tree(process)

    def start_run(self, name: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Start a deployment as the server's page does, and give the run's id."""
        flow, _, own = name.partition("/")
        found = self.ask(f"deployments/name/{flow}/{own}", method="GET")
        run = self.ask(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters or {}})
        return str(run["id"])

    def ganaug(self, where: Path, *words: str) -> str:
        """Run a command of ganaug to its end and give what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "ganaug.cli", *words],
            cwd=where,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


def kill_tree(process: subprocess.Popen[Any]) -> None:
    """Kill a process and all its descendants at once, also those with a session of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        own = psutil.Process(process.pid)
        for one in [*own.children(recursive=True), own]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process and all that it started, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """A server, while the block runs."""
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
