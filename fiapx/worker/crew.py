"""Worker processes, as many as are wanted. A crashed one is replaced, later and later if that goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Final

import structlog

log = structlog.get_logger(__name__)

Spawn = Callable[[int], subprocess.Popen[bytes]]
"""Starts the process with this number, from 1; its stdout is a pipe, on which it says where its metrics are."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_PROVEN: Final = 60.0
"""Seconds after which a process has shown that it can run."""


class Member:
    """One process. It is `leaving` once it was told to take no new job."""

    def __init__(self, number: int, process: subprocess.Popen[bytes]) -> None:
        self.number, self.process = number, process
        self.started = time.monotonic()
        self.leaving = False
        self.metrics: str | None = None
        """Base URL; None until it is ready."""
        assert process.stdout is not None
        self._stdout: IO[bytes] = process.stdout
        self._said = b""
        os.set_blocking(self._stdout.fileno(), False)

    def listen(self) -> None:
        """Learn its address from the first line that it says."""
        while self.metrics is None and (words := self._stdout.read(4096)):
            self._said += words
            if b"\n" in self._said:
                self.metrics = json.loads(self._said.partition(b"\n")[0])["metrics"]

    def ended(self) -> bool:
        """Whether it has; then nothing of it is left."""
        if self.process.poll() is None:
            return False
        self._stdout.close()
        return True

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


class Crew:
    """For one thread, which has to outlive them all: the kernel ends a process whose starting thread ends.

    There are never more than `most`, counting those that are leaving.
    """

    def __init__(self, spawn: Spawn, most: int) -> None:
        self._spawn, self._most = spawn, most
        self._members: list[Member] = []
        self._pause, self._not_before = _FIRST_PAUSE, 0.0
        self.crashes = 0

    def __iter__(self) -> Iterator[Member]:
        """Safe on other threads."""
        return iter(tuple(self._members))

    def working(self) -> list[Member]:
        """Those that take jobs, the oldest first."""
        return [member for member in self if not member.leaving]

    def tend(self) -> None:
        """Notice who is ready and who has ended."""
        for member in self:
            member.listen()
            if member.ended():
                self._members.remove(member)
                if not member.leaving:
                    self._crashed(member)

    def resize(self, wanted: int) -> None:
        """Start what is missing; tell the newest of too many to leave, each after its job."""
        working = self.working()
        for member in working[wanted:]:
            self._leave(member)
        missing = min(wanted - len(working), self._most - len(self._members))
        if time.monotonic() >= self._not_before:
            for _ in range(missing):
                self._start()

    def dismiss(self) -> None:
        """Tell all to leave, each after its job."""
        for member in self.working():
            self._leave(member)

    def send(self, number: signal.Signals) -> None:
        """To all: a second SIGTERM has them give their jobs back."""
        for member in self:
            member.send(number)

    def _start(self) -> None:
        number = min(set(range(1, self._most + 1)) - {member.number for member in self._members})
        member = Member(number, self._spawn(number))
        self._members.append(member)
        log.info("worker_started", number=number, pid=member.process.pid)

    def _leave(self, member: Member) -> None:
        member.leaving = True
        member.send(signal.SIGTERM)
        log.info("worker_leaves", number=member.number, pid=member.process.pid)

    def _crashed(self, member: Member) -> None:
        now = time.monotonic()
        if now - member.started > _PROVEN:
            self._pause = _FIRST_PAUSE
        self.crashes += 1
        self._not_before = now + self._pause
        code = member.process.returncode
        log.error("worker_crashed", number=member.number, pid=member.process.pid, code=code, pause=self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
