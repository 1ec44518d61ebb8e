"""How many processor cores this process may use, which in a container is not what the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """Cores that this process may use: those that it is bound to, and the CPU limit of its container.

    Linux binds by `taskset`, Slurm or a cpuset; `docker run --cpus`, a pod's `limits.cpu` and systemd's
    `CPUQuota` limit time, of which a part of a core counts as one.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([bound, *(max(1, math.ceil(limit)) for limit in _limits(_GROUPS, _OWN_GROUPS))])


def few_cores() -> int:
    """The cores, where they are fewer than the machine has; 0 where a library may count by itself."""
    return cores() if cores() < (os.cpu_count() or 1) else 0


def limit_threads() -> None:
    """Have OpenMP and BLAS libraries that are loaded from here on take no more threads than `cores()`.

    Left to themselves they take one for each core of the machine, whatever limit of time there is. What the
    environment says already stands.
    """
    if few := few_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(few))


def _limits(groups: Path, own: Path) -> Iterator[float]:
    """Each limit of time on this process, in cores; those of the groups around its own hold as well."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = groups / "cpu" if controllers else groups
        # A container may see its own group as the top, under the path that the host knows: there is nothing, then.
        below = Path(path.lstrip("/"))
        for folder in (top / one for one in (below, *below.parents)):
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            try:
                quota, period = " ".join((folder / file).read_text() for file in files).split()
            except (OSError, ValueError):
                continue
            if quota.isdecimal() and int(period):
                yield int(quota) / int(period)
