"""Leaving a server alone that has not answered, so that not every call waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock


class Outage:
    """Remembers for `rest` seconds that a server did not answer.

    Afterwards one call tries it, while the others still keep away for as long as that may take. `began` is told the
    first error of an outage, and `ended` is called at its end.
    """

    def __init__(
        self,
        rest: float,
        *,
        began: Callable[[Exception], None],
        ended: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rest = rest
        self._began, self._ended = began, ended
        self._clock = clock
        self._lock = Lock()
        self._away_until: float | None = None

    def may_try(self) -> bool:
        with self._lock:
            if self._away_until is None:
                return True
            if self._clock() < self._away_until:
                return False
            self._away_until = self._clock() + self._rest
            return True

    def failed(self, error: Exception) -> None:
        with self._lock:
            first = self._away_until is None
            self._away_until = self._clock() + self._rest
        if first:
            self._began(error)

    def succeeded(self) -> bool:
        """Whether this was the end of an outage."""
        if self._away_until is None:  # without the lock: nearly always so
            return False
        with self._lock:
            ended, self._away_until = self._away_until is not None, None
        if ended:
            self._ended()
        return ended
