"""Who runs: read from /proc, without a trace in what is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process; `started` tells it from a later one with the same number."""

    pid: int
    parent: int
    started: int
    cpu_seconds: float

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """None if it has ended; a zombie has."""
        try:
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        ticks = int(fields[11]) + int(fields[12])
        cpu_seconds = ticks / os.sysconf("SC_CLK_TCK")
        return None if fields[0] in "ZX" else cls(pid, int(fields[1]), int(fields[19]), cpu_seconds)

    def alive(self) -> bool:
        now = Process.of(self.pid)
        return now is not None and now.started == self.started

    def command(self) -> str:
        with suppress(FileNotFoundError, ProcessLookupError):
            return (_PROC / str(self.pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""


def children(pid: int) -> list[Process]:
    """The live children of a process."""
    return [process for process in _all() if process.parent == pid]


def decoders(pid: int) -> list[Process]:
    """The children of a server or a worker that decode at this moment."""
    own = children(pid)
    nurseries = [process for process in own if "fiapx.media.nursery" in process.command()]
    forked = [child for nursery in nurseries for child in children(nursery.pid)]
    return [process for process in own if process not in nurseries] + forked


def traces(folder: Path) -> list[str]:
    """Commands of live processes that belong to `folder`: by their environment, or by a file of it that they hold open.

    The second finds decoders, whose environment is empty.
    """
    mark = f"{folder}/"
    return [process.command() for process in _all() if process.pid != os.getpid() and _belongs(process.pid, mark)]


def _belongs(pid: int, mark: str) -> bool:
    with suppress(OSError):
        if mark.encode() in (_PROC / str(pid) / "environ").read_bytes():
            return True
        return any(str(file.readlink()).startswith(mark) for file in (_PROC / str(pid) / "fd").iterdir())
    return False


def peak_memory(pid: int) -> int:
    """The most bytes that were ever resident."""
    lines = (_PROC / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _all() -> Iterator[Process]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (process := Process.of(int(entry.name))):
            yield process
