"""Database engines and migrations, alike for SQLite files and PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError

import fiapx.migrations
from fiapx.core.errors import UsageError

Service = Literal["auth", "processing", "notify"]


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"


def open_database(url: str) -> Engine:
    """An engine whose transactions are safe by default.

    SQLite runs in WAL with synchronous=FULL (a commit survives power loss), and every transaction that may write
    takes the write lock at its start: a deferred one fails when it tries to upgrade after somebody else's commit.
    Errors keep the values of a statement to themselves: logs hold no addresses and no hashes.
    """
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    engine = create_engine(url, connect_args={"timeout": 30}, hide_parameters=True)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get("postgresql_readonly", False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def migrate(engine: Engine, service: Service) -> None:
    """Bring a service's schema to the newest version; safe to call at every start.

    Raises UsageError for a database that is newer than this program, or that cannot be used.
    """
    folder = Path(fiapx.migrations.__file__).parent
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("version_locations", str(folder / service))
    config.set_main_option("path_separator", "os")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError:  # its revision is not among ours
        raise UsageError(
            f"the {service} database was made by another version of fiapx", hint="Start that one, or a newer one."
        ) from None
    except DatabaseError as error:
        raise UsageError(
            f"cannot use the {service} database: {error.orig}", hint="Make room, or restore a backup."
        ) from error
