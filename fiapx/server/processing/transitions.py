"""How a job changes its state: always in a transaction that also tells the world, through the outbox."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, Row, update

from fiapx.core.events import JOB_CANCELLED, JOB_COMPLETED, JOB_FAILED, JOB_QUEUED
from fiapx.core.jobs import LIVE, JobState
from fiapx.core.ports import Cache
from fiapx.server.outbox import Outbox
from fiapx.server.processing import tables
from fiapx.server.processing.attempts import record
from fiapx.server.processing.changes import Changes, status
from fiapx.server.processing.model import GivenUp
from fiapx.server.processing.tables import jobs
from fiapx.server.sql import now_ms, reader

_TERMINAL_EVENTS = {
    JobState.COMPLETED: JOB_COMPLETED,
    JobState.FAILED: JOB_FAILED,
    JobState.CANCELLED: JOB_CANCELLED,
}
_CHANGES: Final = "changes"
_NO_LEASE = {"lease_token": None, "lease_until_ms": None}


class Transitions:
    """The database and the outbox of processing. After each commit that changes something, the cache is told and `wake`
    is set; a relay need not poll.

    `fingerprint` is that of the engine that makes the results: those of others are not taken for the same.
    """

    def __init__(self, engine: Engine, wake: Event, fingerprint: str, cache: Cache) -> None:
        self.engine = engine
        self.fingerprint = fingerprint
        self.reader = reader(engine)
        self.outbox = Outbox(engine, tables.outbox)
        self._wake = wake
        self._cache = cache

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction, of which `touched` and `changed` take note."""
        changes = Changes()
        with self.engine.begin() as connection:
            connection.info[_CHANGES] = changes
            yield connection
            versions = changes.raise_versions(connection)
        if versions:
            changes.tell(self._cache, versions)
            self._wake.set()

    def touched(self, connection: Connection, user_id: str) -> None:
        """A user's videos or jobs change: lists that were kept are not found any more."""
        _changes(connection).users.add(user_id)

    def changed(self, connection: Connection, row: Row[Any]) -> None:
        """A job has come to the version and state of its row."""
        _changes(connection).statuses[row.id] = status(row.version, JobState(row.state))
        self.touched(connection, row.user_id)

    def end(
        self, connection: Connection, which: ColumnElement[bool], state: JobState, **values: Any
    ) -> Row[Any] | None:
        """Move the live job that `which` selects to a terminal state and write its one terminal event.

        None: there is no such job, or it has ended already.
        """
        rows = self.end_all(connection, which, state, **values)
        return rows[0] if rows else None

    def end_all(
        self, connection: Connection, which: ColumnElement[bool], state: JobState, **values: Any
    ) -> Sequence[Row[Any]]:
        """The same for all live jobs that `which` selects, in as many statements as for one."""
        rows = connection.execute(
            update(jobs)
            .where(which, jobs.c.state.in_(LIVE))
            .values(state=state, finished_ms=now_ms(), version=jobs.c.version + 1, **_NO_LEASE, **values)
            .returning(*jobs.c)
        ).all()
        for row in rows:
            self.changed(connection, row)
        self.outbox.add_all(connection, _TERMINAL_EVENTS[state], {row.id: _facts(row) for row in rows})
        return rows

    def requeue(
        self,
        connection: Connection,
        which: ColumnElement[bool],
        outcome: GivenUp,
        error: Exception | None = None,
        **values: Any,
    ) -> Row[Any] | None:
        """Give the running job that `which` selects back to the queue, and write down why. None: it does not run."""
        row = connection.execute(
            update(jobs)
            .where(which, jobs.c.state == JobState.RUNNING)
            .values(state=JobState.QUEUED, version=jobs.c.version + 1, **_NO_LEASE, **values)
            .returning(*jobs.c)
        ).one_or_none()
        if row is not None:
            record(connection, row, outcome, error)
            self.changed(connection, row)
            self.queued(connection, row.id)
        return row

    def queued(self, connection: Connection, job_id: str) -> None:
        """Say that work exists."""
        self.outbox.add(connection, JOB_QUEUED, job_id, {"job_id": job_id})


def _changes(connection: Connection) -> Changes:
    changes: Changes = connection.info[_CHANGES]
    return changes


def _facts(row: Row[Any]) -> dict[str, Any]:
    """The data of a terminal event: all that a notice or a metric needs, so that nobody has to ask back."""
    return {
        "job_id": row.id,
        "user_id": row.user_id,
        "email": row.email,
        "video_name": row.video_name,
        "state": row.state,
        "frames": row.frames,
        "size": row.result_size,
        "warnings": json.loads(row.warnings or "[]"),
        "error_code": row.error_code,
        "error_message": row.error_message,
        "seconds": max(0, row.finished_ms - row.created_ms) / 1000,
    }
