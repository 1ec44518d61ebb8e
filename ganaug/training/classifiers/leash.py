"""Runs a command that ends when whoever started it does, however that ends.

    python leash.py PROGRAM [WORD ...]

It stands between the two because one that is killed can no longer kill: while standard input is open
the command may run; when it is closed, the command and all that it has started are killed. The exit
status is the command's. It uses nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

NOT_FOUND = 127


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and what it has started, unless it has ended."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def main(words: list[str]) -> int:
    """Run a command; gives its exit status, or 128 and the number of the signal that killed it."""
    try:
        # A session of its own, so that its children can be killed with it.
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        sys.stderr.write(f"{words[0]}: {error.strerror or error}\n")
        return NOT_FOUND

    def watch() -> None:
        # Not through sys.stdin: a thread that waits in it breaks the end of the interpreter.
        while os.read(0, 1024):
            pass
        kill(process)

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        kill(process)

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C reaches the whole foreground; what it means is for whoever holds standard input.
    signal.signal(signal.SIGINT, lambda number, frame: None)  # noqa: ARG005
    threading.Thread(target=watch, daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
