"""Connections that notice an answer while the request is still being sent. httpcore reads only after it has written."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, cast

import httpcore

_HELD: Final = 64 * 1024
"""Bytes of an answer that may wait for their reader, before the other side has to wait as well."""
_SENDING: Final = 256 * 1024
"""Bytes that may be on their way out while the next ones come in."""
_GO_AHEAD: Final = b"HTTP/1.1 100"
_HEAD_END: Final = b"\r\n\r\n"
_EXPECTS: Final = b"\r\nexpect: 100-continue\r\n"
_EXPECT_SECONDS: Final = 1.0
"""A server may ignore an expectation, so one does not wait for its go-ahead for long."""


class EarlyAnswers(httpcore.AsyncNetworkBackend):
    """A network backend of httpcore. An early answer ends the sending, and is then read like any other."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        local = None if local_address is None else (local_address, 0)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, wire = await loop.create_connection(_Wire, host, port, local_addr=local)
        except TimeoutError:
            raise httpcore.ConnectTimeout from None
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        for option in socket_options or ():
            wire.get_extra_info("socket").setsockopt(*option)
        return wire

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Wire(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection, used by one task at a time.

    The first write after a read is a request's head; what follows is its body, and then answers are possible.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived = bytearray()
        self._over = self._full = self._head_sent = False
        self._error: Exception | None = None
        self._news: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_SENDING)
        with suppress(OSError, AttributeError):  # no TCP
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        if len(self._arrived) >= _HELD:
            self._transport.pause_reading()
        self._tell()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._tell()

    def eof_received(self) -> None:
        self._over = True
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        self._error, self._over, self._full = exc, True, False
        self._tell()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._head_sent = False
        try:
            while not self._arrived and not self._over:
                await self._change(timeout)
        except TimeoutError:
            raise httpcore.ReadTimeout from None
        if self._error is not None and not self._arrived:  # not an end, by which an answer may be known to be complete
            raise httpcore.ReadError(str(self._error)) from self._error
        data = bytes(memoryview(self._arrived)[:max_bytes])
        del self._arrived[:max_bytes]
        if len(self._arrived) < _HELD and not self._over and not self._transport.is_reading():
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        expects = not self._head_sent and _EXPECTS in buffer.lower()
        self._require_silence()
        self._head_sent = True
        self._transport.write(buffer)
        try:
            while self._full:
                await self._change(timeout)
                self._require_silence()
        except TimeoutError:
            raise httpcore.WriteTimeout from None
        if expects:
            with suppress(TimeoutError):
                await self._change(_EXPECT_SECONDS)
            self._require_silence()

    async def aclose(self) -> None:
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # it would be sent first, for as long as that takes
        self._transport.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                transport = await self._loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError:
            raise httpcore.ConnectTimeout from None
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        self.connection_made(cast("asyncio.Transport", transport))
        return self

    def get_extra_info(self, info: str) -> Any:
        """`is_readable` tells that an idle connection is of no use any more."""
        if info == "is_readable":
            return bool(self._arrived) or self._over or self._transport.is_closing() or self._pending()
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._transport.get_extra_info(names.get(info, info))

    def _pending(self) -> bool:
        """Whether something has come that the event loop has not taken yet, such as the end."""
        poll = select.poll()
        poll.register(self.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _require_silence(self) -> None:
        """Raises WriteError where nothing more is to be sent. A go-ahead is no answer."""
        if self._arrived.startswith(_GO_AHEAD):
            _, end, rest = self._arrived.partition(_HEAD_END)
            if not end:  # the rest of it is on its way
                return
            self._arrived = rest
        if self._arrived or self._over:
            raise httpcore.WriteError("answered early" if self._arrived else "closed by the other side")

    async def _change(self, timeout: float | None) -> None:
        """Wait for bytes, for room, or for the end. Raises TimeoutError."""
        self._news = self._loop.create_future()
        try:
            async with asyncio.timeout(timeout):
                await self._news
        finally:
            self._news = None

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
