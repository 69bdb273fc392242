"""Alembic's entry: runs the versions on the connection that `fiapx.adapters.db.migrate` opened."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")  # made for requests
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7240551)")
context.configure(connection=connection, render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
