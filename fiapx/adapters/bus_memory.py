"""The bus of a single process. The database keeps the events, so nothing here needs to survive."""

from __future__ import annotations

from collections.abc import Callable, Collection
from threading import Event as Flag
from threading import Lock

import structlog

from fiapx.core.errors import Unavailable
from fiapx.core.events import JOB_QUEUED, Event

log = structlog.get_logger(__name__)


class MemoryBus:
    """Delivers inside `publish`: when it returns, every subscriber has handled the event.

    A handler that raises makes `publish` raise Unavailable, after the others have had their turn.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._subscriptions: list[tuple[str, frozenset[str], Callable[[Event], None]]] = []
        self._work = Flag()
        self._closed = False

    def publish(self, event: Event) -> None:
        if self._closed:
            raise Unavailable("The bus is closed.")
        if event.type == JOB_QUEUED:
            self._work.set()
        with self._lock:
            matching = [(name, handler) for name, types, handler in self._subscriptions if event.type in types]
        failed = [name for name, handler in matching if not _delivered(name, handler, event)]
        if failed:
            raise Unavailable(f"Not every subscriber took the event: {', '.join(failed)}.")

    def subscribe(self, subscriber: str, types: Collection[str], handler: Callable[[Event], None]) -> None:
        with self._lock:
            self._subscriptions.append((subscriber, frozenset(types), handler))

    def wait_for_work(self, timeout: float) -> bool:
        woken = self._work.wait(timeout) and not self._closed
        if woken:
            self._work.clear()
        return woken

    def check(self) -> None:
        if self._closed:
            raise Unavailable("The bus is closed.")

    def close(self) -> None:
        self._closed = True
        self._work.set()


def _delivered(subscriber: str, handler: Callable[[Event], None], event: Event) -> bool:
    try:
        handler(event)
    except Exception:  # whatever it was, the event comes again
        log.exception("event_handler_failed", subscriber=subscriber, event_id=event.id, type=event.type)
        return False
    return True
