"""SIGKILL of a worker in the middle of a job that both work at: what is made stays made, and the ZIP is the same."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.stack import RoleProcess, Stack
from tests.media.clips import X264, Clip
from tests.processing_kit import eventually
from tests.stack.kit import Logs, User, schema

_WORKERS: Final = 2
_HELD: Final = (
    "SELECT json_object_agg(number, lease_token) FROM {schema}.parts"
    " WHERE job_id = '{job}' AND lease_token IS NOT NULL AND NOT made"
)


pytestmark = [
    pytest.mark.lengthy,
    pytest.mark.usefixtures("books"),
    pytest.mark.fault(5, "SIGKILL of one of two workers in the middle of a shared job"),
]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes, so that both workers are at it for seconds."""
    clip = Clip("film.mp4", (*X264, "-g", "25"), frames=3000, filters="scale=640:360")
    return clip.make(tmp_path_factory.mktemp("film"))


@pytest.fixture(scope="module")
def alone(whole: Stack, film: Path) -> str:
    """The SHA-256 of what one process makes of it."""
    done = whole.of("worker")[0].command("extract", str(film), "--fps", "25", "-o", str(film.with_suffix(".zip")))
    assert done.returncode == 0, done.stderr
    return sha256(film.with_suffix(".zip").read_bytes()).hexdigest()


class Shared:
    """A job at which two workers are: the owner, who joins the parts, and a helper."""

    def __init__(self, stack: Stack, logs: Logs, user: User, film: Path) -> None:
        self._logs = logs
        self.id: str = user.upload(film, fps="25")["id"]
        eventually(lambda: bool(self._told("worker", "job_shared")))
        self.parts: int = self._told("worker", "job_shared")[0]["parts"]
        first, second = stack.of("worker")
        owns = bool(self._told(first.name, "attempt_started"))
        self.owner, self.helper = (first, second) if owns else (second, first)
        self._ask = partial(stack.postgres.ask, _HELD.format(schema=schema(stack), job=self.id), "processing")

    def made(self, worker: str = "worker") -> list[int]:
        """The parts that one has made, or both together."""
        return sorted(told["part"] for told in self._told(worker, "part_made"))

    @contextmanager
    def killed(self, victim: RoleProcess) -> Iterator[int]:
        """While it is dead; the part that it was at."""
        try:
            part = self._stopped(victim)
            victim.send(signal.SIGKILL)
            victim.stop()
            yield part
        finally:
            victim.stop(signal.SIGKILL)
            victim.start()
            victim.wait()

    def _stopped(self, victim: RoleProcess) -> int:
        """Stop it with SIGSTOP at this part: the other one ends its own, meanwhile."""
        victim.send(signal.SIGSTOP)
        while len(held := self._held()) < _WORKERS:
            victim.send(signal.SIGCONT)
            eventually(lambda: len(self._held()) == _WORKERS)
            victim.send(signal.SIGSTOP)
        eventually(lambda: len(held & self._held()) == 1)
        return int(next(iter(held & self._held()))[0])

    def _held(self) -> set[tuple[str, str]]:
        """The parts that are being made, and under which leases."""
        return set((self._ask() or {}).items())

    def _told(self, worker: str, event: str) -> list[dict[str, Any]]:
        return [told for told in self._logs.events(worker, event) if told["job_id"] == self.id]


@pytest.fixture
def shared(stack: Stack, logs: Logs, ana: User, film: Path) -> Shared:
    return Shared(stack, logs, ana, film)


def test_a_helper_that_is_killed_costs_its_part_alone(ana: User, alone: str, shared: Shared) -> None:
    with shared.killed(shared.helper) as part:
        job = ana.completed(shared.id)
    assert (job["attempt"], job["result"]["sha256"]) == (1, alone)
    assert shared.made() == list(range(shared.parts))
    assert part in shared.made(shared.owner.name)


def test_what_is_made_outlives_the_owner(ana: User, alone: str, shared: Shared) -> None:
    eventually(lambda: bool(shared.made(shared.owner.name)))
    with shared.killed(shared.owner) as part:
        job = ana.completed(shared.id)
    assert (job["attempt"], job["result"]["sha256"]) == (2, alone)
    assert shared.made() == list(range(shared.parts))
    assert part in shared.made(shared.helper.name)
