"""One subscriber."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pika
import structlog
from opentelemetry.trace import SpanKind
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosed
from pika.spec import Basic
from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fiapx.adapters.rabbit_connection import within
from fiapx.adapters.rabbit_thread import PATIENCE, Attached
from fiapx.adapters.rabbit_topology import DEAD, Topology, declare_queue, queue_of, retry
from fiapx.core.errors import Unavailable
from fiapx.core.events import Event
from fiapx.core.tracing import TRACEPARENT, continued, span

log = structlog.get_logger(__name__)

_AWAY: Final = (Unavailable, OperationalError, InterfaceError, PoolTimeout)
_ATTEMPTS, _QUEUE, _ERROR = "x-fiapx-attempts", "x-fiapx-queue", "x-fiapx-error"


class Consumer(Attached):
    """Calls `handler` off the connection's thread, so that heartbeats go on however long it takes."""

    def __init__(
        self,
        url: str,
        subscriber: str,
        types: Collection[str],
        handler: Callable[[Event], None],
        topology: Topology,
    ) -> None:
        super().__init__(url, queue_of(subscriber))
        self._types, self._handler, self._topology = types, handler, topology
        self._hands = ThreadPoolExecutor(1, thread_name_prefix=self._queue)
        self._taken: deque[tuple[Basic.Deliver, pika.BasicProperties, bytes]] = deque()
        self.start()

    def close(self) -> None:
        super().close()
        self._hands.shutdown(wait=False)

    def prepare(self, connection: pika.BlockingConnection) -> BlockingChannel:
        channel = connection.channel()
        self._topology.declare(channel)
        declare_queue(channel, self._queue, self._types)
        channel.confirm_delivery()
        channel.basic_qos(prefetch_count=1)
        self._taken.clear()
        channel.basic_consume(self._queue, self._take)
        return channel

    def use(self, connection: pika.BlockingConnection, channel: BlockingChannel) -> None:
        while not self.closed.is_set():
            if not channel.consumer_tags:
                raise ChannelClosed(0, "ended by the broker, or its queue was deleted")
            if not self._taken:
                connection.process_data_events(0.5)
                continue
            method, properties, body = self._taken.popleft()
            error = self._handled(connection, properties, body)
            if error is not None:
                with within(connection, PATIENCE):
                    self._forward(channel, properties, body, error)
            channel.basic_ack(method.delivery_tag)

    def _take(self, _channel: BlockingChannel, method: Basic.Deliver, about: pika.BasicProperties, body: bytes) -> None:
        self._taken.append((method, about, body))

    def _handled(
        self, connection: pika.BlockingConnection, properties: pika.BasicProperties, body: bytes
    ) -> Exception | None:
        try:
            event = Event.model_validate_json(body)
        except ValidationError as invalid:
            return invalid
        future = self._hands.submit(self._handle, event, (properties.headers or {}).get(TRACEPARENT))
        while not future.done():
            connection.process_data_events(0.02)
        failure = future.exception()
        return failure if failure is None or isinstance(failure, Exception) else RuntimeError(repr(failure))

    def _handle(self, event: Event, parent: object) -> None:
        with continued(parent), span(f"process {event.type}", {"messaging.queue": self._queue}, kind=SpanKind.CONSUMER):
            self._handler(event)

    def _forward(
        self, channel: BlockingChannel, properties: pika.BasicProperties, body: bytes, error: Exception
    ) -> None:
        """To the next rung, or to the dead letters: at the ladder's end, or at once what is no event.

        Whatever is away says nothing of the event: that is no attempt, and it comes again soon, until all are back.
        """
        headers, rungs = dict(properties.headers or {}), list(self._topology.ladder)
        away = isinstance(error, _AWAY)
        attempts = int(headers.get(_ATTEMPTS, 0)) + (not away)
        hopeless = isinstance(error, ValidationError) or attempts > len(rungs)
        properties.headers = headers | {_ATTEMPTS: attempts, _QUEUE: self._queue, _ERROR: repr(error)[:500]}
        properties.delivery_mode = 2
        log.warning("delivery_failed", queue=self._queue, attempts=attempts, dead=hopeless, error=repr(error)[:500])
        exchange = DEAD if hopeless else retry(rungs[0 if away else attempts - 1])
        channel.basic_publish(exchange, self._queue, body, properties, mandatory=True)
