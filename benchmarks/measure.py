"""What a way costs: wall time, CPU time and peak memory of all its processes together. Linux only."""

from __future__ import annotations

import os
import resource
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from benchmarks.inputs import quiet

_SAMPLED: Final = 0.1
_SELDOM: Final = 0.5
"""Seconds between two looks at the memory, at first and later on: looking takes CPU time that ways which use all cores
would miss, and others not."""


class Cost(NamedTuple):
    """Seconds of wall and CPU time, and MB of memory at the peak."""

    wall: float
    cpu: float
    memory: float


def cost(commands: Sequence[Sequence[str]], folder: Path) -> Cost:
    """Run the commands one after the other, in an empty folder that is made within this one."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with _Peak() as peak:
            for command in commands:
                quiet(*command, cwd=Path(place))
        wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu, peak.bytes / 1e6)


class _Peak:
    """The most memory that this process's descendants hold at once, while the `with` block runs: their proportional
    set sizes (proc(5), smaps_rollup), so that what processes share counts once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._sampler.join()

    def _sample(self) -> None:
        began = time.perf_counter()
        while not self._ended.wait(_SAMPLED if time.perf_counter() - began < 2 else _SELDOM):
            self.bytes = max(self.bytes, sum(map(_pss, _descendants(os.getpid()))))


def _descendants(ancestor: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{ancestor}/task").glob("*/children"):
        with suppress(OSError):  # it has ended
            for child in map(int, task.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _pss(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
