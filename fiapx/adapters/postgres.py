"""Engines for PostgreSQL, whose connections wait no longer than they were told to, whatever becomes of the server.

The server's own timeouts do not help while it is stopped, nor do TCP's while its machine still confirms every packet.
"""

from __future__ import annotations

import select
import time
from typing import Any, Final

from psycopg2 import OperationalError
from psycopg2.extensions import POLL_OK, POLL_READ, connection, set_wait_callback
from sqlalchemy import URL, Engine, create_engine, event, make_url

CONNECT: Final = 3
"""Seconds; a server that does not answer is noticed within three times as many."""


class BoundedConnection(connection):
    """Is closed, with an OperationalError, once an answer takes longer than `patience` seconds."""

    patience: float = CONNECT


def open_server(url: str, pool_size: int, statement_timeout: float) -> Engine:
    """See `open_database`. Sets psycopg2's wait callback, of which each process has one: connections that others open
    wait for ever, as they do without."""
    set_wait_callback(_wait)
    address = make_url(url).set(drivername="postgresql+psycopg2")
    engine = create_engine(
        address,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=_arguments(address, int(statement_timeout * 1000)),
    )
    _bound(engine, statement_timeout + CONNECT)
    return engine


def _arguments(address: URL, milliseconds: int) -> dict[str, Any]:
    """Ours for psycopg2. What the URL itself says wins, but for the bounds of statements, which come last."""
    theirs = address.query.get("options", ())
    bounds = f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={2 * milliseconds}"
    wishes = {
        "application_name": "fiapx",
        "keepalives_idle": 10,
        "keepalives_interval": CONNECT,
        "keepalives_count": 2,
        "tcp_user_timeout": 3000 * CONNECT,
    }
    return {name: value for name, value in wishes.items() if name not in address.query} | {
        "connection_factory": BoundedConnection,
        "options": " ".join([*([theirs] if isinstance(theirs, str) else theirs), bounds]),
    }


def _bound(engine: Engine, patience: float) -> None:
    """Statements may take so many seconds; connecting, and asking a pooled connection whether it is good, less."""

    def checked_out(opened: BoundedConnection, *_: Any) -> None:
        opened.patience = patience

    def checked_in(opened: BoundedConnection | None, *_: Any) -> None:
        if opened is not None:  # it was lost
            opened.patience = CONNECT

    event.listen(engine, "checkout", checked_out)
    event.listen(engine, "checkin", checked_in)


def _wait(opened: connection) -> None:
    """psycopg2 calls it after each request, and closes the connection if it raises."""
    patience: float | None = getattr(opened, "patience", None)
    deadline = None if patience is None else time.monotonic() + patience
    while (state := opened.poll()) != POLL_OK:
        readiness = select.poll()  # takes descriptors of any number, unlike select
        readiness.register(opened.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
        left = None if deadline is None else max(0, deadline - time.monotonic())
        if not readiness.poll(None if left is None else left * 1000):
            raise OperationalError(f"the server gave no answer within {patience:g} seconds")
