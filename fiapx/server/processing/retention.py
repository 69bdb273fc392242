"""What is kept for a time only: results and videos go, and the history of jobs stays."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, or_, select, update

from fiapx.core.jobs import LIVE
from fiapx.server.processing.store import lock_owners, results
from fiapx.server.processing.tables import jobs, videos
from fiapx.server.processing.transitions import Transitions
from fiapx.server.sql import ago

_BATCH: Final = 100


class Retention:
    """`keep` is in seconds; several at once do no harm."""

    def __init__(self, transitions: Transitions, keep: float) -> None:
        self._transitions = transitions
        self._keep = keep

    def expire(self) -> list[str]:
        """Let go of some of what is too old; return the storage keys that are free now, none when all is done.

        A result counts from its job's end, and a video from its upload or the end of its last job.
        """
        with self._transitions.begin() as connection:
            return self._results(connection) + self._videos(connection)

    def _results(self, connection: Connection) -> list[str]:
        old = and_(jobs.c.result_key.is_not(None), jobs.c.finished_ms < ago(self._keep))
        oldest = select(jobs.c.result_key).where(old).order_by(jobs.c.finished_ms).limit(_BATCH)
        keys = sorted(set(connection.scalars(oldest)))
        for key in keys:
            lock_owners(connection, key)
        query = update(jobs).where(old, jobs.c.result_key.in_(keys)).returning(*jobs.c)
        for row in connection.execute(query.values(result_key=None, version=jobs.c.version + 1)).all():
            self._transitions.changed(connection, row)
        return sorted(set(keys) - results(connection, keys))

    def _videos(self, connection: Connection) -> list[str]:
        """A new job locks its video, and the first one wins: under the lock the conditions are looked at again."""
        old = and_(videos.c.created_ms < ago(self._keep), ~exists().where(self._in_use()))
        oldest = select(videos.c.id).where(old).order_by(videos.c.created_ms).limit(_BATCH)
        ids = connection.scalars(oldest.with_for_update(skip_locked=True)).all()
        gone = delete(videos).where(videos.c.id.in_(ids), old).returning(videos.c.storage_key, videos.c.user_id)
        rows = connection.execute(gone).all()
        for row in rows:
            self._transitions.touched(connection, row.user_id)
        return [row.storage_key for row in rows]

    def _in_use(self) -> ColumnElement[bool]:
        lately = or_(jobs.c.state.in_(LIVE), jobs.c.finished_ms >= ago(self._keep))
        return and_(jobs.c.video_id == videos.c.id, lately)
