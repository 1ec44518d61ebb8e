"""Prefect's embedded server is started before it is needed, and only where there is no other."""

import os
import subprocess
import sys
import time

import psutil
import pytest

CODE = """
import time
import psutil
from pipeline.server import start_server


def servers():
    return sum("prefect.server.api.server:create_app" in one.cmdline() for one in psutil.Process().children())


start_server()
until = time.monotonic() + {patience}
while not servers() and time.monotonic() < until:
    time.sleep(0.1)
print(servers())
"""


@pytest.mark.parametrize(("url", "started", "patience"), [("", 1, 60), ("http://127.0.0.1:9/api", 0, 2)])
def test_it_is_on_its_way_at_once_unless_another_is_set(url, started, patience, tmp_path):
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": url}
    done = subprocess.run(
        [sys.executable, "-c", CODE.replace("{patience}", str(patience))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.stdout.split() == [str(started)], done.stderr


KILLED = """
import time
from pipeline.server import start_server
from prefect.server.api.server import SubprocessASGIServer

start_server()()
print(SubprocessASGIServer().server_process.pid, flush=True)
time.sleep(600)
"""


def test_it_ends_with_a_process_that_is_killed(tmp_path):
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": ""}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        server = psutil.Process(int(process.stdout.readline()))
        process.kill()
    until = time.monotonic() + 60
    while not is_gone(server) and time.monotonic() < until:
        time.sleep(0.1)
    if not is_gone(server):
        server.kill()
        pytest.fail("the server goes on")


def is_gone(server: psutil.Process) -> bool:
    """Whether it has ended; whoever takes the place of its parent may be slow to ask how."""
    try:
        return server.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
