"""Prefect's embedded server: started first, because it takes as long as all that this process imports."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable

from prefect import settings

_watches: list[subprocess.Popen[bytes]] = []
"""What ends a server with this process, kept until then."""


def start_server() -> Callable[[], None]:
    """Begin to start it in a process of its own; nothing where another server is set.

    Returns:
        Waits until it answers. Call it before the first flow: a client takes a server that is starting for one
        that has started.
    """
    if settings.PREFECT_API_URL.value() or not settings.PREFECT_SERVER_EPHEMERAL_ENABLED.value():
        return lambda: None
    # Imported here and not in the thread: two threads that import one package may see half of it.
    from prefect.server.api.server import SubprocessASGIServer

    def start() -> None:
        # What goes wrong is told by the client, which tries again.
        with contextlib.suppress(Exception):
            server = SubprocessASGIServer()
            server.start()
            if server.server_process is not None and os.name == "posix":
                _watches.append(_end_with_this_process(server.server_process.pid))

    thread = threading.Thread(target=start, name="prefect-server-start", daemon=True)
    thread.start()
    return thread.join


def _end_with_this_process(server: int) -> subprocess.Popen[bytes]:
    """Prefect ends its server when this process ends by itself; one that is killed would leave it running for good."""
    nothing = subprocess.DEVNULL
    # Nobody writes: it reads to its end when the other end of the pipe is gone.
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill "$0"', str(server)],
        stdin=subprocess.PIPE,
        stdout=nothing,
        stderr=nothing,
    )
