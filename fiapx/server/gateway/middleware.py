"""What every request passes. Plain ASGI, so that bodies and answers stream through untouched."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import MutableMapping
from typing import Any, Final

import structlog
from asgi_correlation_id import correlation_id
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fiapx.core.errors import FiapxError, Unavailable
from fiapx.server.forwarded import client_address
from fiapx.server.gateway.recording import MARK
from fiapx.server.gateway.routes import Routes
from fiapx.server.http import PROBES, error_response, problem

log = structlog.get_logger(__name__)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HSTS: Final = "max-age=31536000; includeSubDomains"
_LEFT: Final = 499
"""Status in the log when the client left before an answer began (nginx's convention)."""


def valid_request_id(value: str) -> bool:
    """Whether a client's X-Request-ID may be used: short, and harmless in logs and headers."""
    return _REQUEST_ID.fullmatch(value) is not None


class RequestLog:
    """One line a request, and its id on every line that is logged meanwhile. Never query strings or headers."""

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        self._app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, path = time.perf_counter(), scope["path"]
        status, size = _LEFT, 0

        async def watch(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=correlation_id.get()):
            try:
                await self._app(scope, receive, watch)
            finally:
                milliseconds = round((time.perf_counter() - started) * 1000, 1)
                write = log.debug if path.startswith(PROBES) else log.info
                facts = {"client": client_address(scope), "method": scope["method"], "path": path[:300]}
                where = self._routes.describe(path)
                write("request", **facts, **where, status=status, ms=milliseconds, bytes=size)


class SecurityHeaders:
    """Headers for browsers, where the answer has not set its own. Nothing that services tell the gateway alone, unless
    this is one of those, `behind` a gateway.

    With `https`, browsers are told to come by nothing else.
    """

    def __init__(self, app: ASGIApp, https: bool = False, behind: bool = False) -> None:
        self._app = app
        self._https = https
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if not self._behind:
                    del headers[MARK]
                _harden(headers)
                if self._https:
                    headers.setdefault("Strict-Transport-Security", _HSTS)
            await send(message)

        await self._app(scope, receive, add if scope["type"] == "http" else send)


def _harden(headers: MutableHeaders) -> None:
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("X-Frame-Options", "DENY")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    is_json = headers.get("content-type", "").startswith(("application/json", "application/problem+json"))
    if is_json and MARK not in headers:
        headers.setdefault("Cache-Control", "no-store")


class HttpsOnly:
    """Refuses what a proxy in front took by plain HTTP: a token in it is no secret any more. Requests that no proxy
    speaks of, such as an orchestrator's probes, are nobody's who could be listened to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plain = scope["type"] == "http" and scope["scheme"] == "http"
        if plain and "x-forwarded-proto" in Headers(scope=scope):
            refusal = problem(403, "https_required", "This server is reached by HTTPS alone.")
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)


class Drain:
    """Refuses new requests once the server is shutting down; health stays readable."""

    def __init__(self, app: ASGIApp, draining: threading.Event) -> None:
        self._app = app
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._draining.is_set() or scope["path"].startswith(PROBES):
            await self._app(scope, receive, send)
            return
        response = error_response(Unavailable("The server is shutting down; try again in a moment."))
        response.headers["Connection"] = "close"
        response.headers["Retry-After"] = "1"  # a restart is short, and a server behind the same address may be up
        await response(scope, receive, send)


class ErrorBoundary:
    """The last stop of errors. A mounted app answers and logs its own, and raises them again all the same."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen: MutableMapping[str, Any] = {}

        async def watch(message: Message) -> None:
            seen.update(message)
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            if not seen:
                log.exception("unexpected_error", path=scope["path"])
                await error_response(FiapxError())(scope, receive, send)
            elif seen["type"] != "http.response.body" or seen.get("more_body", False):
                log.warning("answer_cut_short", path=scope["path"], error=repr(error))  # the server closes it
