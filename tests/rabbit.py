"""A RabbitMQ that the tests of one process share; what a test breaks, it mends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from fiapx.adapters.rabbit_topology import Topology
from scripts.servers.rabbitmq import PrivateRabbit
from tests.servers import required


@pytest.fixture(scope="session")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbit]:
    with required():
        server = PrivateRabbit(tmp_path_factory.mktemp("rabbit") / "data")
    with server:
        yield server


@contextmanager
def rabbit_channel(server: PrivateRabbit) -> Iterator[BlockingChannel]:
    """For looking behind the scenes."""
    connection = pika.BlockingConnection(pika.URLParameters(server.url))
    try:
        yield connection.channel()
    finally:
        connection.close()


def ready_messages(server: PrivateRabbit, queue: str) -> int:
    """How many lie there. The queue says so itself: `rabbitmqctl` lists what was true seconds ago."""
    with rabbit_channel(server) as channel:
        count: int = channel.queue_declare(queue, passive=True).method.message_count
    return count


def forget_messages(server: PrivateRabbit, topology: Topology) -> None:
    """All queues are there, and empty."""
    with rabbit_channel(server) as channel:
        topology.declare(channel)
        for name in ("jobs", "dead", *topology.subscribers):
            channel.queue_purge(f"fiapx.{name}")
