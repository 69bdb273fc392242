"""Attempts at jobs, one by one. Those that did not end their job have rows; the last one is in the job's own row, so
that a job which needs no second one costs nothing."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, Select, exists, insert, select

from fiapx.core.errors import FiapxError
from fiapx.core.jobs import JobState
from fiapx.server.processing.model import GivenUp
from fiapx.server.processing.tables import attempts, jobs
from fiapx.server.sql import now_ms

_MAX_MESSAGE: Final = 1000
_MOST: Final = 100
"""Attempts that are told; a worker that is stopped gives its job back, however often."""


def record(connection: Connection, job: Row[Any], outcome: GivenUp, error: Exception | None) -> None:
    """Write down how the newest attempt at a job has ended that goes on."""
    connection.execute(
        insert(attempts).values(
            job_id=job.id,
            attempt=job.attempt,
            worker=job.worker,
            started_ms=job.started_ms,
            ended_ms=now_ms(),
            outcome=outcome,
            **_cause(error),
        )
    )


def history(job_id: str) -> Select[Any]:
    """The newest attempts at a job, the last one first; it may have ended the job, or run."""
    a, j = attempts.c, jobs.c
    known = exists().where(a.job_id == j.id, a.attempt == j.attempt)
    earlier = select(a.attempt, a.worker, a.started_ms, a.ended_ms, a.outcome, a.error_code, a.error_message)
    last = select(j.attempt, j.worker, j.started_ms, j.finished_ms, j.state, j.error_code, j.error_message)
    all_of_them = (
        earlier.where(a.job_id == job_id)
        .union_all(last.where(j.id == job_id, j.attempt > 0, j.state != JobState.QUEUED, ~known))
        .subquery()
    )
    return select(all_of_them).order_by(all_of_them.c.attempt.desc()).limit(_MOST)


def _cause(error: Exception | None) -> dict[str, str]:
    """As users may see it: what is not of our tree is in the log alone."""
    if error is None:
        return {}
    known = error if isinstance(error, FiapxError) and error.code != FiapxError.code else FiapxError()
    return {"error_code": known.code, "error_message": known.message[:_MAX_MESSAGE]}
