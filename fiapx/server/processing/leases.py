"""The worker's side of the queue: claim, renew, complete, fail, release; and the reaper's.

Every write after the claim carries the job's attempt and lease token. If it matches no row, somebody else has
decided about the job (it was cancelled, reclaimed or deleted), and LeaseLost tells the worker to stop.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Final

import structlog
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select, update

from fiapx.core.errors import CrashLoop, DecoderFailed, FiapxError, LeaseLost, MediaError
from fiapx.core.jobs import MAX_FAILURES, JobState
from fiapx.media.model import Result
from fiapx.server.processing.model import Claim, video_key
from fiapx.server.processing.reuse import reuse
from fiapx.server.processing.tables import jobs, videos
from fiapx.server.processing.transitions import Transitions
from fiapx.server.processing.waiting import claimable
from fiapx.server.sql import now_ms

log = structlog.get_logger(__name__)

_MAX_MESSAGE: Final = 1000
_CRASHED: Final = {"error_code": CrashLoop.code, "error_message": CrashLoop().message}


class Leases:
    """`lease` is the time a worker may stay silent; `retry_delay` times the failures so far passes before a failed
    attempt is repeated. Both in seconds. `worker` names who claims, for people."""

    def __init__(
        self, transitions: Transitions, *, lease: float, retry_delay: float = 2.0, worker: str | None = None
    ) -> None:
        self._transitions = transitions
        self._worker = worker
        self.lease = lease
        self._retry_delay = retry_delay

    def waits(self) -> bool:
        """Is there a job to claim? Takes no lock."""
        with self._transitions.reader.connect() as connection:
            return connection.scalar(select(jobs.c.id).where(claimable()).limit(1)) is not None

    def claim(self) -> Claim | None:
        """Take the fairest queued job, or None. The attempt counts as failed until it ends otherwise."""
        with self._transitions.begin() as connection:
            candidate = connection.scalar(_fairest())
            if candidate is None:
                return None
            row = connection.execute(
                update(jobs)
                .where(jobs.c.id == candidate, jobs.c.state == JobState.QUEUED)
                .values(
                    state=JobState.RUNNING,
                    attempt=jobs.c.attempt + 1,
                    failures=jobs.c.failures + 1,
                    lease_token=str(uuid.uuid4()),
                    lease_until_ms=self._lease_end(),
                    worker=self._worker,
                    started_ms=now_ms(),
                    version=jobs.c.version + 1,
                )
                .returning(*jobs.c)
            ).one_or_none()
            if row is None:
                return None
            self._transitions.changed(connection, row)
            return _claimed(connection, row)

    def owned(self, claim: Claim) -> bool:
        """Does the worker still own the job?"""
        with self._transitions.reader.connect() as connection:
            return connection.scalar(select(jobs.c.id).where(fence(claim))) is not None

    def renew(self, claim: Claim) -> None:
        """Extend the lease. Raises LeaseLost."""
        with self._transitions.engine.begin() as connection:
            _owned(connection.scalar(_renewal(claim, self._lease_end())))

    def reuse(self, claim: Claim) -> bool:
        """Complete the job with the result of an identical one that has ended since it was queued, if there is one."""
        with self._transitions.begin() as connection:
            return reuse(self._transitions, connection, fence(claim)) is not None

    def complete(self, claim: Claim, result: Result) -> None:
        """Publish the result, which is on stable storage under `claim.result_key`. Raises LeaseLost."""
        values = _published(claim, result) | {"engine_fingerprint": self._transitions.fingerprint}
        with self._transitions.begin() as connection:
            _owned(self._transitions.end(connection, fence(claim), JobState.COMPLETED, **values))

    def fail(self, claim: Claim, error: Exception) -> JobState:
        """Record a failed attempt: the video's faults are final, all others are repeated while failures are left.

        Returns the state that the job is in now. Raises LeaseLost.
        """
        with self._transitions.begin() as connection:
            failures = connection.scalar(select(jobs.c.failures).where(fence(claim)).with_for_update())
            if _final(error) or (failures or 0) >= MAX_FAILURES:
                _owned(self._transitions.end(connection, fence(claim), JobState.FAILED, **_verdict(error)))
                return JobState.FAILED
            later = now_ms() + int(self._retry_delay * 1000) * (failures or 0)
            _owned(self._transitions.requeue(connection, fence(claim), "failed", error, not_before_ms=later))
            return JobState.QUEUED

    def release(self, claim: Claim) -> None:
        """Give the job back, uncharged: the worker stops. Raises LeaseLost."""
        with self._transitions.begin() as connection:
            _owned(self._transitions.requeue(connection, fence(claim), "released", failures=jobs.c.failures - 1))

    def reap(self, *, everything: bool = False) -> int:
        """Queue the jobs of silent workers again, or end those that crashed too often; return how many, 100 at most.

        `everything` takes all running jobs: right for a process that knows itself to be alone before it begins to work.
        """
        overdue = jobs.c.state == JobState.RUNNING
        if not everything:
            overdue = and_(overdue, jobs.c.lease_until_ms < now_ms())
        with self._transitions.reader.connect() as connection:
            if connection.scalar(select(jobs.c.id).where(overdue).limit(1)) is None:
                return 0
        with self._transitions.begin() as connection:
            rows = connection.execute(
                select(jobs.c.id, jobs.c.failures).where(overdue).limit(100).with_for_update(skip_locked=True)
            ).all()
            for row in rows:
                this = and_(jobs.c.id == row.id, overdue)
                if row.failures >= MAX_FAILURES:
                    self._transitions.end(connection, this, JobState.FAILED, **_CRASHED)
                else:
                    self._transitions.requeue(connection, this, "lost")
                log.warning("lease_expired", job_id=row.id, failures=row.failures)
        return len(rows)

    def _lease_end(self) -> ColumnElement[int]:
        return now_ms() + int(self.lease * 1000)


def fence(claim: Claim) -> ColumnElement[bool]:
    """The job, while it is this claim's."""
    return and_(
        jobs.c.id == claim.job_id,
        jobs.c.attempt == claim.attempt,
        jobs.c.lease_token == claim.lease_token,
        jobs.c.state == JobState.RUNNING,
    )


