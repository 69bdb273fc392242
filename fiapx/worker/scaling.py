"""How many worker processes there should be: more while jobs wait too long, fewer once none waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """Between `least` and `most` processes. `age` is how long the oldest job may wait, `idle` how long the queue is
    empty before a process is too many; both in seconds."""

    least: int
    most: int
    age: float
    idle: float


class Scaler:
    """Decides by the age of the oldest waiting job, one process at a time.

    A step up gets `age` seconds to show its effect before the next one, and a step down `idle` seconds.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._wanted = policy.least
        self._raised: float | None = None
        self._empty_since: float | None = None

    def wanted(self, now: float, oldest: float | None) -> int:
        """The number of processes at the time `now`; `oldest` is the age in seconds, or None where no job waits."""
        if oldest is not None:
            self._empty_since = None
            if oldest > self._policy.age and self._settled(now):
                self._raised = now
                self._wanted = min(self._wanted + 1, self._policy.most)
        elif self._empty_since is None:
            self._empty_since = now
        elif now - self._empty_since >= self._policy.idle:
            self._empty_since = now
            self._wanted = max(self._wanted - 1, self._policy.least)
        return self._wanted

    def _settled(self, now: float) -> bool:
        return self._raised is None or now - self._raised >= self._policy.age
