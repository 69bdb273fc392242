"""Takes events in, gets mails out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
from opentelemetry.trace import SpanKind
from sqlalchemy import Engine

from fiapx.core.errors import FiapxError, Unavailable
from fiapx.core.events import JOB_COMPLETED, JOB_FAILED, USER_DELETED, Event
from fiapx.core.ports import Mailer
from fiapx.core.tracing import continued, span
from fiapx.notify.render import Renderer
from fiapx.notify.store import Delivery, NotifyStore
from fiapx.server.sql import AWAY

log = structlog.get_logger(__name__)

_NEWS: Final = (JOB_COMPLETED, JOB_FAILED)
EVENTS: Final = (*_NEWS, USER_DELETED)
"""What to subscribe to."""

BACKOFF: Final = (10, 60, 600, 3600, 6 * 3600)
"""Seconds before each further attempt; when they are used up, the mail has failed."""

_POLL: Final = 1.0
_PAUSE: Final = 5.0


class Notifier:
    """Keeps a row for each event, so that a repeated event sends no second mail and a crash loses none.

    A crash between the server's acceptance and our note of it sends the mail again, with the same Message-ID. A
    database that is away just then does not, unless it is for longer than the lease, and another process comes first.
    """

    def __init__(self, engine: Engine, mailer: Mailer, renderer: Renderer, *, lease: float) -> None:
        """`lease`: seconds until a mail is sent again whose sender vanished; longer than any delivery takes."""
        self._store = NotifyStore(engine)
        self._mailer = mailer
        self._renderer = renderer
        self._lease = lease
        self._outcome: Callable[[], None] | None = None
        """Of the last mail, while the database does not take it."""

    def handle(self, event: Event) -> None:
        """Bus handler for `EVENTS`: remember to write a mail, or forget a user. Events that repeat do nothing."""
        if event.type == USER_DELETED:
            self._store.forget_user(event.subject)
        elif event.type in _NEWS and self._store.add(event, event.data.get("email")):
            log.info("mail_queued", event_id=event.id, job_id=event.subject)

    def deliver_due(self, limit: int = 10) -> int:
        """Send up to `limit` mails that are due; return how many were tried.

        While the mail server is left alone they stay due, and none is charged an attempt. While the database is away
        nothing is sent: what became of the last mail is noted first, lest it is sent again.
        """
        for count in range(limit):
            self._note()
            delivery = None if self._mailer.resting() else self._store.claim(self._lease)
            if delivery is None:
                return count
            with continued(delivery.traceparent), span("mail", {"fiapx.mail.attempt": delivery.attempt}):
                self._deliver(delivery)
        return limit

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set."""
        while not stop.is_set():
            try:
                pause = 0.0 if self.deliver_due(1) else _POLL
            except Exception:
                log.exception("delivery_loop_failed")
                pause = _PAUSE
            stop.wait(pause)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            with span("send mail", kind=SpanKind.CLIENT):
                self._mailer.send(self._renderer.render(delivery.event_id, delivery.recipient, delivery.data))
        except Unavailable as error:
            self._retry(delivery, error.message)
        except FiapxError as error:
            self._give_up(delivery, error.message)
        except Exception as error:
            log.exception("mail_crashed", event_id=delivery.event_id)
            self._retry(delivery, f"Internal error: {type(error).__name__}")
        else:
            about = {"event_id": delivery.event_id, "job_id": delivery.data.get("job_id")}
            log.info("mail_sent", **about, attempt=delivery.attempt)
            self._end(partial(self._store.finish, delivery, "sent"))

    def _retry(self, delivery: Delivery, error: str) -> None:
        if delivery.attempt > len(BACKOFF):
            self._give_up(delivery, error)
            return
        delay = BACKOFF[delivery.attempt - 1]
        log.warning("mail_postponed", event_id=delivery.event_id, error=error, delay=delay, attempt=delivery.attempt)
        self._end(partial(self._store.postpone, delivery, delay, error))

    def _give_up(self, delivery: Delivery, error: str) -> None:
        log.error("mail_failed", event_id=delivery.event_id, error=error, attempt=delivery.attempt)
        self._end(partial(self._store.finish, delivery, "failed", error))

    def _end(self, outcome: Callable[[], None]) -> None:
        self._outcome = outcome
        self._note()

    def _note(self) -> None:
        """Raises what the database does while it is away; the outcome stays to be noted then."""
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return
        try:
            outcome()
        except AWAY:
            self._outcome = outcome
            raise
