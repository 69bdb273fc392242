"""Publishing with confirms, and with an end to every wait."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from threading import Lock, Timer
from typing import Final

import pika
import structlog
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from fiapx.adapters.rabbit_topology import EVENTS, declare
from fiapx.core.errors import Unavailable
from fiapx.core.events import Event


def connect(url: str, patience: float) -> pika.BlockingConnection:
    """One attempt. Raises AMQPError or OSError."""
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = patience
    parameters.connection_attempts, parameters.heartbeat = 1, 30
    return pika.BlockingConnection(parameters)


def version_of(connection: pika.BlockingConnection) -> str | None:
    """The broker's, if it is RabbitMQ."""
    about = connection._impl.server_properties  # noqa: SLF001  pika has no public way
    return str(about["version"]) if about.get("product") == "RabbitMQ" else None


def cut(connection: pika.BlockingConnection) -> None:
    """End a connection from another thread: a stopped broker keeps pika's own timeouts from working."""
    with suppress(AttributeError, OSError):
        connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001  pika has no public way


TROUBLES: Final = (AMQPError, OSError)


class Publisher:
    """One connection that threads take turns with; opened at need, given up after `deadline` seconds in vain."""

    def __init__(self, url: str, ladder: Mapping[str, float], deadline: float) -> None:
        self._url, self._ladder, self._deadline = url, ladder, deadline
        self._lock = Lock()
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None

    def publish(self, event: Event) -> None:
        """Return after the broker's confirm. Raises Unavailable."""
        if not self._lock.acquire(timeout=self._deadline):
            raise Unavailable("The message broker does not answer.")
        try:
            self._send(event)
        except TROUBLES as error:
            self._drop()
            raise Unavailable("The message broker did not take the event.") from error
        finally:
            self._lock.release()

    def close(self) -> None:
        if self._connection is not None:
            cut(self._connection)
        with self._lock:
            self._drop()

    def _send(self, event: Event) -> None:
        request = structlog.contextvars.get_contextvars().get("request_id")
        properties = pika.BasicProperties(
            content_type="application/json", delivery_mode=2, message_id=event.id, correlation_id=request
        )
        channel = self._open()
        watchdog = Timer(self._deadline, cut, [channel.connection])
        watchdog.start()
        try:
            channel.basic_publish(EVENTS, event.type, event.model_dump_json().encode(), properties, mandatory=True)
        finally:
            watchdog.cancel()

    def _open(self) -> BlockingChannel:
        if self._connection is not None:
            with suppress(*TROUBLES):  # learn of an end that came while nobody published
                self._connection.process_data_events(0)
        if self._channel is None or not self._channel.is_open:
            self._drop()
            self._connection = connect(self._url, min(2.0, self._deadline))
            self._channel = self._connection.channel()
            declare(self._channel, self._ladder)
            self._channel.confirm_delivery()
        return self._channel

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            cut(connection)
            with suppress(*TROUBLES):
                connection.close()
