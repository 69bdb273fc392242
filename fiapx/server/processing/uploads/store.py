"""The rows of resumable uploads. One method is one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import asdict
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, insert, select, update

from fiapx.core.errors import NotFound, OffsetMismatch, RateLimited, Superseded
from fiapx.core.ports import Identity
from fiapx.server.processing.model import NewJob, NewVideo, Once
from fiapx.server.processing.store import Store, check_in, reserve, unfinished
from fiapx.server.processing.tables import idempotency, uploads
from fiapx.server.processing.transitions import Transitions
from fiapx.server.processing.uploads.model import NewUpload, Upload
from fiapx.server.sql import ago, now_ms

_MOST: Final = 100
"""Unfinished uploads of one user at a time."""
_BATCH: Final = 100


class UploadStore:
    """`ttl` is how long an upload waits for its next bytes, in seconds."""

    def __init__(self, transitions: Transitions, store: Store, ttl: float) -> None:
        self._transitions = transitions
        self._store = store
        self.ttl = ttl

    def create(self, user: Identity, new: NewUpload, once: Once | None) -> Upload:
        """Raises RateLimited for too many that are not finished, InvalidToken, AlreadyAccepted."""
        upload_id = str(uuid.uuid4())
        with self._transitions.engine.begin() as connection:
            check_in(connection, user.user_id)
            reserve(connection, user.user_id, once, "upload", upload_id)
            if self._waiting(connection, user.user_id) >= _MOST:
                raise RateLimited("Too many uploads are not finished; finish or delete some.", retry_after=60)
            made = connection.execute(
                insert(uploads)
                .values(id=upload_id, user_id=user.user_id, email=user.email, touched_ms=now_ms(), **asdict(new))
                .returning(*uploads.c)
            )
            return Upload(**made.mappings().one())

    def find(self, user_id: str, upload_id: str) -> Upload:
        """Raises NotFound for one that is not there, is another user's, or has waited for too long."""
        with self._transitions.reader.connect() as connection:
            row = connection.execute(select(uploads).where(self._mine(user_id, upload_id))).mappings().one_or_none()
        if row is None:
            raise NotFound
        return Upload(**row)

    def claim(self, user_id: str, upload_id: str, offset: int | None = None) -> Upload:
        """Become the writer, whoever was it before. `offset` is where the caller believes the upload to be.

        One that is full needs no writer and is returned as it is. Raises NotFound, OffsetMismatch.
        """
        here = [] if offset is None else [uploads.c.offset == offset]
        with self._transitions.engine.begin() as connection:
            row = (
                connection.execute(
                    update(uploads)
                    .where(self._mine(user_id, upload_id), uploads.c.offset < uploads.c.size, *here)
                    .values(epoch=uploads.c.epoch + 1, touched_ms=now_ms())
                    .returning(*uploads.c)
                )
                .mappings()
                .one_or_none()
            )
        upload = Upload(**row) if row is not None else self.find(user_id, upload_id)
        if offset is not None and offset != upload.offset:
            raise OffsetMismatch(f"The upload is at {upload.offset}.")
        return upload

    def owned(self, claim: Upload) -> bool:
        """Nobody else has begun to write."""
        with self._transitions.reader.connect() as connection:
            return connection.scalar(select(uploads.c.id).where(_fence(claim))) is not None

    def advance(self, claim: Upload, offset: int) -> None:
        """Record that so many bytes are on stable storage. Raises Superseded."""
        with self._transitions.engine.begin() as connection:
            done = connection.execute(
                update(uploads)
                .where(_fence(claim), uploads.c.offset <= offset)
                .values(
                    offset=offset, touched_ms=now_ms(), full_ms=case((uploads.c.size == offset, now_ms()), else_=None)
                )
                .returning(uploads.c.id)
            ).one_or_none()
        if done is None:
            raise Superseded

    def finish(self, upload: Upload, sha256: str) -> tuple[Upload, bool]:
        """Give the stored object its row, and its job if there are options: once, however often this is called.

        The second value tells whether this call did it. Raises NotFound if it was deleted, InvalidToken.
        """
        video = NewVideo(upload.id, upload.name, upload.size, sha256)
        job = NewJob(upload.id, upload.options, upload.email, fresh=upload.fresh) if upload.options else None
        job_id = str(uuid.uuid4()) if job else None
        with self._transitions.begin() as connection:
            check_in(connection, upload.user_id)
            row = (
                connection.execute(
                    update(uploads)
                    .where(uploads.c.id == upload.id, uploads.c.finished_ms.is_(None))
                    .values(finished_ms=now_ms(), touched_ms=now_ms(), job_id=job_id)
                    .returning(*uploads.c)
                )
                .mappings()
                .one_or_none()
            )
            if row is not None:
                self._store.add(connection, upload.user_id, video, job, job_id)
        return (Upload(**row), True) if row is not None else (self.find(upload.user_id, upload.id), False)

    def delete(self, user_id: str, upload_id: str) -> None:
        """Forget it; a video that it has become stays. Raises NotFound."""
        with self._transitions.engine.begin() as connection:
            row = connection.execute(
                delete(uploads).where(self._mine(user_id, upload_id)).returning(uploads.c.id)
            ).one_or_none()
            if row is None:
                raise NotFound
            _forget_key(connection, user_id, upload_id)

    def full(self, quiet: float) -> list[Upload]:
        """Uploads whose bytes have been there for so many seconds, and which are no videos yet; a batch."""
        waiting = and_(uploads.c.finished_ms.is_(None), uploads.c.offset == uploads.c.size)
        with self._transitions.reader.connect() as connection:
            rows = connection.execute(select(uploads).where(waiting, uploads.c.touched_ms < ago(quiet)).limit(_BATCH))
            return [Upload(**row) for row in rows.mappings()]

    def postpone(self, upload: Upload) -> None:
        """Let a full upload rest for as long as if its last byte had come now."""
        with self._transitions.engine.begin() as connection:
            connection.execute(update(uploads).where(uploads.c.id == upload.id).values(touched_ms=now_ms()))

    def expire(self) -> list[str]:
        """Forget those that have waited for too long, and finished ones of that age; return their ids; a batch."""
        over = and_(
            uploads.c.touched_ms < ago(self.ttl),
            (uploads.c.offset < uploads.c.size) | uploads.c.finished_ms.is_not(None),
        )
        with self._transitions.engine.begin() as connection:
            ids = select(uploads.c.id).where(over).limit(_BATCH)
            rows = connection.execute(
                delete(uploads).where(uploads.c.id.in_(ids), over).returning(uploads.c.id, uploads.c.user_id)
            ).all()
            for row in rows:
                _forget_key(connection, row.user_id, row.id)
        return [row.id for row in rows]

    def unfinished(self, ids: Collection[str]) -> set[str]:
        """Those of the ids whose bytes are still wanted."""
        with self._transitions.reader.connect() as connection:
            return unfinished(connection, ids)

    def _waiting(self, connection: Connection, user_id: str) -> int:
        mine = and_(uploads.c.user_id == user_id, uploads.c.finished_ms.is_(None))
        return connection.scalar(select(func.count()).select_from(uploads).where(mine)) or 0

    def _mine(self, user_id: str, upload_id: str) -> ColumnElement[bool]:
        full = uploads.c.offset == uploads.c.size
        return and_(
            uploads.c.id == upload_id, uploads.c.user_id == user_id, full | (uploads.c.touched_ms >= ago(self.ttl))
        )


def _fence(claim: Upload) -> ColumnElement[bool]:
    return and_(uploads.c.id == claim.id, uploads.c.epoch == claim.epoch)


def _forget_key(connection: Connection, user_id: str, upload_id: str) -> None:
    """Whoever repeats the creation wants an upload, not the memory of one."""
    connection.execute(
        delete(idempotency).where(
            idempotency.c.user_id == user_id, idempotency.c.kind == "upload", idempotency.c.resource_id == upload_id
        )
    )
