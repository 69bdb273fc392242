"""Live progress of running jobs: in the cache alone, since nothing depends on it."""

from __future__ import annotations

import json
from typing import Final

from fiapx.core.ports import Cache
from fiapx.server.processing.views import ProgressView

_TTL: Final = 60.0


def _key(job_id: str) -> str:
    return f"progress:{job_id}"


def put_progress(cache: Cache, job_id: str, attempt: int, done: int, total: int) -> None:
    """Tell how far this attempt has come."""
    cache.set(_key(job_id), json.dumps([attempt, done, total]).encode(), _TTL)


def get_progress(cache: Cache, job_id: str, attempt: int) -> ProgressView | None:
    """How far this attempt has come, if anybody knows. An older attempt's progress does not count."""
    value = cache.get(_key(job_id))
    if value is None:
        return None
    told, done, total = json.loads(value)
    return ProgressView(done=done, total=total) if told == attempt else None


def drop_progress(cache: Cache, job_id: str) -> None:
    """The attempt has ended."""
    cache.delete(_key(job_id))
