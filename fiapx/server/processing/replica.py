"""Reading from a replica, by those who have been told nothing that it does not know yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from fiapx.core.errors import NotFound
from fiapx.core.jobs import JobState
from fiapx.core.outage import Outage
from fiapx.core.ports import Cache
from fiapx.server.processing.changes import known_version
from fiapx.server.processing.model import Cursor, Job, PastAttempt, Video
from fiapx.server.processing.reads import Reads

log = structlog.get_logger(__name__)

T = TypeVar("T")

_REST: Final = 10.0


class ReplicaReads(Reads):
    """What users read comes from the replica where that has their version, which each of their writes has raised; and
    else from the primary.

    The cache knows the version, since every writer tells it before it answers. Should it have missed one, then what the
    replica does not have is still looked for in the primary: a 201 is never followed by a 404. A replica in trouble is
    left alone for `rest` seconds; nobody but the log and the metrics notices.
    """

    def __init__(
        self, primary: Engine, replica: Engine, cache: Cache, registry: CollectorRegistry, *, rest: float = _REST
    ) -> None:
        super().__init__(primary)
        self._primary, self._replica = Reads(primary), Reads(replica)
        self._cache = cache
        self._outage = Outage(
            rest,
            began=lambda error: log.warning("replica_away", error=str(getattr(error, "orig", error)).strip()),
            ended=lambda: log.info("replica_back"),
        )
        self._reads = Counter(
            "fiapx_replica_reads", "Reads that the replica served, or why it did not.", ["outcome"], registry=registry
        )

    def video(self, user_id: str, video_id: str) -> Video:
        return self._read(user_id, lambda reads: reads.video(user_id, video_id))

    def videos(self, user_id: str, size: int | None, after: Cursor | None, limit: int) -> list[Video]:
        return self._read(user_id, lambda reads: reads.videos(user_id, size, after, limit))

    def job(self, user_id: str, job_id: str) -> Job:
        return self._read(user_id, lambda reads: reads.job(user_id, job_id))

    def jobs(self, user_id: str, state: JobState | None, after: Cursor | None, limit: int) -> list[Job]:
        return self._read(user_id, lambda reads: reads.jobs(user_id, state, after, limit))

    def attempts(self, job: Job) -> list[PastAttempt]:
        return self._read(job.user_id, lambda reads: reads.attempts(job))

    def position(self, job: Job) -> int:
        return self._read(job.user_id, lambda reads: reads.position(job))

    def _read(self, user_id: str, read: Callable[[Reads], T]) -> T:
        if not self._outage.may_try():
            return self._instead("away", read)
        version = known_version(self._cache, user_id, self.version)
        try:
            knows = self._replica.version(user_id) >= version
            answer = read(self._replica) if knows else None
        except NotFound:
            return self._instead("missing", read)
        except SQLAlchemyError as error:
            self._outage.failed(error)
            return self._instead("away", read)
        self._outage.succeeded()
        if answer is None:
            return self._instead("behind", read)
        self._reads.labels("served").inc()
        return answer

    def _instead(self, why: str, read: Callable[[Reads], T]) -> T:
        self._reads.labels(why).inc()
        return read(self._primary)
