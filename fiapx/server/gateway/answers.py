"""Answers to one user's GETs that are kept: fresh ones save a request, and old ones bridge a failing service."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from prometheus_client import CollectorRegistry, Counter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from fiapx.core.errors import Unavailable
from fiapx.core.ports import Cache
from fiapx.server.gateway.gate import identity_of
from fiapx.server.gateway.recording import Answer, Recorder

_THREADS: Final = 16


_Promise = asyncio.Future[Answer | None]


@dataclass(frozen=True)
class _Keys:
    """Where an answer is kept: as long as it is `fresh`, if at all, and for times when the service does not work."""

    fresh: str | None
    stale: str


class CacheCounters:
    """How GETs were answered; for all services together."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "fiapx_gateway_cache_answers", "GETs by what the cache had for them", ["result"], registry=registry
        )

    def count(self, result: str) -> None:
        self._answers.labels(result).inc()


class Answers:
    """Stands before a service. JSON answers get an ETag, and 304 where the client has them already.

    A service allows an answer to be kept with ``Fiapx-Cache: <seconds>``. It is found again under the user, the user's
    version (``version:<user>`` in the cache, which every write raises), and the address; without a version nothing is
    kept. Of several requests for the same, one asks the service. Where the service does not work, the user's last good
    answer is told instead, with its age, if it is younger than `stale` seconds.
    """

    def __init__(self, app: ASGIApp, cache: Cache, counters: CacheCounters, stale: float) -> None:
        self._app, self._cache, self._counters, self._stale = app, cache, counters, stale
        self._threads = CapacityLimiter(_THREADS)
        self._loading: dict[str, _Promise] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        identity = identity_of(scope)
        if identity is None or scope["method"] != "GET" or "range" in Headers(scope=scope):
            await self._app(scope, receive, send)
            return
        keys = await self._keys(identity.user_id, scope)
        pending = self._loading.get(keys.fresh) if keys.fresh is not None else None
        found = await asyncio.shield(pending) if pending is not None else None
        if found is not None:
            await self._tell(found, "hit", scope, receive, send)
            return
        with self._promise(keys.fresh) as promise:
            await self._answer(keys, promise, scope, receive, send)

    async def _keys(self, user: str, scope: Scope) -> _Keys:
        address = hashlib.sha256(scope["path"].encode() + b"?" + scope["query_string"]).hexdigest()
        version = await self._get(f"version:{user}")
        fresh = f"answer:{user}:{version.decode('latin-1')}:{address}" if version else None
        return _Keys(fresh, f"stale:{user}:{address}")

    @contextmanager
    def _promise(self, key: str | None) -> Iterator[_Promise]:
        """Others who want the same wait for this. The cache is asked within, so that nobody asks in vain in between."""
        promise: _Promise = asyncio.get_running_loop().create_future()
        if key is not None:
            self._loading.setdefault(key, promise)
        try:
            yield promise
        finally:
            _fulfil(promise, None)
            if key is not None and self._loading.get(key) is promise:
                del self._loading[key]

    async def _answer(self, keys: _Keys, promise: _Promise, scope: Scope, receive: Receive, send: Send) -> None:
        kept = await self._get(keys.fresh) if keys.fresh is not None else None
        if kept is not None:
            found = Answer.loads(kept)
            _fulfil(promise, found)
            await self._tell(found, "hit", scope, receive, send)
            return
        recorder = Recorder(send, on_passing=lambda: _fulfil(promise, None))
        try:
            await self._app(scope, receive, recorder)
        except Unavailable:
            kept = None if recorder.started else await self._get(keys.stale)
            if kept is None:
                raise
            await self._tell(Answer.loads(kept), "stale", scope, receive, send)
            return
        if recorder.answer is not None:
            await run_sync(self._keep, recorder.answer, keys, limiter=self._threads)
            _fulfil(promise, recorder.answer if recorder.answer.may_be_kept else None)
            await self._tell(recorder.answer, "miss", scope, receive, send)

    def _keep(self, answer: Answer, keys: _Keys) -> None:
        if answer.status != 200:
            return
        kept = replace(answer, at=time.time()).dumps()
        self._cache.set(keys.stale, kept, self._stale)
        if keys.fresh is not None and answer.may_be_kept:
            self._cache.set(keys.fresh, kept, answer.ttl)

    async def _tell(self, answer: Answer, result: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._counters.count(result)
        await answer.response(Headers(scope=scope), result)(scope, receive, send)

    async def _get(self, key: str) -> bytes | None:
        return await run_sync(self._cache.get, key, limiter=self._threads)


def _fulfil(promise: _Promise, answer: Answer | None) -> None:
    if not promise.done():
        promise.set_result(answer)
