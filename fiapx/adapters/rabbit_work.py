"""The queue that says "work exists", for those who wait for it."""

from __future__ import annotations

from threading import Condition
from typing import Final

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosed
from pika.spec import Basic, BasicProperties
from pydantic import ValidationError

from fiapx.adapters.rabbit_connection import within
from fiapx.adapters.rabbit_thread import PATIENCE, Attached
from fiapx.adapters.rabbit_topology import JOBS, Topology
from fiapx.core.events import Event

_TICK: Final = 0.05


class Work(Attached):
    """Consumes only while somebody waits, so that no message lies at a busy worker.

    A message is a hint, and acknowledged when a waiter has it: should it die before it claims the job, others find the
    job in the database.
    """

    def __init__(self, url: str, topology: Topology) -> None:
        super().__init__(url, JOBS)
        self._topology = topology
        self._change = Condition()
        self._waiting = 0
        self._hints = 0
        self._spare: int | None = None
        """The message that came when nobody waited any more; goes back once the consumer is cancelled, as it would
        only come again before, until its deliveries reach their limit."""

    def wait(self, timeout: float) -> bool:
        """Whether a hint came within `timeout` seconds."""
        with self._change:
            self._waiting += 1
            try:
                self._change.wait_for(lambda: self._hints > 0 or self.closed.is_set(), timeout)
                if not self._hints:
                    return False
                self._hints -= 1
                return True
            finally:
                self._waiting -= 1

    def close(self) -> None:
        self.closed.set()
        with self._change:
            self._change.notify_all()
        super().close()

    def prepare(self, connection: pika.BlockingConnection) -> BlockingChannel:
        channel = connection.channel()
        self._topology.declare(channel)
        channel.basic_qos(prefetch_count=1)
        self._spare = None
        return channel

    def use(self, connection: pika.BlockingConnection, channel: BlockingChannel) -> None:
        tag: str | None = None
        while not self.closed.is_set():
            if tag is None and self._wanted():
                with within(connection, PATIENCE):
                    tag = channel.basic_consume(JOBS, self._take)
            elif tag is not None and (self._spare is not None or not self._wanted()):
                with within(connection, PATIENCE):
                    self._leave(channel, tag)
                tag = None
            connection.process_data_events(_TICK)
            if not channel.is_open:
                raise ChannelClosed(0, "closed by the broker")
            if tag is not None and tag not in channel.consumer_tags:  # its queue was deleted
                tag = None
                with within(connection, PATIENCE):
                    self._topology.declare(channel)

    def _wanted(self) -> bool:
        return self._waiting > self._hints

    def _leave(self, channel: BlockingChannel, tag: str) -> None:
        channel.basic_cancel(tag)
        if self._spare is not None:
            channel.basic_nack(self._spare, requeue=True)
            self._spare = None

    def _take(self, channel: BlockingChannel, method: Basic.Deliver, _properties: BasicProperties, body: bytes) -> None:
        try:
            Event.model_validate_json(body)
        except ValidationError:
            channel.basic_reject(method.delivery_tag, requeue=False)  # a dead letter
            return
        with self._change:
            free = self._waiting > self._hints
            if free:
                self._hints += 1
                self._change.notify()
        if free:
            channel.basic_ack(method.delivery_tag)
        else:
            self._spare = method.delivery_tag
