"""The migrations and the tables in the code are the same schema."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fiapx.adapters.db import migrate, open_database, sqlite_url
from fiapx.server.processing.tables import metadata


def test_migrations_give_the_schema_of_the_code(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "p.db"))
    migrate(engine, "processing")
    migrate(engine, "processing")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()
