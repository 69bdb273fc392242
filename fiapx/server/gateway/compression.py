"""Compresses text on its way out, for clients that take it. Pictures, ZIPs and event streams are left alone."""

from __future__ import annotations

import math
import re
import zlib
from importlib import import_module
from typing import Any, Final, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def _installed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


_brotli: Final = _installed("brotli")

SMALLEST: Final = 1024
"""Bytes below which compression saves nothing."""

_NOT_TAKEN: Final = re.compile(r"q\s*=\s*0(\.0*)?")

_TYPES: Final = (
    "application/json",
    "application/problem+json",
    "application/javascript",
    "application/manifest+json",
    "image/svg+xml",
    "text/css",
    "text/html",
    "text/javascript",
    "text/plain",
)


class _Encoder(Protocol):
    def encode(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def encode(self, data: bytes) -> bytes:
        return self._stream.compress(data)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Brotli:
    def __init__(self) -> None:
        self._stream: Any = _brotli.Compressor(quality=4)

    def encode(self, data: bytes) -> bytes:
        return bytes(self._stream.process(data))

    def finish(self) -> bytes:
        return bytes(self._stream.finish())


class Compression:
    """``br`` where that is possible, else ``gzip``; ``Vary`` tells caches in between."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = _Compressed(send, _chosen(Headers(scope=scope).get("accept-encoding", "")), scope["method"])
        await self._app(scope, receive, send)


class _Compressed:
    """One answer's `send`. The head waits for the first part of the body, which tells whether there is more."""

    def __init__(self, send: Send, encoding: str | None, method: str) -> None:
        self._send, self._encoding, self._method = send, encoding, method
        self._start: Message | None = None
        self._encoder: _Encoder | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if _is_text(message):
                MutableHeaders(scope=message).add_vary_header("Accept-Encoding")
                if self._encoding is not None and self._method != "HEAD":
                    self._start = message
                    return
        elif message["type"] == "http.response.body":
            message = await self._body(message)
        await self._send(message)

    async def _body(self, message: Message) -> Message:
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._start is not None:
            start, self._start = self._start, None
            if _size(start, body, more) >= SMALLEST:
                self._encode(start)
            await self._send(start)
        if self._encoder is None:
            return message
        encoded = self._encoder.encode(body) + (b"" if more else self._encoder.finish())
        return {**message, "body": encoded}

    def _encode(self, start: Message) -> None:
        assert self._encoding is not None
        headers = MutableHeaders(scope=start)
        headers["Content-Encoding"] = self._encoding
        del headers["Content-Length"]
        etag = headers.get("etag", "W/")
        if not etag.startswith("W/"):
            headers["ETag"] = f"W/{etag}"
        self._encoder = _Brotli() if self._encoding == "br" else _Gzip()


def _is_text(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    whole = start["status"] not in {204, 206, 304} and "content-encoding" not in headers
    return whole and kind in _TYPES and "no-transform" not in headers.get("cache-control", "")


def _size(start: Message, body: bytes, more: bool) -> float:
    declared = Headers(raw=start["headers"]).get("content-length", "")
    if declared.isdigit():
        return int(declared)
    return math.inf if more else len(body)


def _chosen(accepted: str) -> str | None:
    """The better one of those that a client takes; a weight of 0 means that it does not."""
    taken = set()
    for word in accepted.lower().split(","):
        name, _, weight = word.partition(";")
        if _NOT_TAKEN.fullmatch(weight.strip()) is None:
            taken.add(name.strip())
    if "br" in taken and _brotli is not None:
        return "br"
    return "gzip" if taken & {"gzip", "*"} else None
