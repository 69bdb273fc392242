"""The bodies that the API answers with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel

from fiapx.core.jobs import JobState
from fiapx.server.processing.model import Outcome, PastAttempt, Video
from fiapx.server.processing.uploads.model import Upload


class VideoView(BaseModel):
    """An uploaded video."""

    id: str
    name: str
    size: int
    sha256: str
    created_at: datetime


class UploadView(BaseModel):
    """An upload that may be resumed. `video_id` and `job_id` are null until there are such."""

    id: str
    name: str
    size: int
    offset: int
    state: Literal["uploading", "storing", "finished"]
    expires_at: datetime | None
    video_id: str | None
    job_id: str | None

    @classmethod
    def of(cls, upload: Upload, ttl: float) -> Self:
        """`ttl` is how long an upload waits for its next bytes, in seconds."""
        state: Literal["uploading", "storing", "finished"] = (
            "finished" if upload.finished else "storing" if upload.full else "uploading"
        )
        return cls(
            id=upload.id,
            name=upload.name,
            size=upload.size,
            offset=upload.offset,
            state=state,
            expires_at=None if upload.full else when(upload.touched_ms + int(ttl * 1000)),
            video_id=upload.id if upload.finished else None,
            job_id=upload.job_id,
        )


class VideoPage(BaseModel):
    """Newest first; `next_cursor` is null on the last page."""

    items: list[VideoView]
    next_cursor: str | None


class VideoRef(BaseModel):
    """The video of a job; it may have been deleted since."""

    id: str
    name: str


class ProgressView(BaseModel):
    """Frames in the ZIP so far; `total` is 0 while the video is being indexed."""

    done: int
    total: int


class ErrorView(BaseModel):
    """Why a job failed; `code` is stable."""

    code: str
    message: str


class WarningView(BaseModel):
    """What to know about a result that is usable all the same; `code` is stable."""

    code: str
    message: str
    counts: dict[str, int] = {}


class ResultView(BaseModel):
    """The ZIP of a completed job. `expired`: it has been let go, as the server keeps results for a time only."""

    frames: int
    size: int
    sha256: str
    engine: str
    expired: bool = False


class AttemptView(BaseModel):
    """One attempt at a job. `released`: the worker was stopped, and gave the job back; `lost`: nothing more was heard
    of the worker."""

    number: int
    worker: str | None
    started_at: datetime
    ended_at: datetime | None
    outcome: Outcome
    error: ErrorView | None


class JobView(BaseModel):
    """A job. `queue_position` is given while it waits, `eta_seconds` and live `progress` while it runs, `reused_from`
    where an identical job had made the result. Lists and events do without `attempts`."""

    id: str
    state: JobState
    attempt: int
    video: VideoRef
    options: dict[str, Any]
    progress: ProgressView | None = None
    queue_position: int | None = None
    eta_seconds: float | None = None
    error: ErrorView | None = None
    warnings: list[WarningView] = []
    result: ResultView | None = None
    retry_of: str | None = None
    reused_from: str | None = None
    attempts: list[AttemptView] | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class JobPage(BaseModel):
    """Newest first; `next_cursor` is null on the last page."""

    items: list[JobView]
    next_cursor: str | None


def video_view(video: Video) -> VideoView:
    """What its owner sees of a video."""
    return VideoView(
        id=video.id, name=video.name, size=video.size, sha256=video.sha256, created_at=when(video.created_ms)
    )


def attempt_view(past: PastAttempt) -> AttemptView:
    """What its owner sees of an attempt."""
    return AttemptView(
        number=past.attempt,
        worker=past.worker,
        started_at=when(past.started_ms),
        ended_at=when(past.ended_ms) if past.ended_ms else None,
        outcome=past.outcome,
        error=ErrorView(code=past.error_code, message=past.error_message or "") if past.error_code else None,
    )


def when(ms: int) -> datetime:
    """Milliseconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)
