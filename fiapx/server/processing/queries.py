"""What users may see of their videos and jobs. Raises NotFound for everything that is not theirs."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Sequence
from typing import Final

from fiapx.core.errors import Conflict, Expired, InvalidRequest, JobNotFinished
from fiapx.core.jobs import JobState
from fiapx.core.ports import Cache, Storage
from fiapx.server.aside import CacheAside
from fiapx.server.processing.frames import FrameIndex
from fiapx.server.processing.lists import Lists, ListTtls
from fiapx.server.processing.model import Cursor, Job, Video
from fiapx.server.processing.progress import get_progress
from fiapx.server.processing.reads import Reads
from fiapx.server.processing.views import (
    ErrorView,
    JobPage,
    JobView,
    ProgressView,
    ResultView,
    VideoPage,
    VideoRef,
    VideoView,
    WarningView,
    attempt_view,
    video_view,
    when,
)
from fiapx.server.processing.watch import Watch

_TTLS: Final = ListTtls()
_DIGITS: Final = 15
"""Of a time in milliseconds, for 30,000 years; databases take no number past 64 bits."""


class Queries:
    """Read side of processing. Lists are kept in the cache, with `aside`, for the times that `ttls` gives."""

    def __init__(
        self,
        reads: Reads,
        storage: Storage,
        cache: Cache,
        *,
        aside: CacheAside | None = None,
        ttls: ListTtls = _TTLS,
    ) -> None:
        self.ttls = ttls
        self._lists = Lists(reads, cache, aside or CacheAside(cache), ttls)
        self._reads = reads
        self._storage = storage
        self._cache = cache

    def video(self, user_id: str, video_id: str) -> VideoView:
        """One video."""
        return video_view(self._reads.video(user_id, video_id))

    def videos(self, user_id: str, size: int | None, cursor: str | None, limit: int) -> VideoPage:
        """A page of videos, all or those of one `size` in bytes. Raises InvalidRequest for a cursor not given by us."""
        rows = self._lists.videos(user_id, size, _decode(cursor), limit + 1)
        return VideoPage(items=[video_view(row) for row in rows[:limit]], next_cursor=_next(rows, limit))

    def job(self, user_id: str, job_id: str) -> JobView:
        """One job, with its place in the queue or its live progress, and its attempts."""
        job, position = self._found(user_id, job_id)
        view = self._live(job, position)
        view.attempts = [attempt_view(past) for past in self._reads.attempts(job)] if job.attempt else []
        return view

    def watch(self, user_id: str, job_id: str) -> Watch:
        """The same job, to be looked at again and again."""
        return Watch(self._cache, job_id, lambda: self._found(user_id, job_id), self._live)

    def jobs(self, user_id: str, state: JobState | None, cursor: str | None, limit: int) -> JobPage:
        """A page of jobs. Raises InvalidRequest for a cursor that we did not give."""
        rows = self._lists.jobs(user_id, state, _decode(cursor), limit + 1)
        return JobPage(items=[self._view(row) for row in rows[:limit]], next_cursor=_next(rows, limit))

    def finished(self, user_id: str, job_id: str) -> Job:
        """A job whose result can be read. Raises JobNotFinished, Expired, or Conflict if there will be none."""
        job = self._reads.job(user_id, job_id)
        if job.state is JobState.COMPLETED and job.result_key is None:
            raise Expired
        if job.state is JobState.COMPLETED:
            return job
        if job.state is JobState.FAILED:
            raise Conflict(f"The job failed ({job.error_code}): {job.error_message}")
        if job.state is JobState.CANCELLED:
            raise Conflict("The job was cancelled; it has no result.")
        raise JobNotFinished

    def frames(self, job: Job) -> FrameIndex:
        """Where the frames of a finished job lie in its ZIP."""
        return FrameIndex.of(job, self._storage, self._cache)

    def image_format(self, job: Job) -> str:
        """Of the frames: jpg or png."""
        return str(json.loads(job.options)["format"])

    def _found(self, user_id: str, job_id: str) -> tuple[Job, int | None]:
        job = self._reads.job(user_id, job_id)
        return job, self._reads.position(job) if job.state is JobState.QUEUED else None

    def _live(self, job: Job, position: int | None) -> JobView:
        view = self._view(job)
        view.queue_position = position
        if job.state is JobState.RUNNING:
            view.eta_seconds = _eta(int(time.time() * 1000) - (job.started_ms or 0), view.progress)
        return view

    def _view(self, job: Job) -> JobView:
        return JobView(
            id=job.id,
            state=job.state,
            attempt=job.attempt,
            video=VideoRef(id=job.video_id, name=job.video_name),
            options=json.loads(job.options),
            progress=self._progress(job),
            error=ErrorView(code=job.error_code, message=job.error_message or "") if job.error_code else None,
            warnings=[WarningView(**warning) for warning in json.loads(job.warnings or "[]")],
            result=_result(job),
            retry_of=job.retry_of,
            reused_from=job.reused_from,
            created_at=when(job.created_ms),
            started_at=when(job.started_ms) if job.started_ms else None,
            finished_at=when(job.finished_ms) if job.finished_ms else None,
        )

    def _progress(self, job: Job) -> ProgressView | None:
        if job.frames is not None:
            return ProgressView(done=job.frames, total=job.frames)
        return get_progress(self._cache, job.id, job.attempt) if job.state is JobState.RUNNING else None


def _result(job: Job) -> ResultView | None:
    if job.frames is None or job.result_size is None or job.result_sha256 is None:
        return None
    return ResultView(
        frames=job.frames,
        size=job.result_size,
        sha256=job.result_sha256,
        engine=job.engine or "",
        expired=job.result_key is None,
    )


def _eta(elapsed_ms: int, progress: ProgressView | None) -> float | None:
    """Seconds left, if the rest goes as fast as what is done."""
    if progress is None or not progress.done or not progress.total:
        return None
    return round(max(0, elapsed_ms) / 1000 * (progress.total - progress.done) / progress.done, 1)


def _next(rows: Sequence[Job] | Sequence[Video], limit: int) -> str | None:
    if len(rows) <= limit:
        return None
    last = rows[limit - 1]
    return base64.urlsafe_b64encode(f"{last.created_ms}.{last.id}".encode()).decode().rstrip("=")


def _decode(cursor: str | None) -> Cursor | None:
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        created_ms, _, row_id = text.partition(".")
        return Cursor(_time(created_ms), row_id)
    except (ValueError, binascii.Error):
        raise InvalidRequest("cursor: not one that this server gave") from None


def _time(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError("no time that is ever stored")
    return int(text)
