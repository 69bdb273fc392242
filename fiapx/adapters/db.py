"""Database engines and migrations, alike for SQLite files and PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError, OperationalError

import fiapx.migrations
from fiapx.core.errors import Unavailable, UsageError
from fiapx.core.versions import require

Service = Literal["auth", "processing", "notify"]
SERVICES: Final[tuple[Service, ...]] = ("auth", "processing", "notify")


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"


def open_database(url: str, *, pool_size: int = 5, statement_timeout: float = 15) -> Engine:
    """An engine whose transactions are safe by default.

    SQLite runs in WAL with synchronous=FULL (a commit survives power loss), and every transaction that may write
    takes the write lock at its start: a deferred one fails when it tries to upgrade after somebody else's commit.
    On PostgreSQL at most `pool_size` connections are open, each statement ends after `statement_timeout` seconds, or
    three later by itself where the server does not answer at all, and a connection that was lost meanwhile is replaced
    before it is used.
    Errors keep the values of a statement to themselves: logs hold no addresses and no hashes.
    """
    if make_url(url).get_backend_name() != "sqlite":
        from fiapx.adapters.postgres import open_server  # the embedded service does without the driver

        return open_server(url, pool_size, statement_timeout)
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

    Raises UsageError for a database that is newer than this program, or a server that is too old or cannot be used.
    """
    config = _config(service)
    try:
        with engine.begin() as connection:
            _require_new_enough(connection)
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


def revision(engine: Engine) -> str | None:
    """The version of a database's schema; None for an empty one. Raises Unavailable, and UsageError for a server that
    is too old."""
    try:
        with engine.connect() as connection:
            _require_new_enough(connection)
            return MigrationContext.configure(connection).get_current_revision()
    except OperationalError as error:
        raise Unavailable(f"The database does not answer: {str(error.orig).strip()}") from None


def pending(engine: Engine, service: Service) -> str | None:
    """What is wrong with the version of a service's schema, as in "the auth database …"; None if it is ours.

    Raises Unavailable, and UsageError for a server that is too old.
    """
    scripts = ScriptDirectory.from_config(_config(service))
    wanted, found = scripts.get_current_head(), revision(engine)
    if found == wanted:
        return None
    if found is None:
        return "is empty"
    if found not in {script.revision for script in scripts.walk_revisions()}:
        return "was made by another version of fiapx"
    return f"has schema {found}, and this program needs {wanted}"


def _require_new_enough(connection: Connection) -> None:
    version = connection.dialect.server_version_info
    if connection.dialect.name == "postgresql" and version:
        require("PostgreSQL", ".".join(map(str, version)))


def _config(service: Service) -> Config:
    folder = Path(fiapx.migrations.__file__).parent
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("version_locations", str(folder / service))
    config.set_main_option("path_separator", "os")
    return config
