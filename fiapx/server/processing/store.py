"""What users write: uploads, jobs, cancellations, deletions. One method is one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import asdict
from typing import Final

from sqlalchemy import Connection, and_, delete, exists, func, insert, select
from sqlalchemy.exc import IntegrityError

from fiapx.core.errors import Conflict, InvalidToken, JobFinished, JobNotFinished, NotFound
from fiapx.core.jobs import LIVE, JobState
from fiapx.core.tracing import traceparent
from fiapx.server.processing.model import Kind, NewJob, NewVideo, Once, part_key, result_key, video_key
from fiapx.server.processing.reuse import cache_key, reuse
from fiapx.server.processing.tables import deleted_users, idempotency, jobs, parts, uploads, videos
from fiapx.server.processing.transitions import Transitions
from fiapx.server.sql import ago, now_ms

_USER_LOCK: Final = 7240553
"""The class of advisory locks on users."""


class AlreadyAccepted(Exception):
    """Another request with this Idempotency-Key was accepted first."""


class Store:
    """Writes through the primary database."""

    def __init__(self, transitions: Transitions) -> None:
        self._transitions = transitions
        self.outbox = transitions.outbox

    def accept(
        self, user_id: str, *, video: NewVideo | None = None, job: NewJob | None = None, once: Once | None = None
    ) -> str:
        """Store a video, a job, or both; return the id of the job, or else of the video.

        Raises NotFound if the job's video is not the user's, InvalidToken if the account was deleted while the upload
        was under way, and AlreadyAccepted.
        """
        with self._transitions.begin() as connection:
            check_in(connection, user_id)
            job_id = str(uuid.uuid4()) if job else None
            resource: tuple[Kind, str] = ("job", job_id) if job_id else ("video", video.id if video else "")
            reserve(connection, user_id, once, *resource)
            self.add(connection, user_id, video, job, job_id)
        return resource[1]

    def add(
        self, connection: Connection, user_id: str, video: NewVideo | None, job: NewJob | None, job_id: str | None
    ) -> None:
        """The rows of a video, a job, or both, in a transaction that has checked the user in. Raises NotFound."""
        self._transitions.touched(connection, user_id)
        if video:
            connection.execute(
                insert(videos).values(
                    user_id=user_id, storage_key=video.storage_key, created_ms=now_ms(), **asdict(video)
                )
            )
        if job and job_id:
            self._add_job(connection, job_id, user_id, job)

    def _add_job(self, connection: Connection, job_id: str, user_id: str, job: NewJob) -> None:
        video = connection.execute(
            select(videos.c.name, videos.c.sha256)
            .where(videos.c.id == job.video_id, videos.c.user_id == user_id)
            .with_for_update(read=True)
        ).one_or_none()
        if video is None:
            raise NotFound
        connection.execute(
            insert(jobs).values(
                id=job_id,
                user_id=user_id,
                video_name=video.name,
                cache_key=cache_key(video.sha256, video.name, job.options),
                state=JobState.QUEUED,
                created_ms=now_ms(),
                traceparent=traceparent(),
                **asdict(job),
            )
        )
        if reuse(self._transitions, connection, jobs.c.id == job_id) is None:
            self._transitions.queued(connection, job_id)

    def accepted(self, user_id: str, key: str) -> tuple[str, Kind, str] | None:
        """(fingerprint, kind, id) of what was accepted with this Idempotency-Key."""
        with self._transitions.reader.connect() as connection:
            row = connection.execute(
                select(idempotency).where(idempotency.c.user_id == user_id, idempotency.c.key == key)
            ).one_or_none()
        return (row.fingerprint, row.kind, row.resource_id) if row else None

    def retry(self, user_id: str, job_id: str, once: Once | None = None) -> str:
        """A new job like an ended one; it does run again.

        Raises NotFound, JobNotFinished, Conflict (the video is gone), AlreadyAccepted.
        """
        new_id = str(uuid.uuid4())
        with self._transitions.begin() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id, jobs.c.user_id == user_id)).one_or_none()
            if row is None:
                raise NotFound
            if row.state in LIVE:
                raise JobNotFinished("The job has not ended yet.")
            self._transitions.touched(connection, user_id)
            reserve(connection, user_id, once, "job", new_id)
            try:
                again = NewJob(row.video_id, row.options, row.email, retry_of=job_id, fresh=True)
                self._add_job(connection, new_id, user_id, again)
            except NotFound:
                raise Conflict("The video of this job was deleted.", hint="Upload it again.") from None
        return new_id

    def cancel(self, user_id: str, job_id: str) -> None:
        """End a live job. Raises NotFound, JobFinished."""
        mine = and_(jobs.c.id == job_id, jobs.c.user_id == user_id)
        with self._transitions.begin() as connection:
            if self._transitions.end(connection, mine, JobState.CANCELLED) is None:
                raise JobFinished if connection.scalar(select(jobs.c.id).where(mine)) else NotFound

    def delete_job(self, user_id: str, job_id: str) -> str | None:
        """Forget an ended job; return the key of its result if that is free now. Raises NotFound, JobNotFinished."""
        mine = and_(jobs.c.id == job_id, jobs.c.user_id == user_id)
        with self._transitions.begin() as connection:
            lock_owners(connection, connection.scalar(select(jobs.c.result_key).where(mine)))
            row = connection.execute(
                delete(jobs).where(mine, jobs.c.state.not_in(LIVE)).returning(jobs.c.result_key)
            ).one_or_none()
            if row is None:
                live = connection.scalar(select(jobs.c.id).where(mine))
                raise JobNotFinished("The job has not ended yet; cancel it first.") if live else NotFound
            self._transitions.touched(connection, user_id)
            key: str | None = row.result_key
            return key if key and key not in results(connection, [key]) else None

    def delete_video(self, user_id: str, video_id: str) -> str:
        """Forget a video and cancel its live jobs; return its storage key. Raises NotFound."""
        with self._transitions.begin() as connection:
            key: str | None = connection.scalar(
                delete(videos)
                .where(videos.c.id == video_id, videos.c.user_id == user_id)
                .returning(videos.c.storage_key)
            )
            if key is None:
                raise NotFound
            self._transitions.touched(connection, user_id)
            self._transitions.end_all(connection, jobs.c.video_id == video_id, JobState.CANCELLED)
        return key

    def delete_user(self, user_id: str) -> tuple[list[str], list[str]]:
        """Forget everything of a user, for good; return the storage keys, and the ids of uploads, that are free now."""
        with self._transitions.begin() as connection:
            self._transitions.touched(connection, user_id)
            _shut_out(connection, user_id, deletion=True)
            if not _deleted(connection, user_id):
                connection.execute(insert(deleted_users).values(user_id=user_id, deleted_ms=now_ms()))
            connection.execute(delete(idempotency).where(idempotency.c.user_id == user_id))
            ids = list(connection.scalars(delete(uploads).where(uploads.c.user_id == user_id).returning(uploads.c.id)))
            keys: set[str | None] = {video_key(upload_id) for upload_id in ids}
            for table, column in ((jobs, jobs.c.result_key), (videos, videos.c.storage_key)):
                keys |= set(connection.scalars(delete(table).where(table.c.user_id == user_id).returning(column)))
        return [key for key in keys if key], ids

    def unclaimed(self, keys: Collection[str]) -> set[str]:
        """Those of the storage keys that no video, no result, no part and no running attempt owns."""
        with self._transitions.reader.connect() as connection:
            video_ids = {key.split("/")[1] for key in keys if key.startswith("videos/")}
            owned = set(connection.scalars(select(videos.c.storage_key).where(videos.c.id.in_(video_ids))))
            owned |= {video_key(upload_id) for upload_id in unfinished(connection, video_ids)}
            owned |= results(connection, keys)
            job_ids = {key.split("/")[1] for key in keys if key.startswith("jobs/")}
            for row in connection.execute(
                select(jobs.c.id, jobs.c.attempt).where(jobs.c.id.in_(job_ids), jobs.c.state == JobState.RUNNING)
            ):
                owned.add(result_key(row.id, row.attempt))
            of_jobs = parts.c.job_id.in_({key.split("/")[1] for key in keys if key.startswith("parts/")})
            for part in connection.execute(select(parts.c.job_id, parts.c.kind, parts.c.number).where(of_jobs)):
                owned.add(part_key(part.job_id, part.kind, part.number))
        return set(keys) - owned

    def forget_parts(self) -> None:
        """Drop the parts of jobs that have ended; their objects belong to nobody then."""
        live = exists().where(jobs.c.id == parts.c.job_id, jobs.c.state.in_(LIVE))
        with self._transitions.engine.begin() as connection:
            connection.execute(delete(parts).where(~live))

    def forget_keys(self, older_than: float) -> None:
        """Drop Idempotency-Keys from more than so many seconds ago."""
        with self._transitions.engine.begin() as connection:
            connection.execute(delete(idempotency).where(idempotency.c.created_ms < ago(older_than)))


def unfinished(connection: Connection, ids: Collection[str]) -> set[str]:
    """Those of the ids that are uploads on their way to become videos."""
    return set(connection.scalars(select(uploads.c.id).where(uploads.c.id.in_(ids), uploads.c.finished_ms.is_(None))))


def results(connection: Connection, keys: Collection[str]) -> set[str]:
    """Those of the keys that are some job's result."""
    return set(connection.scalars(select(jobs.c.result_key).where(jobs.c.result_key.in_(keys))))


