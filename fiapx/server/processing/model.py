"""Processing's nouns, free of SQL and HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fiapx.core.jobs import JobState


@dataclass(frozen=True)
class Video:
    """An upload whose bytes are on stable storage under `storage_key`."""

    id: str
    user_id: str
    name: str
    size: int
    sha256: str
    storage_key: str
    created_ms: int


@dataclass(frozen=True)
class Job:
    """A row of the queue as its owner may see it; `options` and `warnings` are JSON."""

    id: str
    user_id: str
    video_id: str
    video_name: str
    options: str
    state: JobState
    priority: int
    attempt: int
    error_code: str | None
    error_message: str | None
    warnings: str | None
    frames: int | None
    engine: str | None
    result_key: str | None
    result_size: int | None
    result_sha256: str | None
    manifest_offset: int | None
    manifest_size: int | None
    retry_of: str | None
    reused_from: str | None
    version: int
    created_ms: int
    started_ms: int | None
    finished_ms: int | None


GivenUp = Literal["failed", "released", "lost"]
"""How an attempt ends that does not end its job. `lost`: nothing more was heard of the worker."""

Outcome = Literal["running", "completed", "failed", "cancelled", "released", "lost"]


@dataclass(frozen=True)
class PastAttempt:
    """One attempt at a job, which has ended unless it is the last one."""

    attempt: int
    worker: str | None
    started_ms: int
    ended_ms: int | None
    outcome: Outcome
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True)
class NewVideo:
    """Bytes that are stored already and wait for their row."""

    id: str
    name: str
    size: int
    sha256: str

    @property
    def storage_key(self) -> str:
        return video_key(self.id)


@dataclass(frozen=True)
class NewJob:
    """A job to accept; its video exists, or comes in the same transaction. `fresh`: no earlier result will do."""

    video_id: str
    options: str
    email: str | None
    retry_of: str | None = None
    fresh: bool = False


Kind = Literal["video", "job", "upload"]


@dataclass(frozen=True)
class Once:
    """An Idempotency-Key with what identifies the request that carries it."""

    key: str
    fingerprint: str


@dataclass(frozen=True)
class Claim:
    """One attempt at a job. `attempt` and `lease_token` fence every write that the worker makes."""

    job_id: str
    user_id: str
    attempt: int
    lease_token: str
    options: str
    video_key: str
    video_name: str
    video_sha256: str | None
    traceparent: str | None = None

    @property
    def result_key(self) -> str:
        return result_key(self.job_id, self.attempt)


@dataclass(frozen=True)
class PartClaim:
    """One try at a part of a job; `lease_token` fences every write that the worker makes. `task` is JSON."""

    job_id: str
    kind: str
    number: int
    lease_token: str
    task: str
    video_key: str
    video_name: str
    video_sha256: str
    traceparent: str | None = None

    @property
    def key(self) -> str:
        return part_key(self.job_id, self.kind, self.number)


@dataclass(frozen=True)
class Cursor:
    """The last item of a page: lists go on after it, newest first."""

    created_ms: int
    id: str


@dataclass(frozen=True)
class QueueStatus:
    """What waits and what runs now. `oldest_ms` is the age of the longest-waiting job, 0 without one."""

    queued: int
    running: int
    oldest_ms: int


def video_key(video_id: str) -> str:
    """Where the bytes of a video are stored."""
    return f"videos/{video_id}"


def part_key(job_id: str, kind: str, number: int) -> str:
    """Where a part of a job is stored until all are joined."""
    return f"parts/{job_id}/{kind}-{number}"


def result_key(job_id: str, attempt: int) -> str:
    """Where an attempt stores its ZIP."""
    return f"jobs/{job_id}/{attempt}.zip"
