"""Pages of rows, kept in the cache under their user's version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fiapx.core.jobs import JobState
from fiapx.core.ports import Cache
from fiapx.server.aside import CacheAside
from fiapx.server.processing.changes import known_version
from fiapx.server.processing.model import Cursor, Job, Video
from fiapx.server.processing.reads import Reads


@dataclass(frozen=True)
class ListTtls:
    """Seconds that pages are kept; 0: not at all. Only where the cache missed a write can a page be old, and then it
    is for this long."""

    videos: float = 30
    jobs: float = 5


class Lists:
    """Pages of a user's videos and jobs, as `Reads` gives them."""

    def __init__(self, reads: Reads, cache: Cache, aside: CacheAside, ttls: ListTtls) -> None:
        self._reads = reads
        self._cache = cache
        self._aside = aside
        self._ttls = ttls

    def videos(self, user_id: str, size: int | None, after: Cursor | None, limit: int) -> list[Video]:
        """Newest first; of one size in bytes, if it is given."""
        rows = self._rows(
            "videos",
            user_id,
            self._ttls.videos,
            (size, after and asdict(after), limit),
            lambda: self._reads.videos(user_id, size, after, limit),
        )
        return [Video(**row) for row in rows]

    def jobs(self, user_id: str, state: JobState | None, after: Cursor | None, limit: int) -> list[Job]:
        """Newest first."""
        rows = self._rows(
            "jobs",
            user_id,
            self._ttls.jobs,
            (state, after and asdict(after), limit),
            lambda: self._reads.jobs(user_id, state, after, limit),
        )
        return [Job(**row | {"state": JobState(row["state"])}) for row in rows]

    def _rows(
        self, name: str, user_id: str, ttl: float, asked: object, read: Callable[[], Sequence[Video] | Sequence[Job]]
    ) -> list[dict[str, Any]]:
        question = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        version = known_version(self._cache, user_id, self._reads.version)  # before the rows, which may only be newer
        key = f"{name}:{user_id}:{version}:{question}"
        answer = self._aside.get(name, key, ttl, lambda: json.dumps([asdict(row) for row in read()]).encode())
        rows: list[dict[str, Any]] = json.loads(answer)
        return rows
