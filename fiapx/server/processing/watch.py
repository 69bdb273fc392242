"""A job that somebody watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fiapx.core.ports import Cache
from fiapx.server.processing.changes import TTL, known_number, status, status_key
from fiapx.server.processing.model import Job
from fiapx.server.processing.views import JobView

_REREAD: Final = 5.0
"""Seconds after which the database is asked whatever the cache says: a place in the queue changes with other jobs."""


class Watch:
    """Looks at the cache each time, and at the database where the cache knows another status, or none, or some seconds
    are over. `read` gives the job with its place in the queue; `show` makes a view of them with the live progress."""

    def __init__(
        self,
        cache: Cache,
        job_id: str,
        read: Callable[[], tuple[Job, int | None]],
        show: Callable[[Job, int | None], JobView],
    ) -> None:
        self._cache = cache
        self._key = status_key(job_id)
        self._read = read
        self._show = show
        self._seen: int | None = None
        self._reread_at = 0.0
        self._found: tuple[Job, int | None] | None = None

    def look(self) -> JobView:
        """The job as it is now. Raises NotFound where it is not, or no more."""
        known = known_number(self._cache, self._key)
        if self._found is None or known is None or known != self._seen or time.monotonic() >= self._reread_at:
            self._found = self._read()
            self._remember(known, self._found[0])
        return self._show(*self._found)

    def _remember(self, known: int | None, job: Job) -> None:
        """What was read may be older than what the cache knows, from a replica: then the next look reads again."""
        self._reread_at = time.monotonic() + _REREAD
        self._seen = status(job.version, job.state)
        if known is None or known < self._seen:
            self._cache.raise_to(self._key, self._seen, TTL)
