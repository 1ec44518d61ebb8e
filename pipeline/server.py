"""Prefect's embedded server: started first, because it takes as long as all that this process imports."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from prefect import settings


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
            SubprocessASGIServer().start()

    thread = threading.Thread(target=start, name="prefect-server-start", daemon=True)
    thread.start()
    return thread.join
