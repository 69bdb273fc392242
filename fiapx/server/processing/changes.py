"""What a transaction changes, and how caches learn of it after the commit.

Each user has a version in the database, which every write raises in its own transaction. What is kept under a version
can thus not be found after the next write. Versions only grow, and the cache never lowers one: an old one that arrives
late changes nothing. Where a cache could not be told, what it has is found until its time to live is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from fiapx.core.jobs import JobState
from fiapx.core.ports import Cache
from fiapx.server.processing.tables import user_versions

TTL: Final = 24 * 3600.0
_INSERT: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_STATES: Final = list(JobState)


@dataclass
class Changes:
    """`users` whose videos or jobs change, and the statuses that jobs reach."""

    users: set[str] = field(default_factory=set)
    statuses: dict[str, int] = field(default_factory=dict)

    def raise_versions(self, connection: Connection) -> dict[str, int]:
        """The users' new versions. To be the last thing in a transaction, and always in one order: transactions that
        change several users then never wait for each other in a circle."""
        return {user_id: _raised(connection, user_id) for user_id in sorted(self.users)}

    def tell(self, cache: Cache, versions: dict[str, int]) -> None:
        """After the commit."""
        for job_id, status in self.statuses.items():
            cache.raise_to(status_key(job_id), status, TTL)
        for user_id, version in versions.items():
            cache.raise_to(version_key(user_id), version, TTL)


def version_key(user_id: str) -> str:
    """Where a user's version is in the cache; the gateway looks there as well."""
    return f"version:{user_id}"


def status_key(job_id: str) -> str:
    """Where the number of a job's status is in the cache."""
    return f"status:{job_id}"


def status(version: int, state: JobState) -> int:
    """A number that grows with each change of a job; its last digit is the state's place in `JobState`."""
    return version * 10 + _STATES.index(state)


def known_number(cache: Cache, key: str) -> int | None:
    """A number that was kept with `raise_to`, if it is there."""
    value = cache.get(key)
    return int(value) if value is not None else None


def known_version(cache: Cache, user_id: str, read: Callable[[str], int]) -> int:
    """The user's version, from the primary database by `read` where the cache does not know it."""
    version = known_number(cache, version_key(user_id))
    if version is None:
        version = read(user_id)
        cache.raise_to(version_key(user_id), version, TTL)
    return version


def _raised(connection: Connection, user_id: str) -> int:
    insert = _INSERT[connection.dialect.name]
    raised = (
        insert(user_versions)
        .values(user_id=user_id, version=1)
        .on_conflict_do_update(index_elements=["user_id"], set_={"version": user_versions.c.version + 1})
        .returning(user_versions.c.version)
    )
    version: int = connection.execute(raised).scalar_one()
    return version
