"""Kills the processes of a stack at random, starts them again, and keeps a log of it."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from scripts.servers.process import descendants
from scripts.stack import RoleProcess, Stack
from tests.e2e.processes import Process
from tests.processing_kit import eventually
from tests.stack.kit import ask, schema

RABBIT = "rabbitmq"
MORTAL = ("gateway", "processing", "worker")


@dataclass(frozen=True)
class Kill:
    """`at` is in seconds since the first moment; `jobs` are those that the victim held."""

    at: float
    victim: str
    jobs: frozenset[str]


class Injector:
    """Sends SIGKILL for `seconds`, to a victim of `seed`'s choice at a time; each is back after a moment."""

    def __init__(self, stack: Stack, *, seconds: float, seed: int) -> None:
        self._stack, self._seconds = stack, seconds
        self._choice = random.Random(seed)
        self._away: dict[str, Future[None]] = {}
        self.kills: list[Kill] = []
        self.last = 0.0
        """The monotonic time of the last kill."""

    def run(self) -> None:
        """Return once the last victim is back. Raises ServerFailed where one does not come back."""
        began = time.monotonic()
        with ThreadPoolExecutor() as threads:
            while (now := time.monotonic() - began) < self._seconds:
                if present := self._present():
                    victim, pause = self._choice.choice(present), self._choice.uniform(0, 2)
                    self.last = time.monotonic()
                    self.kills.append(Kill(now, victim, self._kill(victim)))
                    self._away[victim] = threads.submit(self._bring_back, victim, pause)
                time.sleep(self._choice.uniform(0.2, 1.5))  # the rhythm of the faults, not a wait for something
        for returning in self._away.values():
            returning.result()

    def of(self, job_id: str) -> int:
        """How many workers were killed at this job."""
        return sum(job_id in kill.jobs for kill in self.kills)

    def by_role(self) -> Counter[str]:
        return Counter(kill.victim.rpartition("-")[0] or kill.victim for kill in self.kills)

    def _present(self) -> list[str]:
        names = [RABBIT, *(process.name for role in MORTAL for process in self._stack.of(role))]
        return [name for name in names if name not in self._away or self._away[name].done()]

    def _kill(self, victim: str) -> frozenset[str]:
        if victim == RABBIT:
            self._stack.rabbit.kill()
            return frozenset()
        process = self._stack.roles[victim]
        pid = process.pid
        kill_alone(process)
        return held(self._stack, pid)

    def _bring_back(self, victim: str, pause: float) -> None:
        time.sleep(pause)
        if victim == RABBIT:
            self._stack.rabbit.start()
        else:
            self._stack.roles[victim].start()
            self._stack.roles[victim].wait()


def held(stack: Stack, pid: int) -> frozenset[str]:
    """The jobs that a process, dead or alive, has claimed and not given back: what it logs comes after the claim."""
    jobs = f"{schema(stack)}.jobs"
    query = f"SELECT array_agg(id) FROM {jobs} WHERE state = 'running' AND worker LIKE '%:{pid}'"
    return frozenset(ask(stack, query) or ())


def kill_alone(process: RoleProcess) -> None:
    """What it has started ends by itself."""
    young = [child for pid in descendants(process.pid) if (child := Process.of(pid))]
    process.send(signal.SIGKILL)
    eventually(lambda: not any(child.alive() for child in young), 30)
    process.stop(signal.SIGKILL)
