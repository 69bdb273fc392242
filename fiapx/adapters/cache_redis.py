"""The cache that all processes share: Redis."""

from __future__ import annotations

import random
from collections.abc import Callable
from threading import Lock
from typing import Any, Final, TypeVar, cast

import structlog
from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from fiapx.core.errors import Unavailable
from fiapx.core.outage import Outage

log = structlog.get_logger(__name__)

T = TypeVar("T")

_CONNECTIONS: Final = 32
_MAX_MISSED: Final = 10_000
_RAISE: Final = """
local there = redis.call('GET', KEYS[1])
local number = ARGV[1]
if there and tonumber(there) and tonumber(there) > tonumber(number) then number = there end
redis.call('SET', KEYS[1], number, 'PX', ARGV[2])
"""


def connect(url: str, timeout: float) -> Redis:
    """A client with its own pool, which waits at most `timeout` seconds for anything and tries nothing twice."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


def redis_outage(rest: float) -> Outage:
    """Whose beginning and end are told in the log."""
    return Outage(
        rest,
        began=lambda error: log.warning("redis_away", error=str(error)),
        ended=lambda: log.info("redis_back"),
    )


class RedisCache:
    """The Cache port on Redis. Its keys begin with `prefix`.

    A call waits at most `timeout` seconds. After one in vain, Redis is left alone for `rest` seconds. Times to live
    vary by a tenth, so that values stored together do not vanish together; none is longer than it was asked for.

    Numbers that could not be raised are raised as soon as Redis is back, for it may still have the old ones.
    """

    def __init__(self, url: str, *, prefix: str = "fiapx:", timeout: float = 0.25, rest: float = 3.0) -> None:
        self._redis = connect(url, timeout)
        self._prefix = prefix
        self._outage = redis_outage(rest)
        self._raise = self._redis.register_script(_RAISE)
        self._missed: dict[str, tuple[int, float]] = {}
        self._lock = Lock()

    def get(self, key: str) -> bytes | None:
        return cast("bytes | None", self._try(lambda: self._redis.get(self._prefix + key), None))

    def set(self, key: str, value: bytes, ttl: float) -> None:
        if ttl <= 0:
            return self.delete(key)
        return self._try(lambda: _done(self._redis.set(self._prefix + key, value, px=_milliseconds(ttl))), None)

    def add(self, key: str, value: bytes, ttl: float) -> bool:
        if ttl <= 0:
            return False
        return self._try(
            lambda: bool(self._redis.set(self._prefix + key, value, px=_milliseconds(ttl), nx=True)), False
        )

    def raise_to(self, key: str, number: int, ttl: float) -> None:
        if not self._try(lambda: self._raised(key, number, ttl), False):
            with self._lock:
                if key in self._missed or len(self._missed) < _MAX_MISSED:
                    self._missed[key] = max(number, self._missed.get(key, (number, ttl))[0]), ttl

    def delete(self, key: str) -> None:
        self._try(lambda: _done(self._redis.delete(self._prefix + key)), None)

    def check(self) -> None:
        """Return if values are kept now. Raises Unavailable within two seconds."""
        try:
            self._redis.ping()
        except (RedisError, OSError) as error:
            self._outage.failed(error)
            raise Unavailable("Redis does not answer.") from None
        self._answered()

    def version(self) -> str | None:
        """Of the server; None where it does not tell."""
        try:
            return str(self._redis.info("server")["redis_version"])
        except (RedisError, OSError, KeyError):
            return None

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
        self._redis.connection_pool.disconnect()

    def _try(self, call: Callable[[], T], otherwise: T) -> T:
        if not self._outage.may_try():
            return otherwise
        try:
            answer = call()
        except (RedisError, OSError) as error:
            self._outage.failed(error)
            return otherwise
        self._answered()
        return answer

    def _answered(self) -> None:
        if self._outage.succeeded():
            with self._lock:
                missed, self._missed = self._missed, {}
            for key, (number, ttl) in missed.items():
                self.raise_to(key, number, ttl)

    def _raised(self, key: str, number: int, ttl: float) -> bool:
        self._raise(keys=[self._prefix + key], args=[number, _milliseconds(ttl)])
        return True


def _done(_answer: Any) -> None:
    return None


def _milliseconds(ttl: float) -> int:
    return max(1, int(ttl * 1000 * random.uniform(0.9, 1)))  # noqa: S311 - no secret
