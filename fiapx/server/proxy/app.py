"""The ASGI app that stands for a service elsewhere. Bodies stream both ways, as fast as the slower side takes them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Final

import httpcore
from starlette.types import Receive, Scope, Send

from fiapx.core.errors import Unavailable
from fiapx.server.proxy.headers import body_size, for_client, for_service
from fiapx.server.proxy.outgoing import Outgoing
from fiapx.server.proxy.upstream import Upstream

_LARGE: Final = 1024 * 1024
_TICK: Final = 0.2
_EVENTS: Final = b"text/event-stream"


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


class Proxy:
    """Mount it like a local service.

    An answer that cannot be completed cuts the connection. Where the client leaves, the service's request is cancelled.
    Event streams end once `draining` is set.
    """

    def __init__(self, upstream: Upstream, draining: threading.Event | None = None) -> None:
        self.upstream = upstream
        self._draining = draining or threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(scope, receive)
        work = asyncio.create_task(self._forward(scope, body, send))
        leaving = asyncio.create_task(body.client_left())
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
        except ClientLeft:
            return
        finally:
            work.cancel()
            leaving.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)

    async def _forward(self, scope: Scope, body: _Body, send: Send) -> None:
        content = body if body_size(scope) != 0 else None
        request = Outgoing(scope["method"], _target(scope), for_service(scope), content)
        async with self.upstream.send(request) as answer:
            headers = for_client(answer.headers)
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            if any(name == b"content-type" and value.startswith(_EVENTS) for name, value in headers):
                await self._stream_events(answer, send)
            else:
                await _stream(answer, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream_events(self, answer: httpcore.Response, send: Send) -> None:
        """Silence is no failure here, and the end of the server is an end like others."""
        _lift_read_timeout(answer)
        streaming = asyncio.create_task(_stream(answer, send))
        try:
            while not streaming.done() and not self._draining.is_set():
                await asyncio.wait({streaming}, timeout=_TICK)
            if streaming.done():
                await streaming
        finally:
            streaming.cancel()
            await asyncio.gather(streaming, return_exceptions=True)


class _Body:
    """A client's request body."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        size = body_size(scope)
        self.large = size is None or size > _LARGE
        self.started = False
        self._receive = receive
        self._complete = asyncio.Event()
        if size == 0:
            self._complete.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.started = True
        while not self._complete.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            if not message.get("more_body", False):
                self._complete.set()
            if chunk := message.get("body", b""):
                yield chunk

    async def client_left(self) -> None:
        """Return when the client has left, which can be seen once its body is over."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            continue


async def _stream(answer: httpcore.Response, send: Send) -> None:
    try:
        async for chunk in answer.aiter_stream():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.RemoteProtocolError) as error:
        raise Unavailable("The service broke off its answer.") from error


def _lift_read_timeout(answer: httpcore.Response) -> None:
    """httpcore reads the timeouts of a request again when it begins with the body."""
    answer.extensions["timeouts"]["read"] = None


def _target(scope: Scope) -> bytes:
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path
