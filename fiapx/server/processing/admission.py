"""How much work is taken in. What is refused can be asked again later; what is accepted is never dropped."""

from __future__ import annotations

import time
from typing import Final

from fiapx.core.errors import QueueFull, TooManyJobs
from fiapx.server.processing.reads import Reads

_FRESH: Final = 1.0
"""Seconds for which a look at the whole queue is good."""


class Admission:
    """At most `user_jobs` live jobs a user, and `queue_jobs` waiting ones of all. Where requests come at the same
    moment, a few more pass."""

    def __init__(self, reads: Reads, *, user_jobs: int, queue_jobs: int) -> None:
        self._reads = reads
        self._user_jobs = user_jobs
        self._queue_jobs = queue_jobs
        self._looked = -_FRESH
        self._full = False

    def check(self, user_id: str) -> None:
        """Return if one more job of this user may come. Raises TooManyJobs, QueueFull."""
        if self._reads.live(user_id, self._user_jobs) >= self._user_jobs:
            raise TooManyJobs(f"You have {self._user_jobs} jobs that wait or run; wait for some to end.")
        now = time.monotonic()
        if now - self._looked >= _FRESH:
            self._looked, self._full = now, self._reads.waiting(self._queue_jobs) >= self._queue_jobs
        if self._full:
            raise QueueFull
