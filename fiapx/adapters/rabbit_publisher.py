"""Publishing with confirms, within a deadline."""

from __future__ import annotations

import time
from contextlib import suppress
from threading import Lock
from typing import Final

import pika
import structlog
from opentelemetry import propagate
from pika.adapters.blocking_connection import BlockingChannel

from fiapx.adapters.rabbit_connection import TROUBLES, connect, cut, translated, within
from fiapx.adapters.rabbit_topology import EVENTS, Topology
from fiapx.core.errors import Unavailable
from fiapx.core.events import Event

_CONNECT: Final = 2.0
_LEAST: Final = 0.1


class Publisher:
    """One connection that threads take turns with; opened at need. A call takes `deadline` seconds at most, whether it
    waits for its turn, for a connection, or for the confirm."""

    def __init__(self, url: str, topology: Topology, deadline: float) -> None:
        self._url, self._topology, self._deadline = url, topology, deadline
        self._lock = Lock()
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None

    def publish(self, event: Event) -> None:
        """Return after the broker's confirm. Raises Unavailable."""
        end = time.monotonic() + self._deadline
        if not self._lock.acquire(timeout=self._deadline):
            raise Unavailable("The message broker does not answer.")
        try:
            with translated():
                self._send(event, end)
        except Exception:
            self._drop()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        if self._connection is not None:
            cut(self._connection)
        with self._lock:
            self._drop()

    def _send(self, event: Event, end: float) -> None:
        request = structlog.contextvars.get_contextvars().get("request_id")
        headers: dict[str, str] = {}
        propagate.inject(headers)
        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=2,
            message_id=event.id,
            correlation_id=request,
            headers=headers or None,
        )
        connection = self._connected(end)
        with within(connection, _left(end)):
            channel = self._open(connection)
            channel.basic_publish(EVENTS, event.type, event.model_dump_json().encode(), properties, mandatory=True)

    def _connected(self, end: float) -> pika.BlockingConnection:
        if self._connection is not None:
            with suppress(*TROUBLES):  # learn of an end that came while nobody published
                self._connection.process_data_events(0)
        if self._connection is None or self._channel is None or not self._channel.is_open:
            self._drop()
            self._connection = connect(self._url, min(_CONNECT, _left(end)))
        return self._connection

    def _open(self, connection: pika.BlockingConnection) -> BlockingChannel:
        if self._channel is None:
            channel = connection.channel()
            self._topology.declare(channel)
            channel.confirm_delivery()
            self._channel = channel
        return self._channel

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            cut(connection)
            with suppress(*TROUBLES):
                connection.close()


def _left(end: float) -> float:
    return max(_LEAST, end - time.monotonic())
