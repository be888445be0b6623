"""The cores of this machine: how many this process may use, and which instructions they have.

It may use those it is bound to, within a container's quota.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
"""Lines `hierarchy:controllers:path`; of version 2, whose hierarchy is 0, no controllers."""
CPU_INFO = Path("/proc/cpuinfo")


def usable_cores() -> int:
    """Whole cores, at least one: a quota of 1.5 is worth two workers."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.ceil(min([bound or 1, *_quotas()])))


def instructions() -> frozenset[str]:
    """The names that Linux has for what the processor can do, such as `avx2`; elsewhere none."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return frozenset()
    fields = (line.partition(":") for line in lines)
    named = (value for name, _, value in fields if name.strip() in ("flags", "Features"))
    return frozenset(next(named, "").split())


def _quotas() -> Iterator[float]:
    """The quotas in cores of this process's control groups, up to the root."""
    try:
        lines = MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        hierarchy, controllers, group = line.split(":", 2)
        if hierarchy != "0" and "cpu" not in controllers.split(","):
            continue
        top = CGROUPS if hierarchy == "0" else CGROUPS / "cpu"
        path = PurePosixPath(group)
        for place in (path, *path.parents):
            if (quota := _quota(top / place.relative_to("/"), hierarchy == "0")) is not None:
                yield quota


def _quota(group: Path, version_2: bool) -> float | None:
    """The quota of one control group; None if it has none, or cannot be seen from here."""
    names = ("cpu.max",) if version_2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        words = " ".join((group / name).read_text(encoding="utf-8") for name in names).split()
        quota, period = map(int, words)  # without a quota: `max`, or -1
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None
