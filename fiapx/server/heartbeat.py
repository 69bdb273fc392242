"""Roles that nobody can ask tell of themselves: a key in the cache that expires unless it is renewed."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Final

from fiapx.core.errors import Unavailable
from fiapx.core.ports import Cache

INTERVAL: Final = 2.0
_LIVES: Final = 3
"""Intervals that a sign of life is good for."""


class NobodyKnows(Unavailable):
    """The cache does not work, so nobody knows."""


class Heartbeat:
    """Says that an instance of a role is alive. The newest sign of life stands for all instances."""

    def __init__(self, cache: Cache, role: str, instance: str, interval: float = INTERVAL) -> None:
        """`instance` names the process, for people; `interval` is in seconds."""
        self._cache, self._key = cache, _key(role)
        self._instance, self._interval = instance.encode(), interval

    def run(self, stop: Event) -> None:
        """Beat until `stop` is set. For a thread of its own."""
        while True:
            self.beat()
            if stop.wait(self._interval):
                return

    def beat(self) -> None:
        self._cache.set(self._key, self._instance, self._interval * _LIVES)


def alive(cache: Cache, role: str) -> Callable[[], None]:
    """A health check: raises Unavailable where no instance has shown itself lately, NobodyKnows without the cache."""

    def check() -> None:
        if cache.get(_key(role)) is not None:
            return
        try:
            cache.check()
        except Unavailable:
            raise NobodyKnows from None
        raise Unavailable(f"No {role} has shown itself lately.")

    return check


def _key(role: str) -> str:
    return f"heartbeat:{role}"
