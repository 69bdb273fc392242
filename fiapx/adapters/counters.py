"""Where rates are counted: in memory, or in Redis for all processes together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from limits.storage import MemoryStorage, RedisStorage, Storage
from redis.exceptions import RedisError

from fiapx.adapters.cache_redis import connect, redis_outage

T = TypeVar("T")

_TIMEOUT: Final = 0.25
_REST: Final = 3.0


def counters(redis_url: str | None) -> Storage:
    """A storage for the `limits` package. In Redis, if there is a URL, all processes share their counts."""
    return SharedCounters(redis_url) if redis_url else MemoryStorage()


class SharedCounters(Storage):
    """Counts in Redis, and in this process while Redis is away: nobody is refused for an outage, and nobody gets
    without limit what it would have refused. Does what fixed windows need."""

    def __init__(
        self, redis_url: str, *, prefix: str = "fiapx:limits", timeout: float = _TIMEOUT, rest: float = _REST
    ) -> None:
        super().__init__(redis_url)
        self._client = connect(redis_url, timeout)
        pool = self._client.connection_pool
        self._shared = RedisStorage(redis_url, connection_pool=pool, key_prefix=prefix)
        self._own = MemoryStorage()
        self._outage = redis_outage(rest)

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return RedisError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return self._count(lambda storage: storage.incr(key, expiry, amount=amount))

    def get(self, key: str) -> int:
        return self._count(lambda storage: storage.get(key))

    def get_expiry(self, key: str) -> float:
        return self._count(lambda storage: storage.get_expiry(key))

    def check(self) -> bool:
        """Whether counts are shared now."""
        return self._shared.check()

    def reset(self) -> int | None:
        self._own.reset()
        return self._count(lambda storage: storage.reset())

    def clear(self, key: str) -> None:
        self._count(lambda storage: storage.clear(key))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._client.connection_pool.disconnect()

    def _count(self, count: Callable[[Storage], T]) -> T:
        if self._outage.may_try():
            try:
                answer = count(self._shared)
            except (RedisError, OSError) as error:
                self._outage.failed(error)
            else:
                self._outage.succeeded()
                return answer
        return count(self._own)
