"""How PostgreSQL would run what a service sends."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event, text

_READING = ("SELECT", "UPDATE", "DELETE", "WITH")

Statements = list[tuple[str, object]]


def fill(engine: Engine, rows: Collection[str], many: int) -> None:
    """Run each of the statements with `many` rows to add, and milliseconds in the far future as `now`."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        for insertion in rows:
            connection.execute(text(insertion), {"many": many, "now": 4_000_000_000_000})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


@contextmanager
def noted(engine: Engine) -> Iterator[Statements]:
    """What is sent meanwhile."""
    statements: Statements = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def whole_reads(engine: Engine, statements: Statements, tables: Collection[str]) -> list[str]:
    """The statements that read one of these tables from end to end, with their plans."""
    found = []
    for statement, parameters in statements:
        if statement.lstrip().startswith(_READING):
            plan = _plan(engine, statement, parameters)
            if any(f"Seq Scan on {table}" in plan for table in tables):
                found.append(f"{statement}: {plan}")
    return found


def _plan(engine: Engine, statement: str, parameters: object) -> str:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)  # type: ignore[arg-type]
        return "\n".join(str(row[0]) for row in rows)
