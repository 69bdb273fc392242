"""A thread that owns a connection to the broker and comes back after every outage."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from threading import Thread
from typing import Final

import pika
import structlog
from pika.adapters.blocking_connection import BlockingChannel

from fiapx.adapters.rabbit_connection import TROUBLES, connect, cut, within

log = structlog.get_logger(__name__)

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0

PATIENCE: Final = 10.0
"""Seconds that the broker may take for what it is asked. One that is alive may still never answer, such as for a queue
that has no leader; heartbeats do not tell."""


class Attached(ABC):
    """Subclasses say what the connection is for in `prepare` and `use`."""

    def __init__(self, url: str, queue: str) -> None:
        self._url, self._queue = url, queue
        self.closed = threading.Event()
        self._connection: pika.BlockingConnection | None = None
        self._thread = Thread(target=self._run, name=queue, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread, by cutting its connection if it hangs."""
        self.closed.set()
        if self._thread.ident is None:
            return
        self._thread.join(2)
        if self._thread.is_alive() and self._connection is not None:
            cut(self._connection)
            self._thread.join(5)

    @abstractmethod
    def prepare(self, connection: pika.BlockingConnection) -> BlockingChannel:
        """Ask the broker for what `use` needs; after `PATIENCE` seconds it is asked anew."""

    @abstractmethod
    def use(self, connection: pika.BlockingConnection, channel: BlockingChannel) -> None:
        """Work on the connection, and return soon after `closed` is set; what it raises starts a new one."""

    def _run(self) -> None:
        pause, warned = _FIRST_PAUSE, False
        while not self.closed.is_set():
            try:
                self._connection = connect(self._url, 2.0)
                with within(self._connection, PATIENCE):
                    channel = self.prepare(self._connection)
                pause, warned = _FIRST_PAUSE, False
                self.use(self._connection, channel)
            except Exception as error:
                known = isinstance(error, TROUBLES)
                if not warned or not known:
                    log.warning("broker_away", queue=self._queue, error=repr(error), exc_info=None if known else error)
                warned = True
                self.closed.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            finally:
                if self._connection is not None:
                    with suppress(Exception), within(self._connection, PATIENCE):
                        self._connection.close()
