"""Which log-in sessions are good, remembered in a cache that all services share. Auth's database decides."""

from __future__ import annotations

import time
from collections.abc import Iterable
from threading import Event, Lock
from typing import Final

import structlog

from fiapx.core.ports import Cache, Sessions

log = structlog.get_logger(__name__)

TTL: Final = 60.0
"""Seconds that a good session may be believed in without asking auth."""

_GOOD: Final = b"1"
_ENDED: Final = b"0"
_RETRY: Final = 1.0


def _key(session_id: str) -> str:
    return f"session:{session_id}"


class CachedSessions:
    """The Sessions port before another one, its `source`: asks the cache first.

    A good answer is only added where nothing is known: it was true when it was asked for, but if the session has ended
    since, that is known already, and stays. An ended session never comes back, so bad answers are stored at once.
    """

    def __init__(self, cache: Cache, source: Sessions, ttl: float = TTL) -> None:
        self._cache = cache
        self._source = source
        self._ttl = ttl

    def active(self, session_id: str, token: str) -> bool:
        """Whether the session is good. Raises Unavailable where neither the cache nor the source can tell."""
        known = self._cache.get(_key(session_id))
        if known is not None:
            return known == _GOOD
        if not self._source.active(session_id, token):
            self._cache.set(_key(session_id), _ENDED, self._ttl)
            return False
        self._cache.add(_key(session_id), _GOOD, self._ttl)
        return True


class EndedSessions:
    """Tells the cache which sessions have ended, after auth's transaction has. Kept for `keep` seconds.

    While the cache cannot be told, `run` tries again every second. A session whose end did not get through (the cache
    was away, or this process died between commit and telling) is believed in for `ttl` seconds at most: so long do good
    answers live. With auth's own database unharmed, nothing longer is possible.
    """

    def __init__(self, cache: Cache, keep: float, ttl: float = TTL) -> None:
        self._cache = cache
        self._keep = keep
        self._ttl = ttl
        self._untold: dict[str, float] = {}
        self._lock = Lock()

    def tell(self, session_ids: Iterable[str]) -> bool:
        """Whether all could be told. Never raises."""
        untold = [session_id for session_id in session_ids if not self._told(session_id)]
        for session_id in untold:
            with self._lock:
                self._untold[session_id] = time.monotonic() + self._ttl
            log.warning("session_end_not_told")
        return not untold

    def retry(self) -> None:
        """Tell what could not be told before."""
        with self._lock:
            untold = dict(self._untold)
        for session_id, deadline in untold.items():
            if self._told(session_id) or time.monotonic() > deadline:
                with self._lock:
                    self._untold.pop(session_id, None)

    def run(self, stop: Event) -> None:
        """Retry until `stop` is set."""
        while not stop.wait(_RETRY):
            self.retry()

    def _told(self, session_id: str) -> bool:
        """A cache says nothing about a write: it has to be read."""
        key = _key(session_id)
        self._cache.set(key, _ENDED, self._keep)
        return self._cache.get(key) == _ENDED
