"""Connections that notice an answer while the request is still being sent. httpcore reads only after it has written."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, Final

import httpcore

_READ: Final = 64 * 1024
_GO_AHEAD: Final = b"HTTP/1.1 100"
_EXPECTS: Final = b"\r\nexpect: 100-continue\r\n"
_EXPECT_SECONDS: Final = 1.0
"""A server may ignore an expectation, so one does not wait for its go-ahead for long."""


class EarlyAnswers(httpcore.AsyncNetworkBackend):
    """A network backend of httpcore. An early answer ends the sending, and is then read like any other."""

    def __init__(self) -> None:
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._backend.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """The first write after a read is a request's head; what follows is its body, and then answers are possible."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._head_sent = False
        self._answer: asyncio.Task[bytes] | None = None
        self._unread = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._head_sent = False
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        if self._answer is None:
            return await self._stream.read(max_bytes, timeout)
        try:
            async with asyncio.timeout(timeout):
                return await self._answer
        except TimeoutError:
            raise httpcore.ReadTimeout from None
        finally:
            self._answer = None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        if not self._head_sent:
            self._head_sent = True
            await self._stream.write(buffer, timeout)
            if _EXPECTS in buffer.lower():
                await self._go_ahead()
            return
        sending = asyncio.create_task(self._stream.write(buffer, timeout))
        try:
            await asyncio.wait({sending, self._reading()}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                raise httpcore.WriteError("answered early")
            await sending
        finally:
            sending.cancel()

    async def aclose(self) -> None:
        if self._answer is not None:
            self._answer.cancel()
            await asyncio.gather(self._answer, return_exceptions=True)
            self._answer = None
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    async def _go_ahead(self) -> None:
        await asyncio.wait({self._reading()}, timeout=_EXPECT_SECONDS)
        if self._answer is None or not self._answer.done():
            return
        data = await self._answer
        self._answer = None
        if not data.startswith(_GO_AHEAD):
            self._unread = data
            raise httpcore.WriteError("answered early")
        self._unread = data.partition(b"\r\n\r\n")[2]

    def _reading(self) -> asyncio.Task[bytes]:
        if self._answer is None:
            self._answer = asyncio.create_task(self._stream.read(_READ))
        return self._answer
