"""What became of mails, for operators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, Row, select

from fiapx.notify.tables import deliveries, delivery_log
from fiapx.server.sql import reader

_BATCH: Final = 500
"""Mails whose attempts are asked for at once."""


@dataclass(frozen=True)
class MailAttempt:
    """One time that a mail was tried. `state`: started, sent, retry or failed. Times are milliseconds since 1970."""

    number: int
    state: str
    error: str | None
    started_ms: int
    ended_ms: int | None


@dataclass(frozen=True)
class MailRecord:
    """One mail. `state`: pending, sent, failed or skipped. Nothing is known any more of a deleted user's."""

    id: str
    event: str
    job_id: str | None
    recipient: str | None
    state: str
    created_ms: int
    next_attempt_ms: int | None
    finished_ms: int | None
    attempts: Sequence[MailAttempt]

    @property
    def reason(self) -> str:
        """What was wrong the last time, if anything was."""
        return (self.attempts[-1].error or "") if self.attempts else ""


class History:
    """Reads notify's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = reader(engine)

    def mails(self, *, state: str | None = None, recipient: str | None = None, limit: int | None) -> list[MailRecord]:
        """The newest first, with all their attempts; only those in `state`, or to `recipient`, where they are given."""
        query = select(deliveries).order_by(deliveries.c.created_ms.desc(), deliveries.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(deliveries.c.status == state)
        if recipient is not None:
            query = query.where(deliveries.c.recipient == recipient)
        with self._engine.connect() as connection:
            return [
                _record(row, tried.get(row.id, []))
                for rows in connection.execute(query).partitions(_BATCH)
                for tried in [_attempts(connection.execute(_log(rows)).all())]
                for row in rows
            ]


def _log(rows: Sequence[Row[Any]]) -> Any:
    wanted = delivery_log.c.delivery_id.in_([row.id for row in rows])
    return select(delivery_log).where(wanted).order_by(delivery_log.c.attempt)


def _attempts(rows: Sequence[Row[Any]]) -> dict[str, list[MailAttempt]]:
    """By delivery."""
    found: dict[str, list[MailAttempt]] = {}
    for row in rows:
        attempt = MailAttempt(row.attempt, row.status, row.error, row.started_ms, row.ended_ms)
        found.setdefault(row.delivery_id, []).append(attempt)
    return found


def _record(row: Row[Any], attempts: Sequence[MailAttempt]) -> MailRecord:
    return MailRecord(
        id=row.id,
        event=row.event_type,
        job_id=json.loads(row.data).get("job_id"),
        recipient=row.recipient,
        state=row.status,
        created_ms=row.created_ms,
        next_attempt_ms=row.next_attempt_ms if row.status == "pending" else None,
        finished_ms=row.finished_ms,
        attempts=attempts,
    )