def lock_owners(connection: Connection, key: str | None) -> None:
    """Of several owners of a result that go at the same moment, the last one has to see that it is the last."""
    if key is not None:
        owners = select(jobs.c.id).where(jobs.c.result_key == key).order_by(jobs.c.id)
        connection.execute(owners.with_for_update()).all()


def _shut_out(connection: Connection, user_id: str, *, deletion: bool) -> None:
    """Let uploads of a user pass beside each other, but none beside the deletion of all that the user has.

    SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        lock = func.pg_advisory_xact_lock if deletion else func.pg_advisory_xact_lock_shared
        connection.execute(select(lock(_USER_LOCK, func.hashtext(user_id))))


def _deleted(connection: Connection, user_id: str) -> bool:
    return connection.scalar(select(deleted_users.c.user_id).where(deleted_users.c.user_id == user_id)) is not None


def check_in(connection: Connection, user_id: str) -> None:
    """Let nobody delete all that the user has before this transaction ends. Raises InvalidToken if it has been done."""
    _shut_out(connection, user_id, deletion=False)
    if _deleted(connection, user_id):
        raise InvalidToken


def reserve(connection: Connection, user_id: str, once: Once | None, kind: Kind, resource_id: str) -> None:
    """The unique key decides which of several equal requests is the one; AlreadyAccepted is for the others."""
    if once is None:
        return
    try:
        connection.execute(
            insert(idempotency).values(
                user_id=user_id,
                key=once.key,
                fingerprint=once.fingerprint,
                kind=kind,
                resource_id=resource_id,
                created_ms=now_ms(),
            )
        )
    except IntegrityError:
        raise AlreadyAccepted from None
