"""Which jobs wait: for those who claim them, and for those who measure the queue."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, case, exists, or_

from fiapx.core.jobs import JobState
from fiapx.server.processing.tables import jobs
from fiapx.server.sql import now_ms


def claimable() -> ColumnElement[bool]:
    """Queued jobs whose time has come, without those that wait for an identical one that runs, to have its result."""
    twin = jobs.alias()
    in_the_making = exists().where(
        twin.c.state == JobState.RUNNING, twin.c.user_id == jobs.c.user_id, twin.c.cache_key == jobs.c.cache_key
    )
    return and_(jobs.c.state == JobState.QUEUED, jobs.c.not_before_ms <= now_ms(), or_(jobs.c.fresh, ~in_the_making))


def waits_since() -> ColumnElement[int]:
    """When a worker could first have taken the job, in milliseconds since 1970."""
    return case((jobs.c.not_before_ms > jobs.c.created_ms, jobs.c.not_before_ms), else_=jobs.c.created_ms)
