"""One thread where libraries would take all: the others belong to those who make and look at images.

Several threads that each call a library which takes all cores itself are slower than one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import Lock
from typing import Any

_lock = Lock()
_inside: list[Any] = []
"""One entry for each block that is being run now; the first keeps what was set before."""


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within the block, numpy's matrix products use one thread, in every thread of the process.

    For the whole of a production: each time that it is set back, threads wake that then take a
    core for a while without any work.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with _lock:
        # Nested and side by side: the first in sets it, the last out sets it back.
        _inside.append(_inside[0] if _inside else threadpool_limits(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            limit = _inside.pop()
            if not _inside:
                limit.restore_original_limits()


@contextlib.contextmanager
def one_faiss_thread() -> Iterator[None]:
    """Within the block, faiss uses one thread when this thread calls it."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
