"""One video on many workers: the parts that a large job is split into, and who makes which.

The worker that has claimed the job plans its parts, makes some, and joins them all. Others take one whenever there is
no job for them, so small jobs never wait behind a large one. A part's bytes are the same whoever makes it: one that was
made twice does no harm, and what is made already outlives the worker that has planned it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, insert, or_, select, update

from fiapx.core.errors import LeaseLost
from fiapx.core.jobs import LIVE
from fiapx.server.processing.leases import fence
from fiapx.server.processing.model import Claim, PartClaim, part_key
from fiapx.server.processing.tables import jobs, parts, videos
from fiapx.server.processing.transitions import Transitions
from fiapx.server.sql import now_ms

_HINTS: Final = 8
"""Workers that are woken for a job's parts."""


class Parts:
    """`lease` as for jobs, in seconds. Parts of engines other than `fingerprint` are not ours to make."""

    def __init__(self, transitions: Transitions, *, lease: float, fingerprint: str) -> None:
        self._transitions = transitions
        self._fingerprint = fingerprint
        self.lease = lease

    def plan(self, claim: Claim, kind: str, tasks: Sequence[str]) -> None:
        """Tell other workers of a job's parts; those that are planned already stay as they are. Raises LeaseLost."""
        with self._transitions.begin() as connection:
            if connection.scalar(select(jobs.c.id).where(fence(claim)).with_for_update()) is None:
                raise LeaseLost
            mine = and_(parts.c.job_id == claim.job_id, parts.c.kind == kind)
            connection.execute(delete(parts).where(mine, parts.c.engine != self._fingerprint))
            known = set(connection.scalars(select(parts.c.number).where(mine)))
            rows = [self._row(claim, kind, number, task) for number, task in enumerate(tasks) if number not in known]
            if rows:
                connection.execute(insert(parts), rows)
            for _ in rows[:_HINTS]:
                self._transitions.queued(connection, claim.job_id)

    def _row(self, claim: Claim, kind: str, number: int, task: str) -> dict[str, Any]:
        return {
            "job_id": claim.job_id,
            "kind": kind,
            "number": number,
            "task": task,
            "engine": self._fingerprint,
        }

    def claim(self) -> PartClaim | None:
        """Take a part of somebody's job that nobody has failed at, or None."""
        untried = and_(parts.c.failures == 0, parts.c.lease_token.is_(None))
        return self._take(and_(untried, parts.c.engine == self._fingerprint))

    def claim_of(self, claim: Claim, kind: str) -> PartClaim | None:
        """Take a part of one's own job: one that waits, or whose worker is silent; None if all are being made."""
        free = or_(parts.c.lease_token.is_(None), parts.c.lease_until_ms < now_ms())
        return self._take(and_(parts.c.job_id == claim.job_id, parts.c.kind == kind, free))

    def _take(self, which: ColumnElement[bool]) -> PartClaim | None:
        with self._transitions.reader.connect() as connection:  # there is mostly none: no write lock for that
            if connection.scalar(select(parts.c.job_id).where(_wanted(which)).limit(1)) is None:
                return None
        first = (
            select(parts.c.job_id, parts.c.kind, parts.c.number)
            .where(_wanted(which))
            .order_by(parts.c.job_id, parts.c.kind.desc(), parts.c.number)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._transitions.engine.begin() as connection:
            found = connection.execute(first).one_or_none()
            if found is None:
                return None
            row = connection.execute(
                update(parts)
                .where(_this(*found))
                .values(lease_token=str(uuid.uuid4()), lease_until_ms=self._lease_end())
                .returning(*parts.c)
            ).one()
            return _claimed(connection, row)

    def made(self, job_id: str, kind: str, number: int) -> bool:
        """Is the part on stable storage?"""
        with self._transitions.reader.connect() as connection:
            return bool(connection.scalar(select(parts.c.made).where(_this(job_id, kind, number))))

    def owned(self, claim: PartClaim) -> bool:
        """Is the part still this worker's to make, and does anybody still want it?"""
        with self._transitions.reader.connect() as connection:
            return connection.scalar(select(parts.c.number).where(_wanted(_fence(claim)))) is not None

    def renew(self, claim: PartClaim) -> None:
        """Extend the lease. Raises LeaseLost."""
        self._write(claim, lease_until_ms=self._lease_end())

    def complete(self, claim: PartClaim) -> None:
        """The part is on stable storage under `claim.key`. Raises LeaseLost."""
        self._write(claim, made=True, lease_until_ms=None)

    def fail(self, claim: PartClaim) -> None:
        """Leave the part to the worker of the job, whose own try decides about the job. Raises LeaseLost."""
        self._write(claim, lease_token=None, lease_until_ms=None, failures=parts.c.failures + 1)

    def release(self, claim: PartClaim) -> None:
        """Give the part back as it was: the worker stops. Raises LeaseLost."""
        self._write(claim, lease_token=None, lease_until_ms=None)

    def lost(self, job_id: str, kind: str, number: int) -> None:
        """A part that was made is not there any more: it has to be made again."""
        with self._transitions.engine.begin() as connection:
            again = update(parts).where(_this(job_id, kind, number), parts.c.made)
            connection.execute(again.values(made=False, lease_token=None, failures=parts.c.failures + 1))

    def forget(self, job_id: str) -> list[str]:
        """The job has ended: drop its parts; return their keys."""
        with self._transitions.engine.begin() as connection:
            gone = delete(parts).where(parts.c.job_id == job_id).returning(parts.c.kind, parts.c.number)
            return [part_key(job_id, row.kind, row.number) for row in connection.execute(gone)]

    def _write(self, claim: PartClaim, **values: Any) -> None:
        with self._transitions.engine.begin() as connection:
            changed = update(parts).where(_fence(claim)).values(**values).returning(parts.c.number)
            if connection.scalar(changed) is None:
                raise LeaseLost

    def _lease_end(self) -> ColumnElement[int]:
        return now_ms() + int(self.lease * 1000)


def _wanted(which: ColumnElement[bool]) -> ColumnElement[bool]:
    live = exists().where(jobs.c.id == parts.c.job_id, jobs.c.state.in_(LIVE))
    return and_(which, parts.c.made.is_(False), live)


def _this(job_id: str, kind: str, number: int) -> ColumnElement[bool]:
    return and_(parts.c.job_id == job_id, parts.c.kind == kind, parts.c.number == number)


def _fence(claim: PartClaim) -> ColumnElement[bool]:
    return and_(
        _this(claim.job_id, claim.kind, claim.number),
        parts.c.lease_token == claim.lease_token,
        parts.c.made.is_(False),
    )


def _claimed(connection: Connection, row: Row[Any]) -> PartClaim | None:
    video = connection.execute(
        select(videos.c.storage_key, videos.c.name, videos.c.sha256, jobs.c.traceparent)
        .join(jobs, jobs.c.video_id == videos.c.id)
        .where(jobs.c.id == row.job_id)
    ).one_or_none()
    if video is None:  # deleted a moment ago, and the job with it
        return None
    return PartClaim(
        job_id=row.job_id,
        kind=row.kind,
        number=row.number,
        lease_token=row.lease_token,
        task=row.task,
        video_key=video.storage_key,
        video_name=video.name,
        video_sha256=video.sha256,
        traceparent=video.traceparent,
    )
