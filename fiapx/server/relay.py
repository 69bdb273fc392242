"""Hands the outbox to the bus, promptly and until it is taken."""

from __future__ import annotations

import time
from threading import Event
from typing import Final

import structlog

from fiapx.core.ports import Bus
from fiapx.server.outbox import Outbox

log = structlog.get_logger(__name__)

_KEEP: Final = 7 * 24 * 3600
"""Seconds that a published event is kept, to see what happened; events hold names and addresses."""
_TIDY_INTERVAL: Final = 3600.0


class Relay:
    """Also tidies up. `wake` is set by those who write to the outbox in this process; others are seen after `interval`
    seconds."""

    def __init__(self, outbox: Outbox, bus: Bus, wake: Event, *, interval: float = 1.0) -> None:
        self._outbox = outbox
        self._bus = bus
        self._wake = wake
        self._interval = interval

    def drain(self) -> int:
        """Publish what waits now; return how many events."""
        total = 0
        while published := self._outbox.relay(self._bus):
            total += published
        return total

    def run(self, stop: Event) -> None:
        """Publish until `stop` is set; notices it within `interval` seconds, at once if `wake` is set as well."""
        next_tidy = time.monotonic()
        while not stop.is_set():
            self._wake.wait(self._interval)
            self._wake.clear()
            try:
                self.drain()
                if time.monotonic() >= next_tidy:
                    self._outbox.forget(_KEEP)
                    next_tidy = time.monotonic() + _TIDY_INTERVAL
            except Exception:  # the database may come back
                log.exception("relay_failed")
                stop.wait(self._interval)
