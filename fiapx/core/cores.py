"""How many cores this process may use: what its container was granted, not what the machine has."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUPS: Final = Path("/proc/self/cgroup")


def granted_cores(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> int:
    """At least 1: by affinity, and by the CPU quotas of the cgroup (version 2 or 1) and those above it, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(cgroups, own))]))


def _quotas(cgroups: Path, own: Path) -> list[float]:
    """CPU quotas in cores. Inside a container its own cgroup is often mounted as the root."""
    found = []
    for folder in _folders(cgroups, own):
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (folder / "cpu.max").read_text().split()
            found.append(int(quota) / int(period))  # "max" is no number: no quota
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                found.append(int(quota) / int(period))
    return found


def _folders(cgroups: Path, own: Path) -> set[Path]:
    folders = {cgroups, cgroups / "cpu"}
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base = cgroups / "cpu" if "cpu" in controllers.split(",") else cgroups
            inner = base / path.lstrip("/")
            folders |= {inner, *(folder for folder in inner.parents if base in folder.parents)}
    return folders
