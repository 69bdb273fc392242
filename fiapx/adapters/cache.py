"""Caches. Values may vanish at any moment."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final

_OVERHEAD: Final = 200
"""Bytes that an entry costs beside its value, roughly."""


class MemoryCache:
    """The Cache port inside one process: bounded, the least recently used values go first.

    A value larger than a quarter of `max_bytes` is not kept at all.
    """

    def __init__(self, max_bytes: int = 64 * 1024 * 1024, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = Lock()
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> bytes | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry[1] <= self._clock():
                self._remove(key)
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def set(self, key: str, value: bytes, ttl: float) -> None:
        with self._lock:
            self._put(key, value, ttl)

    def add(self, key: str, value: bytes, ttl: float) -> bool:
        with self._lock:
            return self._live(key) is None and self._put(key, value, ttl)

    def raise_to(self, key: str, number: int, ttl: float) -> None:
        with self._lock:
            there = self._live(key)
            self._put(key, str(max(number, int(there)) if there is not None else number).encode(), ttl)

    def delete(self, key: str) -> None:
        with self._lock:
            self._remove(key)

    def check(self) -> None:
        """Memory is always there."""

    def _live(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        return entry[0] if entry is not None and entry[1] > self._clock() else None

    def _put(self, key: str, value: bytes, ttl: float) -> bool:
        self._remove(key)
        if ttl <= 0 or _cost(key, value) > self._max_bytes // 4:
            return False
        self._entries[key] = (value, self._clock() + ttl)
        self._bytes += _cost(key, value)
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))
        return True

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _cost(key, entry[0])


def _cost(key: str, value: bytes) -> int:
    return len(key) + len(value) + _OVERHEAD
