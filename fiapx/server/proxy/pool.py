"""The connections to services, none of which is lost. httpcore has a moment in which it loses one."""

from __future__ import annotations

from typing import Final

import httpcore

from fiapx.server.proxy.wire import EarlyAnswers

_KEEP_ALIVE: Final = 4.0
"""Seconds that an idle connection is kept: uvicorn closes them after five, and a request could meet that."""


class Pool(httpcore.AsyncConnectionPool):
    """As many connections as there are requests at a time."""

    def __init__(self) -> None:
        super().__init__(max_connections=None, keepalive_expiry=_KEEP_ALIVE, network_backend=EarlyAnswers())

    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        return _Connection(origin, keepalive_expiry=_KEEP_ALIVE, network_backend=EarlyAnswers())


class _Connection(httpcore.AsyncHTTPConnection):
    """Where a request is cancelled between the making of its connection and the first use, httpcore would keep that as
    one that is about to be used, for ever."""

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        try:
            return await super().handle_async_request(request)
        except httpcore.ConnectionNotAvailable:  # it is another request's
            raise
        except BaseException:
            if not self.is_idle() and not self.is_closed():
                await self.aclose()
            raise
