"""Answering a job with the result of an identical one: same user, video name, source bytes, options and engine.

The result is shared: several jobs name one object, which goes with the last of them. Never across users, whom it would
tell what others have.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from sqlalchemy import ColumnElement, Connection, Row, and_, select

from fiapx.core.jobs import JobState
from fiapx.server.processing.tables import jobs
from fiapx.server.processing.transitions import Transitions

_RESULT: Final = (
    "result_key",
    "result_size",
    "result_sha256",
    "manifest_offset",
    "manifest_size",
    "frames",
    "engine",
    "engine_fingerprint",
    "warnings",
)


def cache_key(video_sha256: str, video_name: str, options: str) -> str:
    """The same for jobs whose results are the same to the byte, if one engine makes them. `options` is the model's
    JSON, in which equal options are equal text; the name is in the manifest."""
    return hashlib.sha256(json.dumps([video_sha256, video_name, options]).encode()).hexdigest()


def reuse(
    transitions: Transitions, connection: Connection, which: ColumnElement[bool]
) -> Row[tuple[object, ...]] | None:
    """Complete the live job that `which` selects with the newest result that fits; the job, or None if there is none.

    Jobs that ask for fresh work are left alone. The lender is the job that did the work, or one that borrowed as well
    if that was deleted. It is locked until the transaction ends: whoever deletes it waits, and then sees that its
    object has another owner.
    """
    lender = jobs.alias()
    found = connection.execute(
        select(lender)
        .join(jobs, and_(lender.c.user_id == jobs.c.user_id, lender.c.cache_key == jobs.c.cache_key))
        .where(
            which,
            jobs.c.fresh.is_(False),
            lender.c.state == JobState.COMPLETED,
            lender.c.result_key.is_not(None),
            lender.c.engine_fingerprint == transitions.fingerprint,
        )
        .order_by(lender.c.reused_from.is_not(None), lender.c.finished_ms.desc(), lender.c.id)
        .limit(1)
        .with_for_update(read=True, of=lender)
    ).one_or_none()
    if found is None:
        return None
    result = {name: getattr(found, name) for name in _RESULT}
    return transitions.end(connection, which, JobState.COMPLETED, reused_from=found.id, **result)
