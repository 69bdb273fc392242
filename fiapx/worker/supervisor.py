"""Keeps as many worker processes as the queue asks for."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Final

import structlog

from fiapx.worker.crew import Crew
from fiapx.worker.scaling import Policy, Scaler

log = structlog.get_logger(__name__)

_TICK: Final = 0.05
_AGAIN: Final = 2.0
"""Seconds between two signals that say the same."""
_RELEASE_TIME: Final = 15.0
"""Seconds for a process to give its jobs back, and for its decoders to end."""


class Supervisor:
    """Stops like a worker. `oldest` measures the queue: seconds, or None where no job waits; it may raise, and hang."""

    def __init__(self, crew: Crew, policy: Policy, oldest: Callable[[], float | None], interval: float = 0.5) -> None:
        self._crew, self._oldest, self._interval = crew, oldest, interval
        self._least = self._wanted = policy.least
        self._scaler = Scaler(policy)
        self._stopping = Event()
        self._deadline = math.inf
        self._eye = Thread(target=self._measure, name="queue-age", daemon=True)
        self._hand = Thread(target=self._tend, name="supervisor", daemon=True)
        self.age: float | None = None
        """What was measured last."""

    def start(self) -> None:
        """Begin; returns at once."""
        self._eye.start()
        self._hand.start()

    def stop(self, grace: float) -> None:
        """Let running jobs finish for `grace` seconds, then have them given back; return once no process is left.

        May be called again, from another thread, with a shorter grace.
        """
        self._deadline = min(self._deadline, time.monotonic() + grace)
        self._stopping.set()
        self._hand.join()

    def alive(self) -> bool:
        """Are there as many processes as there must be, and ready? For health checks."""
        ready = [member for member in self._crew.working() if member.metrics is not None]
        return self._hand.is_alive() and len(ready) >= self._least

    def _measure(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self.age = self._oldest()
            except Exception as error:  # noqa: BLE001 - the database may come back; all stay as many as they are
                log.warning("queue_not_measured", error=str(error))
            else:
                self._wanted = self._scaler.wanted(time.monotonic(), self.age)

    def _tend(self) -> None:
        while not self._stopping.is_set():
            try:
                self._crew.tend()
                self._crew.resize(self._wanted)
            except Exception:  # such as no memory for a process at the moment
                log.exception("workers_not_tended")
            self._stopping.wait(self._interval)
        self._end()

    def _end(self) -> None:
        self._crew.dismiss()
        if not self._gone(lambda: self._deadline) and not self._released():
            self._crew.send(signal.SIGKILL)
            self._gone(lambda: math.inf)

    def _released(self) -> bool:
        """Whether all give their jobs back and end. They are told again and again: a signal that comes before the last
        one was taken is lost."""
        ends = time.monotonic() + _RELEASE_TIME
        while (now := time.monotonic()) < ends:
            self._crew.send(signal.SIGTERM)
            again = now + _AGAIN
            if self._gone(lambda: again):  # noqa: B023 - it is called at once
                return True
        return False

    def _gone(self, deadline: Callable[[], float]) -> bool:
        """Whether all end before the deadline, which may come nearer meanwhile."""
        while True:
            self._crew.tend()
            if not list(self._crew):
                return True
            if time.monotonic() >= deadline():
                return False
            time.sleep(_TICK)
