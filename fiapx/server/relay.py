"""Hands the outbox to the bus, promptly and until it is taken."""

from __future__ import annotations

from threading import Event

import structlog

from fiapx.core.ports import Bus
from fiapx.server.outbox import Outbox

log = structlog.get_logger(__name__)


class Relay:
    """`wake` is set by those who write to the outbox in this process; others are seen after `interval` seconds."""

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
        while not stop.is_set():
            self._wake.wait(self._interval)
            self._wake.clear()
            try:
                self.drain()
            except Exception:  # the database may come back
                log.exception("relay_failed")
                stop.wait(self._interval)
