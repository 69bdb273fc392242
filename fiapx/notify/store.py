"""Notify's database: each method is one transaction."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Engine, case, insert, select, update
from sqlalchemy.exc import IntegrityError

from fiapx.core.events import Event
from fiapx.core.tracing import traceparent
from fiapx.notify.tables import deliveries, delivery_log
from fiapx.server.sql import now_ms, reader


@dataclass(frozen=True)
class Delivery:
    """A mail to send. `attempt` counts from 1, and fences what its sender writes afterwards."""

    id: str
    event_id: str
    recipient: str
    data: dict[str, Any]
    attempt: int
    traceparent: str | None


class NotifyStore:
    """Deliveries and their attempts. Times given are in seconds from now, by the database's clock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._read = reader(engine)

    def add(self, event: Event, recipient: str | None) -> bool:
        """Store a delivery for an event; False, and no change, when it was stored before."""
        values = {
            "id": str(uuid.uuid4()),
            "event_id": event.id,
            "event_type": event.type,
            "recipient": recipient,
            "user_id": event.data.get("user_id"),
            "data": json.dumps(event.data),
            "status": "pending" if recipient else "skipped",
            "attempts": 0,
            "traceparent": traceparent(),
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(deliveries).values(**values, next_attempt_ms=now_ms(), created_ms=now_ms()))
        except IntegrityError:
            return False
        return True

    def forget_user(self, user_id: str) -> None:
        """Drop what a user's mails said and where they went. The rows stay, so that a repeated event sends none."""
        mine = deliveries.c.user_id == user_id
        unsent = case((deliveries.c.status == "pending", "skipped"), else_=deliveries.c.status)
        with self._engine.begin() as connection:
            connection.execute(
                update(delivery_log)
                .where(delivery_log.c.delivery_id.in_(select(deliveries.c.id).where(mine)))
                .values(error=None)  # mail servers like to repeat the address
            )
            connection.execute(update(deliveries).where(mine).values(recipient=None, data="{}", status=unsent))

    def claim(self, lease: float) -> Delivery | None:
        """The delivery that has been due longest, begun: nobody else gets it before `lease` seconds are over.

        Whoever dies before `finish` leaves it to be sent again then.
        """
        due = (
            select(deliveries)
            .where(deliveries.c.status == "pending", deliveries.c.next_attempt_ms <= now_ms())
            .order_by(deliveries.c.next_attempt_ms)
            .limit(1)
        )
        with self._read.connect() as connection:
            if connection.execute(due).first() is None:  # most polls end here, without the write lock
                return None
        with self._engine.begin() as connection:
            row = connection.execute(due.with_for_update(skip_locked=True)).one_or_none()
            if row is None:
                return None
            attempt = row.attempts + 1
            connection.execute(
                update(deliveries)
                .where(deliveries.c.id == row.id)
                .values(attempts=attempt, next_attempt_ms=now_ms() + int(lease * 1000))
            )
            begun = {"delivery_id": row.id, "attempt": attempt, "status": "started"}
            connection.execute(insert(delivery_log).values(**begun, started_ms=now_ms()))
        return Delivery(row.id, row.event_id, row.recipient, json.loads(row.data), attempt, row.traceparent)

    def finish(self, delivery: Delivery, status: Literal["sent", "failed"], error: str | None = None) -> None:
        """The mail is sent, or never will be."""
        self._end(delivery, status, error, {"status": status, "finished_ms": now_ms()})

    def postpone(self, delivery: Delivery, delay: float, error: str) -> None:
        """Try again in `delay` seconds."""
        self._end(delivery, "retry", error, {"next_attempt_ms": now_ms() + int(delay * 1000)})

    def _end(self, delivery: Delivery, status: str, error: str | None, change: dict[str, Any]) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                update(delivery_log)
                .where(delivery_log.c.delivery_id == delivery.id, delivery_log.c.attempt == delivery.attempt)
                .values(status=status, error=error, ended_ms=now_ms())
            )
            mine = (deliveries.c.id == delivery.id) & (deliveries.c.attempts == delivery.attempt)
            connection.execute(update(deliveries).where(mine, deliveries.c.status == "pending").values(**change))
