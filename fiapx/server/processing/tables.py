"""The tables of processing. Every index serves a query that is in use."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    false,
    text,
)

from fiapx.server.outbox import outbox_table

metadata = MetaData()
_STORED = text("result_key IS NOT NULL")

videos = Table(
    "videos",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("storage_key", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("ix_videos_user", "user_id", "created_ms", "id"),
    Index("ix_videos_created", "created_ms"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("email", Text),
    Column("video_id", Text, nullable=False),  # no foreign key: a job's history outlives its video
    Column("video_name", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),  # higher goes first
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("not_before_ms", BigInteger, nullable=False, server_default="0"),
    Column("lease_token", Text),
    Column("lease_until_ms", BigInteger),
    Column("worker", Text),  # of the newest attempt
    Column("error_code", Text),
    Column("error_message", Text),
    Column("warnings", Text),
    Column("frames", Integer),
    Column("engine", Text),
    Column("result_key", Text),  # null again once the result has been let go
    Column("result_size", BigInteger),
    Column("result_sha256", Text),
    Column("manifest_offset", BigInteger),
    Column("manifest_size", BigInteger),
    Column("retry_of", Text),
    Column("cache_key", Text),  # null in jobs from before it was kept: they are never reused
    Column("engine_fingerprint", Text),
    Column("fresh", Boolean, nullable=False, server_default=false()),  # asks for new work whatever is there
    Column("reused_from", Text),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("created_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("finished_ms", BigInteger),
    Column("traceparent", Text),  # of the request that wanted it
    Index("ix_jobs_user", "user_id", "created_ms", "id"),
    Index("ix_jobs_user_state", "user_id", "state", "created_ms", "id"),
    Index("ix_jobs_queue", "state", "priority", "created_ms"),
    Index("ix_jobs_video", "video_id"),
    Index("ix_jobs_cache", "user_id", "cache_key"),
    Index("ix_jobs_result", "result_key"),
    Index("ix_jobs_expiry", "finished_ms", postgresql_where=_STORED, sqlite_where=_STORED),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker", Text),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error_code", Text),
    Column("error_message", Text),
    PrimaryKeyConstraint("job_id", "attempt"),
)
"""Those that did not end their job."""

parts = Table(
    "parts",
    metadata,
    Column("job_id", Text, nullable=False),  # no foreign key: the sweeper comes for what a job leaves behind
    Column("kind", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("task", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("made", Boolean, nullable=False, server_default=false()),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("lease_token", Text),
    Column("lease_until_ms", BigInteger),
    PrimaryKeyConstraint("job_id", "kind", "number"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),  # and of the video that it becomes
    Column("user_id", Text, nullable=False),
    Column("email", Text),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("options", Text),  # of the job that it becomes as well, if there are any
    Column("fresh", Boolean, nullable=False, server_default=false()),
    Column("offset", BigInteger, nullable=False, server_default="0"),  # so many bytes are on stable storage
    Column("epoch", Integer, nullable=False, server_default="0"),  # counts writers; the last one may record
    Column("job_id", Text),
    Column("touched_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("metadata", Text),  # Upload-Metadata as it was sent
    Column("full_ms", BigInteger),  # when the last byte was recorded
    Index("ix_uploads_user", "user_id"),
    Index("ix_uploads_touched", "touched_ms"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("resource_id", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False, index=True),
    PrimaryKeyConstraint("user_id", "key"),
)

deleted_users = Table(
    "deleted_users",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("deleted_ms", BigInteger, nullable=False),
)
"""Whose access tokens may live on for minutes, and uploads for hours: nothing more is accepted from them."""

user_versions = Table(
    "user_versions",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""Raised by each write; what is kept in a cache is found under it."""

outbox = outbox_table(metadata)
