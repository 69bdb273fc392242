"""What keeps processing tidy: silent workers' jobs, abandoned uploads, objects that nothing names."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from threading import Event
from typing import Final

import structlog

from fiapx.core.ports import Storage
from fiapx.server.processing.leases import Leases
from fiapx.server.processing.retention import Retention
from fiapx.server.processing.store import Store
from fiapx.server.processing.uploads.service import Uploads

log = structlog.get_logger(__name__)

_BATCH: Final = 500
_KEEP_KEYS: Final = 24 * 3600
"""Seconds after which an Idempotency-Key may be used anew."""


class Maintenance:
    """Times in seconds. `sweep_age` must exceed the time between storing an object and committing its row.

    Without `retention` results and videos are kept for ever.
    """

    def __init__(
        self,
        store: Store,
        leases: Leases,
        uploads: Uploads,
        storage: Storage,
        *,
        reaper_interval: float = 5,
        sweep_interval: float = 300,
        sweep_age: float = 3600,
        retention: Retention | None = None,
    ) -> None:
        self._store = store
        self._leases = leases
        self._uploads = uploads
        self._storage = storage
        self._reaper_interval = reaper_interval
        self._sweep_interval = sweep_interval
        self._sweep_age = sweep_age
        self._retention = retention

    def sweep(self, age: float | None = None) -> int:
        """Remove what is too old, and what nobody owns and nobody writes; return how many objects and temporary files.

        `age` replaces `sweep_age`: 0 is right before a lone server has begun to serve, and at no other time.
        """
        age = self._sweep_age if age is None else age
        removed = self._storage.sweep(age)
        self._store.forget_parts()
        for prefix in ("videos/", "jobs/", "parts/"):
            old = (key for key, seconds in self._storage.list(prefix) if seconds >= age)
            removed += sum(self._remove(batch) for batch in _batches(old))
        removed += self._uploads.sweep(age)
        self._store.forget_keys(_KEEP_KEYS)
        removed += self._expire()
        if removed:
            log.info("swept", removed=removed)
        return removed

    def reap(self, stop: Event) -> None:
        """Take back the jobs of silent workers until `stop` is set; the first round is at once."""
        self._repeat(self._leases.reap, stop)

    def tidy(self, stop: Event) -> None:
        """Finish uploads and sweep until `stop` is set, in a thread of its own: with many bytes it takes a while."""
        next_sweep = time.monotonic()

        def round_() -> None:
            nonlocal next_sweep
            self._uploads.finish_left()
            if time.monotonic() >= next_sweep:
                next_sweep = time.monotonic() + self._sweep_interval
                self.sweep()

        self._repeat(round_, stop)

    def _repeat(self, action: Callable[[], object], stop: Event) -> None:
        while not stop.is_set():
            try:
                action()
            except Exception:  # the database may come back
                log.exception("maintenance_failed")
            stop.wait(self._reaper_interval)

    def _expire(self) -> int:
        expired = 0
        while self._retention and (keys := self._retention.expire()):
            for key in keys:
                self._storage.delete(key)
            expired += len(keys)
        return expired

    def _remove(self, keys: list[str]) -> int:
        orphans = self._store.unclaimed(keys)
        for key in orphans:
            self._storage.delete(key)
            log.info("orphan_removed", key=key)
        return len(orphans)


def _batches(keys: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(keys, _BATCH)):
        yield batch
