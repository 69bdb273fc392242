"""The transactional outbox: an event is stored with the change it reports, and published afterwards.

Pattern: https://microservices.io/patterns/data/transactional-outbox.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import structlog
from opentelemetry.trace import SpanKind
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from fiapx.core.errors import FiapxError
from fiapx.core.events import Event
from fiapx.core.ports import Bus
from fiapx.core.tracing import continued, span, traceparent
from fiapx.server.sql import ago, now_ms, reader

log = structlog.get_logger(__name__)

_LOCK: Final = 7240552
"""Names the relay's lock among the advisory ones of a database."""


def outbox_table(metadata: MetaData) -> Table:
    """Declare the table in a service's metadata; `seq` keeps the order of writing."""
    return Table(
        "outbox",
        metadata,
        Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
        Column("id", Text, nullable=False, unique=True),
        Column("type", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("data", Text, nullable=False),
        Column("created_ms", BigInteger, nullable=False),
        Column("published_ms", BigInteger, index=True),
        Column("traceparent", Text),  # of who wrote it
    )


class Outbox:
    """Writes events inside the caller's transaction, and hands unpublished ones to the bus."""

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._read = reader(engine)
        self._table = table

    def add(self, connection: Connection, type_: str, subject: str, data: dict[str, Any] | None = None) -> None:
        """Store an event in the transaction of `connection`."""
        self.add_all(connection, type_, {subject: data or {}})

    def add_all(self, connection: Connection, type_: str, facts: Mapping[str, dict[str, Any]]) -> None:
        """Store an event of one type for each subject, in one statement."""
        rows = [
            {"id": str(uuid.uuid4()), "type": type_, "subject": subject, "data": json.dumps(data)}
            for subject, data in facts.items()
        ]
        if rows:
            connection.execute(insert(self._table).values(created_ms=now_ms(), traceparent=traceparent()), rows)

    def forget(self, older_than: float) -> None:
        """Drop events that were published more than so many seconds ago: who missed them has had them since."""
        old = self._table.c.published_ms < ago(older_than)
        with self._engine.begin() as connection:
            connection.execute(delete(self._table).where(old))

    def backlog(self) -> tuple[int, float]:
        """How many events wait to be published, and for how many seconds the first of them has."""
        table = self._table
        with self._read.connect() as connection:
            count, oldest, now = connection.execute(
                select(func.count(), func.min(table.c.created_ms), now_ms()).where(table.c.published_ms.is_(None))
            ).one()
        return count, max(0, now - oldest) / 1000 if oldest else 0.0

    def relay(self, bus: Bus, limit: int = 100) -> int:
        """Publish up to `limit` waiting events in order; return how many. At least once: a crash between
        publishing and marking repeats the event, so subscribers recognise its id.

        Of several relays one works at a time: that keeps the order, and publishes nothing twice for nothing."""
        with self._alone() as alone:
            return self._publish(bus, limit) if alone else 0

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        if self._engine.dialect.name != "postgresql":  # SQLite serves one process
            yield True
            return
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            alone = bool(connection.scalar(select(func.pg_try_advisory_lock(_LOCK))))
            try:
                yield alone
            finally:
                if alone:  # it would go with its session as well, should this process end
                    connection.scalar(select(func.pg_advisory_unlock(_LOCK)))

    def _publish(self, bus: Bus, limit: int) -> int:
        table = self._table
        with self._read.connect() as connection:
            waiting = connection.execute(
                select(table).where(table.c.published_ms.is_(None)).order_by(table.c.seq).limit(limit)
            ).all()
        published = 0
        for row in waiting:
            event = Event(
                id=row.id, type=row.type, subject=row.subject, created_ms=row.created_ms, data=json.loads(row.data)
            )
            try:
                with continued(row.traceparent), span(f"publish {event.type}", kind=SpanKind.PRODUCER):
                    bus.publish(event)
            except FiapxError as error:
                log.warning("event_not_published", event_id=row.id, type=row.type, error=error.message)
                break
            with self._engine.begin() as connection:
                connection.execute(update(table).where(table.c.seq == row.seq).values(published_ms=now_ms()))
            published += 1
        return published
