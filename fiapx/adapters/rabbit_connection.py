"""Connections to the broker, with an end to every wait: a stopped broker keeps pika's own timeouts from working."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Final

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ChannelClosedByBroker, NackError, UnroutableError

from fiapx.core.errors import Unavailable

TROUBLES: Final = (AMQPError, AMQPConnectorException, OSError)
"""What pika raises; the second is no subclass of the first."""
_PRECONDITION_FAILED: Final = 406


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
    """End a connection from another thread."""
    with suppress(AttributeError, OSError):
        connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001  pika has no public way


@contextmanager
def within(connection: pika.BlockingConnection, seconds: float) -> Iterator[None]:
    """Cut the connection if the block takes longer: calls that wait in it raise AMQPError then."""
    watchdog = Timer(seconds, cut, [connection])
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


@contextmanager
def connected(url: str, patience: float) -> Iterator[pika.BlockingConnection]:
    """A connection for one errand, which may take as long as connecting. Raises AMQPError or OSError."""
    with opened(url, patience) as connection, within(connection, patience):
        yield connection


@contextmanager
def opened(url: str, patience: float) -> Iterator[pika.BlockingConnection]:
    """A connection for errands that have bounds of their own. Raises AMQPError or OSError."""
    connection = connect(url, patience)
    try:
        yield connection
    finally:
        with suppress(*TROUBLES), within(connection, patience):  # all is done, or has raised already
            connection.close()


@contextmanager
def translated() -> Iterator[None]:
    """Raise Unavailable for whatever goes wrong with the broker."""
    try:
        yield
    except ChannelClosedByBroker as error:
        if error.reply_code == _PRECONDITION_FAILED:
            raise Unavailable(
                f"The message broker has a queue of that name that is different: {error.reply_text}",
                hint="Let it run empty, then delete it with `rabbitmqctl delete_queue`; it is made anew.",
            ) from error
        raise Unavailable(f"The message broker refused: {error.reply_text}") from error
    except (UnroutableError, NackError) as error:
        raise Unavailable("The message broker did not take the message.") from error
    except TROUBLES as error:
        raise Unavailable("The message broker does not answer.") from error