def _owned(row: object | None) -> None:
    if row is None:
        raise LeaseLost


def _fairest() -> Select[str]:
    """Whose user runs least, then the highest priority, then the longest wait."""
    busy = (
        select(jobs.c.user_id, func.count().label("running"))
        .where(jobs.c.state == JobState.RUNNING)
        .group_by(jobs.c.user_id)
        .subquery()
    )
    return (
        select(jobs.c.id)
        .select_from(jobs.outerjoin(busy, busy.c.user_id == jobs.c.user_id))
        .where(claimable())
        .order_by(func.coalesce(busy.c.running, 0), jobs.c.priority.desc(), jobs.c.created_ms, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=jobs)
    )


def _claimed(connection: Connection, row: Row[Any]) -> Claim:
    video = connection.execute(select(videos).where(videos.c.id == row.video_id)).one_or_none()
    return Claim(
        job_id=row.id,
        user_id=row.user_id,
        attempt=row.attempt,
        lease_token=row.lease_token,
        options=row.options,
        video_key=video.storage_key if video else video_key(row.video_id),
        video_name=row.video_name,
        video_sha256=video.sha256 if video else None,
        traceparent=row.traceparent,
    )


def _renewal(claim: Claim, until: ColumnElement[int]) -> Any:
    return update(jobs).where(fence(claim)).values(lease_until_ms=until).returning(jobs.c.id)


def _published(claim: Claim, result: Result) -> dict[str, Any]:
    return {
        "result_key": claim.result_key,
        "result_size": result.size,
        "result_sha256": result.sha256,
        "manifest_offset": result.manifest_offset,
        "manifest_size": result.manifest_size,
        "frames": result.frames,
        "engine": result.engine,
        "warnings": json.dumps([warning.as_dict() for warning in result.warnings]),
    }


def _final(error: Exception) -> bool:
    """A dead decoder may be bad luck (memory, a signal); any other fault of the video comes back every time."""
    return isinstance(error, MediaError) and not isinstance(error, DecoderFailed)


def _verdict(error: Exception) -> dict[str, Any]:
    """What the user is told after the last attempt: a known cause by its name, crashes as what they are."""
    if isinstance(error, DecoderFailed) or not isinstance(error, FiapxError) or error.code == FiapxError.code:
        return _CRASHED
    return {"error_code": error.code, "error_message": error.message[:_MAX_MESSAGE]}
