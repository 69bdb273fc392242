"""Answers kept in a cache beside what they come from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

from prometheus_client import CollectorRegistry, Counter

from fiapx.core.ports import Cache


class CacheAside:
    """Finds answers in the cache, or loads and keeps them. Of several callers who miss the same, one loads for all.

    Counts hits and misses by the name of what is asked for, in `registry`.
    """

    def __init__(self, cache: Cache, registry: CollectorRegistry | None = None) -> None:
        self._cache = cache
        self._lock = Lock()
        self._loading: dict[str, Future[bytes]] = {}
        registry = registry or CollectorRegistry()
        self._hits = Counter("fiapx_cache_hits", "Answers that the cache had.", ["cache"], registry=registry)
        self._misses = Counter("fiapx_cache_misses", "Answers that had to be loaded.", ["cache"], registry=registry)

    def get(self, name: str, key: str, ttl: float, load: Callable[[], bytes]) -> bytes:
        """The answer under `key`, at most `ttl` seconds old. Raises what `load` raises."""
        hits, misses = self._hits.labels(name), self._misses.labels(name)  # both are there from the first question on
        kept = self._cache.get(key) if ttl > 0 else None
        if kept is not None:
            hits.inc()
            return kept
        with self._lock:
            running = self._loading.get(key)
            if running is None:
                mine = self._loading[key] = Future()
        if running is not None:
            hits.inc()
            return running.result()
        misses.inc()
        return self._loaded(key, ttl, load, mine)

    def _loaded(self, key: str, ttl: float, load: Callable[[], bytes], mine: Future[bytes]) -> bytes:
        try:
            answer = load()
            self._cache.set(key, answer, ttl)
            mine.set_result(answer)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._loading[key]
        return answer
