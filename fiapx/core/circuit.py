"""A breaker round calls to a server that nobody probes: time says when trying again makes sense."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

from fiapx.core.breaker import Breaker, State
from fiapx.core.errors import NotFound, Unavailable

_TRIAL: Final = 1.0
"""Seconds after which to ask again while a trial is under way."""


class Resting(Unavailable):
    """A server that has failed several times in a row is left alone for a while."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"The {name} has not answered several times in a row, and is left alone for a while.")
        self.retry_after = max(1, math.ceil(seconds))


class Circuit:
    """Opens after `threshold` calls in a row that ended with Unavailable; for `rest` seconds calls are refused then.
    Afterwards one is let through, whose outcome decides. Threads may share it.

    `name` is for people: "The <name> has not …". `on_change` is told after each change of state.
    """

    def __init__(
        self,
        name: str,
        *,
        threshold: int = 3,
        rest: float = 10,
        on_change: Callable[[Circuit], None] = lambda _circuit: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._breaker = Breaker(threshold)
        self._rest, self._clock, self._on_change = rest, clock, on_change
        self._retry_at = 0.0
        self._lock = Lock()

    @property
    def state(self) -> State:
        return self._breaker.state

    def resting(self) -> float:
        """Seconds for which calls are refused, as things are now; 0 as a rule."""
        if self.state is State.OPEN:
            return max(0.0, self._retry_at - self._clock())
        return _TRIAL if self._breaker.trying else 0.0

    def require(self) -> None:
        """Raises Resting where a call would be refused now."""
        if seconds := self.resting():
            raise Resting(self.name, seconds)

    @contextmanager
    def call(self, *, insist: bool = False) -> Iterator[None]:
        """Round one call; Unavailable counts against the server, what is not found speaks for it, other errors say
        nothing. Raises Resting, unless the caller has to `insist`: then the call's outcome counts all the same."""
        if not insist:
            self._settle(self._admit)
        try:
            yield
        except Unavailable:
            self._settle(self._breaker.failed)
            raise
        except NotFound:
            self._settle(self._breaker.succeeded)
            raise
        except BaseException:
            self._settle(self._breaker.abandoned)
            raise
        self._settle(self._breaker.succeeded)

    def _admit(self) -> None:
        if self.state is State.OPEN and self._clock() >= self._retry_at:
            self._breaker.probed()
        if not self._breaker.admit():
            raise Resting(self.name, self.resting())

    def _settle(self, step: Callable[[], None]) -> None:
        """Take one step, and tell if that changed the state."""
        with self._lock:
            before = self.state
            step()
            if self.state is State.OPEN and before is not State.OPEN:
                self._retry_at = self._clock() + self._rest
        if self.state is not before:
            self._on_change(self)
