"""What is only read: by users, by metrics."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Engine, Row, Table, and_, exists, func, or_, select, tuple_

from fiapx.core.errors import NotFound
from fiapx.core.jobs import LIVE, JobState
from fiapx.server.processing.attempts import history
from fiapx.server.processing.model import Cursor, Job, PastAttempt, QueueStatus, Video
from fiapx.server.processing.tables import jobs, parts, user_versions, videos
from fiapx.server.processing.waiting import claimable, waits_since
from fiapx.server.sql import now_ms, reader

Noun = TypeVar("Noun", Job, Video)


class Reads:
    """Another user's row is not there: NotFound, as for one that never was."""

    def __init__(self, engine: Engine) -> None:
        self._engine = reader(engine)

    def video(self, user_id: str, video_id: str) -> Video:
        """Raises NotFound."""
        return _noun(Video, self._one(videos, user_id, video_id))

    def videos(self, user_id: str, size: int | None, after: Cursor | None, limit: int) -> list[Video]:
        """Newest first; of one size in bytes, if it is given."""
        which = videos.c.user_id == user_id
        if size is not None:
            which = and_(which, videos.c.size == size)
        return [_noun(Video, row) for row in self._page(videos, which, after, limit)]

    def job(self, user_id: str, job_id: str) -> Job:
        """Raises NotFound."""
        return _noun(Job, self._one(jobs, user_id, job_id))

    def jobs(self, user_id: str, state: JobState | None, after: Cursor | None, limit: int) -> list[Job]:
        """Newest first."""
        which = jobs.c.user_id == user_id
        if state is not None:
            which = and_(which, jobs.c.state == state)
        return [_noun(Job, row) for row in self._page(jobs, which, after, limit)]

    def attempts(self, job: Job) -> list[PastAttempt]:
        """From the first to the last."""
        with self._engine.connect() as connection:
            rows = connection.execute(history(job.id)).all()
        return [PastAttempt(*row) for row in reversed(rows)]

    def version(self, user_id: str) -> int:
        """A number that each of the user's writes has raised."""
        with self._engine.connect() as connection:
            return connection.scalar(select(user_versions.c.version).where(user_versions.c.user_id == user_id)) or 0

    def position(self, job: Job) -> int:
        """1 for the job that is next by priority and age. Fairness between users may change the order."""
        earlier = or_(
            jobs.c.priority > job.priority,
            and_(
                jobs.c.priority == job.priority, tuple_(jobs.c.created_ms, jobs.c.id) < tuple_(job.created_ms, job.id)
            ),
        )
        with self._engine.connect() as connection:
            query = select(func.count()).select_from(jobs).where(jobs.c.state == JobState.QUEUED, earlier)
            return 1 + (connection.scalar(query) or 0)

    def live(self, user_id: str, limit: int) -> int:
        """How many jobs of a user wait or run; `limit` at most are counted."""
        return self._number(limit, jobs.c.user_id == user_id, jobs.c.state.in_(LIVE))

    def waiting(self, limit: int) -> int:
        """How many jobs wait; `limit` at most are counted."""
        return self._number(limit, jobs.c.state == JobState.QUEUED)

    def now(self) -> int:
        """The database's clock; also shows that the database answers."""
        with self._engine.connect() as connection:
            return connection.scalar(select(now_ms())) or 0

    def queue(self) -> QueueStatus:
        """How much work there is."""
        with self._engine.connect() as connection:
            queued, oldest, now = connection.execute(
                select(func.count(), func.min(jobs.c.created_ms), now_ms()).where(jobs.c.state == JobState.QUEUED)
            ).one()
            running = connection.scalar(select(func.count()).select_from(jobs).where(jobs.c.state == JobState.RUNNING))
        return QueueStatus(queued, running or 0, max(0, now - oldest) if oldest else 0)

    def oldest_waiting(self) -> float | None:
        """Seconds that a worker could have had the job that waits longest, or a part of the job that has run longest;
        None where none waits."""
        helpless = select(jobs.c.started_ms.label("since")).where(jobs.c.state == JobState.RUNNING, _has_waiting_part())
        since = select(waits_since().label("since")).where(claimable()).union_all(helpless).subquery()
        with self._engine.connect() as connection:
            oldest, now = connection.execute(select(func.min(since.c.since), now_ms())).one()
        return None if oldest is None else max(0, now - oldest) / 1000

    def _number(self, limit: int, *which: ColumnElement[bool]) -> int:
        some = select(jobs.c.id).where(*which).limit(limit).subquery()
        with self._engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(some)) or 0

    def _one(self, table: Table, user_id: str, row_id: str) -> Row[Any]:
        with self._engine.connect() as connection:
            row = connection.execute(
                select(table).where(table.c.id == row_id, table.c.user_id == user_id)
            ).one_or_none()
        if row is None:
            raise NotFound
        return row

    def _page(self, table: Table, which: ColumnElement[bool], after: Cursor | None, limit: int) -> list[Row[Any]]:
        if after is not None:
            which = and_(which, tuple_(table.c.created_ms, table.c.id) < tuple_(after.created_ms, after.id))
        query = select(table).where(which).order_by(table.c.created_ms.desc(), table.c.id.desc()).limit(limit)
        with self._engine.connect() as connection:
            return list(connection.execute(query))


def _has_waiting_part() -> ColumnElement[bool]:
    free = and_(parts.c.made.is_(False), parts.c.failures == 0, parts.c.lease_token.is_(None))
    return exists().where(parts.c.job_id == jobs.c.id, free)


def _noun(kind: type[Noun], row: Row[Any]) -> Noun:
    values = {field.name: getattr(row, field.name) for field in fields(kind)}
    if "state" in values:
        values["state"] = JobState(values["state"])
    return kind(**values)
