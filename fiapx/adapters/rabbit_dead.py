"""The dead letters: what no subscriber could take, for an operator to look at and to send again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import UnroutableError

from fiapx.adapters.rabbit_connection import opened, translated, within
from fiapx.adapters.rabbit_topology import DEAD, Topology
from fiapx.core.tracing import TRACEPARENT

_PATIENCE: Final = 15.0


@dataclass(frozen=True)
class DeadLetter:
    """`id` is the event's, or empty where the message is no event of ours; `error` may be empty, too."""

    id: str
    queue: str
    error: str
    attempts: int
    body: bytes


class DeadLetters:
    """Every call has a connection of its own. Raises Unavailable."""

    def __init__(self, url: str, topology: Topology | None = None) -> None:
        self._url, self._topology = url, topology or Topology()

    def list(self, limit: int = 100) -> list[DeadLetter]:
        """The oldest; they stay where they are, as what is not acknowledged goes back when the connection ends."""
        with self._channel() as (connection, channel), within(connection, _PATIENCE):
            found = iter(lambda: _next(channel), None)
            return [letter for _, _, letter in islice(found, limit)]

    def requeue(self, id_: str | None = None) -> int:
        """Send the letters with this event id, or all, to the queues that they came from; return how many.

        A letter whose queue is gone stays. However many there are, each is sent before the next one is looked at.
        """
        with self._channel() as (connection, channel):
            with within(connection, _PATIENCE):
                count = channel.queue_declare(DEAD, passive=True).method.message_count
            sent = 0
            for _ in range(count):
                with within(connection, _PATIENCE):
                    found = _next(channel)
                    if found is None:
                        break
                    if id_ in (None, found[2].id):
                        sent += _sent(channel, *found)
            return sent

    @contextmanager
    def _channel(self) -> Iterator[tuple[pika.BlockingConnection, BlockingChannel]]:
        with translated(), opened(self._url, _PATIENCE) as connection:
            with within(connection, _PATIENCE):
                channel = connection.channel()
                self._topology.declare(channel)
                channel.confirm_delivery()
            yield connection, channel


def _next(channel: BlockingChannel) -> tuple[int, pika.BasicProperties, DeadLetter] | None:
    method, properties, body = channel.basic_get(DEAD)
    if method is None or properties is None or body is None:
        return None
    return method.delivery_tag, properties, _letter(properties, body)


def _letter(properties: pika.BasicProperties, body: bytes) -> DeadLetter:
    """The subscriber's word where it gave up, else the broker's."""
    headers: dict[str, Any] = properties.headers or {}
    return DeadLetter(
        id=properties.message_id or "",
        queue=str(headers.get("x-fiapx-queue") or headers.get("x-first-death-queue", "")),
        error=str(headers.get("x-fiapx-error") or headers.get("x-first-death-reason", "")),
        attempts=int(headers.get("x-fiapx-attempts", 0)),
        body=body,
    )


def _sent(channel: BlockingChannel, tag: int, properties: pika.BasicProperties, letter: DeadLetter) -> bool:
    """Starts anew at the ladder's foot. Acknowledged after the broker has confirmed the copy."""
    properties.headers = {name: value for name, value in (properties.headers or {}).items() if name == TRACEPARENT}
    properties.delivery_mode = 2
    try:
        channel.basic_publish("", letter.queue, letter.body, properties, mandatory=True)
    except UnroutableError:
        return False
    channel.basic_ack(tag)
    return True
