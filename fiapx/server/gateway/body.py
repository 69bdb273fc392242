"""Guards request bodies: against silence, against size, and against answers lost to an early one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fiapx.core.errors import PayloadTooLarge
from fiapx.server.http import error_response, problem

MAX_BODY: Final = 1024 * 1024
"""Bytes of a body that is parsed in memory: everything but uploads."""

_PROGRESS: Final = 64 * 1024
"""Bytes that set the clock back to zero. One byte a second does not."""

_DRAIN_BYTES: Final = 1024**3
_DRAIN_SECONDS: Final = 30.0
_DRAIN_IDLE: Final = 3.0
_SMALL: Final = 64 * 1024
"""A rest of a body that is worth reading to keep the connection."""

_UPLOADING: Final = ("POST", "PATCH")
_PARSED: Final = ("application/json", "application/x-www-form-urlencoded")
_DISCONNECT: Final[Message] = {"type": "http.disconnect"}


class BodyGuard:
    """Answers 408 when a client stalls in the middle of a body, and 413 when a parsed body is too large.

    POSTs and PATCHes to the paths `uploads`, and right below them, stream bodies of any size, unless the content is
    JSON or a form, and limit them themselves. When an answer is ready before the body is over, the rest is read and
    dropped, within bounds: many clients write all of a body before they read, and closing on them would destroy the
    answer.
    """

    def __init__(self, app: ASGIApp, timeout: float, uploads: Collection[str]) -> None:
        self._app = app
        self._timeout = timeout
        self._uploads = frozenset(uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._timeout, self._limit(scope))
        if exchange.declared_too_large():
            await exchange.refuse(_too_large())
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            if not exchange.refused:
                raise

    def _limit(self, scope: Scope) -> int | None:
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        path = scope["path"]
        upload = scope["method"] in _UPLOADING and not self._uploads.isdisjoint({path, path.rpartition("/")[0]})
        streamed = upload and kind not in _PARSED and not kind.endswith("+json")
        return None if streamed else MAX_BODY


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, timeout: float, limit: int | None) -> None:
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        self._scope, self._receive, self._send = scope, receive, send
        self._timeout, self._limit = timeout, limit
        self._declared = int(declared) if declared.isascii() and declared.isdigit() else None
        self._complete = not self._declared and "transfer-encoding" not in headers
        self._waits_for_100 = headers.get("expect", "").lower() == "100-continue"
        self._received = 0
        self._waited = 0.0
        self._progress = 0
        self._started = False
        self.refused = False

    def declared_too_large(self) -> bool:
        return self._limit is not None and (self._declared or 0) > self._limit

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        if self.refused:
            return _DISCONNECT
        try:
            async with asyncio.timeout(self._timeout - self._waited):
                message = await self._next()
        except TimeoutError:
            await self.refuse(_too_slow(), drain=False)
            return _DISCONNECT
        if self._limit is not None and self._received > self._limit:
            await self.refuse(_too_large())
            return _DISCONNECT
        return message

    async def send(self, message: Message) -> None:
        if self.refused:
            return
        if message["type"] == "http.response.start":
            self._started = True
            if not self._complete and not self._little_left():
                MutableHeaders(scope=message)["Connection"] = "close"
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if ends and not self._complete:
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def refuse(self, response: Response, *, drain: bool = True) -> None:
        """Take over: answer, close, and ignore whatever the app may still say."""
        if not self._started:
            response.headers["Connection"] = "close"
            self._complete = self._complete or not drain
            await response(self._scope, self._receive, self.send)
        self.refused = True

    async def _next(self) -> Message:
        """The next part of the body; only time spent waiting for the client counts against it."""
        started = time.monotonic()
        message = await self._receive()
        size = len(message.get("body", b""))
        self._received += size
        self._waited += time.monotonic() - started
        self._progress += size
        if self._progress >= _PROGRESS:
            self._waited, self._progress = 0.0, 0
        self._complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def _drain(self) -> None:
        bound = self._received + _DRAIN_BYTES
        deadline = time.monotonic() + _DRAIN_SECONDS
        try:
            while not self._complete and self._received < bound and time.monotonic() < deadline:
                async with asyncio.timeout(_DRAIN_IDLE):
                    await self._next()
        except TimeoutError:
            return

    def _little_left(self) -> bool:
        unsent = self._waits_for_100 and not self._received
        return not unsent and self._declared is not None and self._declared - self._received <= _SMALL


def _too_large() -> Response:
    return error_response(PayloadTooLarge(f"The request body may have at most {MAX_BODY} bytes."))


def _too_slow() -> Response:
    return problem(408, "request_timeout", "The request body took too long to arrive.")
