"""SQL that both SQLite and PostgreSQL understand, where SQLAlchemy itself has no common word for it."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from sqlalchemy import BigInteger, Engine, ScalarSelect, exc, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

AWAY: Final = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)
"""What is raised while the database is away, or has no time for us."""

_SHUTDOWN: Final = "57P"
"""PostgreSQL's class of errors for a connection that it ends, whatever it was about to do."""


class now_ms(FunctionElement[int]):  # noqa: N801 - reads as a function in queries
    """The database's clock in milliseconds since 1970. Leases use it, since workers' clocks may differ."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _sqlite(_element: now_ms, _compiler: Any, **_: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(now_ms, "postgresql")
def _postgresql(_element: now_ms, _compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


def ago(seconds: float) -> ScalarSelect[int]:
    """The database's time so many seconds ago, read once a statement: an index can be searched for it."""
    return select(now_ms() - int(seconds * 1000)).scalar_subquery()


def reader(engine: Engine) -> Engine:
    """The same pool for transactions that only read: they take no write lock, and see one snapshot."""
    return engine.execution_options(postgresql_readonly=True)


def in_doubt(error: Exception) -> bool:
    """Whether a transaction that failed so may be stored all the same, now or in a moment.

    Nobody has said what became of its COMMIT.
    """
    cause = getattr(error, "orig", None)
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR
    code = getattr(cause, "pgcode", None)
    return cause is not None and (code is None or code.startswith(_SHUTDOWN))
