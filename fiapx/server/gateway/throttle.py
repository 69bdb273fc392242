"""Uploads of one user take turns, and share a bandwidth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fiapx.core.errors import RateLimited
from fiapx.server.gateway.body import MAX_BODY
from fiapx.server.gateway.gate import identity_of
from fiapx.server.http import error_response
from fiapx.server.proxy.headers import body_size


class Throttle:
    """At most `parallel` large bodies of a user at a time: a further one waits for its turn, up to `patience` seconds,
    and then gets 429. Together they get `bandwidth` bytes a second, or what there is if that is 0."""

    def __init__(self, app: ASGIApp, parallel: int, patience: float, bandwidth: int) -> None:
        self._app = app
        self._parallel, self._patience, self._bandwidth = parallel, patience, bandwidth
        self._lanes: dict[str, _Lane] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        identity = identity_of(scope)
        if scope["type"] != "http" or identity is None or not _is_large(scope):
            await self._app(scope, receive, send)
            return
        async with self._lane(identity.user_id) as lane:
            if not await lane.turn(self._patience):
                refusal = RateLimited("Too many uploads at a time; wait for the others.", retry_after=10)
                await error_response(refusal)(scope, receive, send)
                return
            try:
                await self._app(scope, lane.paced(receive, self._bandwidth), send)
            finally:
                lane.turns.release()

    @asynccontextmanager
    async def _lane(self, user: str) -> AsyncIterator[_Lane]:
        """A user's lane, for as long as somebody is on it."""
        lane = self._lanes.setdefault(user, _Lane(self._parallel))
        lane.used_by += 1
        try:
            yield lane
        finally:
            lane.used_by -= 1
            if not lane.used_by:
                del self._lanes[user]


class _Lane:
    """The uploads of one user."""

    def __init__(self, parallel: int) -> None:
        self.turns = asyncio.Semaphore(parallel)
        self.used_by = 0
        self._free_at = 0.0

    async def turn(self, patience: float) -> bool:
        try:
            async with asyncio.timeout(patience):
                return await self.turns.acquire()
        except TimeoutError:
            return False

    def paced(self, receive: Receive, bandwidth: int) -> Receive:
        """Each part delays the next one by the time that it may take, and nothing is read meanwhile."""
        if not bandwidth:
            return receive

        async def receive_slowly() -> Message:
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(self._free_at - now)
            message = await receive()
            now = asyncio.get_running_loop().time()
            self._free_at = max(self._free_at, now) + len(message.get("body", b"")) / bandwidth
            return message

        return receive_slowly


def _is_large(scope: Scope) -> bool:
    size = body_size(scope)
    return size is None or size > MAX_BODY
