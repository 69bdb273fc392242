"""The bus of a service in several processes: RabbitMQ."""

from __future__ import annotations

from collections.abc import Callable, Collection
from threading import Lock
from typing import Final

from fiapx.adapters.rabbit_connection import TROUBLES, connected, translated, version_of
from fiapx.adapters.rabbit_consumer import Consumer
from fiapx.adapters.rabbit_publisher import Publisher
from fiapx.adapters.rabbit_topology import Topology
from fiapx.adapters.rabbit_work import Work
from fiapx.core.errors import Unavailable
from fiapx.core.events import Event

_CHECK: Final = 0.9
"""Seconds for each half of a check: to connect, and to close."""


class RabbitBus:
    """A handler that raises gets its event again after each of the ladder's delays; then it is a dead letter.

    While what the handler needs is away, its event comes again and again.

    Events wait for the topology's subscribers from the first use on, for others from their first subscription.
    `publish` takes `deadline` seconds at most.
    `wait_for_work` sleeps while the broker is away: workers find jobs in the database, within their `poll`.
    """

    def __init__(self, url: str, topology: Topology, *, deadline: float = 10.0) -> None:
        self._url, self._topology = url, topology
        self._publisher = Publisher(url, topology, deadline)
        self._lock = Lock()
        self._consumers: list[Consumer] = []
        self._work: Work | None = None
        self._closed = False

    def publish(self, event: Event) -> None:
        if self._closed:
            raise Unavailable("The bus is closed.")
        self._publisher.publish(event)

    def subscribe(self, subscriber: str, types: Collection[str], handler: Callable[[Event], None]) -> None:
        with self._lock:
            self._consumers.append(Consumer(self._url, subscriber, types, handler, self._topology))

    def wait_for_work(self, timeout: float) -> bool:
        with self._lock:
            if self._closed:
                return False
            if self._work is None:
                self._work = Work(self._url, self._topology)
                self._work.start()
        return self._work.wait(timeout)

    def check(self) -> None:
        if self._closed:
            raise Unavailable("The bus is closed.")
        with translated(), connected(self._url, _CHECK):
            return

    def version(self) -> str | None:
        """Of the broker; None where it does not tell."""
        try:
            with connected(self._url, _CHECK) as connection:
                return version_of(connection)
        except TROUBLES:
            return None

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for part in (*self._consumers, self._work):
                if part is not None:
                    part.close()
        self._publisher.close()
