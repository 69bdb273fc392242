"""The bus of a service in several processes: RabbitMQ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from threading import Lock

from fiapx.adapters.rabbit_consumer import Consumer
from fiapx.adapters.rabbit_publisher import TROUBLES, Publisher, connect, version_of
from fiapx.adapters.rabbit_topology import LADDER
from fiapx.adapters.rabbit_work import Work
from fiapx.core.errors import Unavailable
from fiapx.core.events import Event


class RabbitBus:
    """A handler that raises gets its event again after each of the ladder's delays; then it is a dead letter.

    `wait_for_work` sleeps while the broker is away: workers find jobs in the database, within their `poll`.
    """

    def __init__(self, url: str, *, ladder: Mapping[str, float] = LADDER, deadline: float = 10.0) -> None:
        self._url, self._ladder = url, ladder
        self._publisher = Publisher(url, ladder, deadline)
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
            self._consumers.append(Consumer(self._url, f"fiapx.{subscriber}", types, handler, self._ladder))

    def wait_for_work(self, timeout: float) -> bool:
        with self._lock:
            if self._closed:
                return False
            if self._work is None:
                self._work = Work(self._url, self._ladder)
                self._work.start()
        return self._work.wait(timeout)

    def check(self) -> None:
        if self._closed:
            raise Unavailable("The bus is closed.")
        try:
            connect(self._url, 1.5).close()
        except TROUBLES as error:
            raise Unavailable("The message broker does not answer.") from error

    def version(self) -> str | None:
        """Of the broker; None where it does not tell."""
        try:
            with closing(connect(self._url, 1.5)) as connection:
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
