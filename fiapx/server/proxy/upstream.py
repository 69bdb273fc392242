"""A service behind the gateway: its instances, which of them is asked, and what happens when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

import httpcore
from opentelemetry.trace import SpanKind

from fiapx.core.breaker import Breaker, State
from fiapx.core.errors import Unavailable, UsageError
from fiapx.core.tracing import span
from fiapx.server.proxy.bulkhead import Bulkhead
from fiapx.server.proxy.instance import Instance
from fiapx.server.proxy.outgoing import Outgoing
from fiapx.server.proxy.pool import Pool

_TRANSPORT: Final = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.RemoteProtocolError)


class CircuitOpen(Unavailable):
    """The service does not work at the moment; try again in a moment."""

    retry_after = 2


class Upstream:
    """A service at one or more URLs, asked in turn. Use it as an asynchronous context manager.

    `connect_timeout` and `header_timeout` are seconds; the latter bounds the silence before the head of the answer, and
    between two parts of it. At most `bulkhead` requests wait for an answer at a time, and `uploads` send a large body;
    another one waits up to `patience` seconds for its turn.
    An instance is left alone after `eject_after` failures in a row, and probed every `probe_interval` seconds.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        *,
        connect_timeout: float = 1,
        header_timeout: float = 30,
        bulkhead: int = 64,
        uploads: int = 256,
        patience: float = 1,
        eject_after: int = 3,
        probe_interval: float = 1,
        probe_path: str = "/api/v1/health/live",
        health_path: str = "/api/v1/health/all",
    ) -> None:
        self.name, self.health_path = name, health_path
        self._pool = Pool()
        self.instances = tuple(
            Instance(url, self._pool, Breaker(eject_after), probe_path, probe_interval) for url in urls
        )
        self._timeouts = {
            "connect": connect_timeout, "read": header_timeout, "write": header_timeout, "pool": connect_timeout
        }  # fmt: skip
        self.waiting = Bulkhead(bulkhead, patience)
        self.sending = Bulkhead(uploads, patience)
        self._turn = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for instance in self.instances:
            await instance.close()
        await self._pool.aclose()

    @property
    def state(self) -> State:
        """Of all instances together: the best of them."""
        states = {instance.breaker.state for instance in self.instances}
        return next((state for state in (State.CLOSED, State.HALF_OPEN) if state in states), State.OPEN)

    @asynccontextmanager
    async def send(self, request: Outgoing) -> AsyncIterator[httpcore.Response]:
        """The answer, from its head on. It holds no slot then, so slow readers and event streams cost others nothing.

        Raises CircuitOpen, Overloaded, Unavailable (no instance answered), UsageError (nothing that can be sent on).
        """
        async with (self.sending if request.large else self.waiting).slot():
            response = await self._ask(request)
        try:
            yield response
        finally:
            await _close(response)

    async def _ask(self, request: Outgoing) -> httpcore.Response:
        """Once, and once more elsewhere, if that changes nothing but the answer."""
        first = self._choose()
        try:
            response = await self._try(first, request)
        except _TRANSPORT as error:
            other = self._other(first) if request.safe or request.untouched_by(error) else None
            if other is None:
                raise _unavailable(error) from error
            return await self._last_try(other, request)
        other = self._other(first) if response.status == 503 and request.safe else None  # it may be shutting down
        if other is None:
            return response
        try:
            return await self._last_try(other, request)
        finally:
            await _close(response)

    async def _last_try(self, instance: Instance, request: Outgoing) -> httpcore.Response:
        try:
            return await self._try(instance, request)
        except _TRANSPORT as error:
            raise _unavailable(error) from error

    async def _try(self, instance: Instance, request: Outgoing) -> httpcore.Response:
        about = {"http.request.method": request.method, "service.peer.name": self.name, **instance.place}
        with span(f"{request.method} {self.name}", about, kind=SpanKind.CLIENT) as asking:
            try:
                response = await instance.send(request, dict(self._timeouts))
            except httpcore.LocalProtocolError:
                raise UsageError("The request cannot be sent on.") from None
            asking.set_attribute("http.response.status_code", response.status)
            return response

    def _choose(self, passed_over: Instance | None = None) -> Instance:
        for _ in self.instances:
            self._turn += 1
            instance = self.instances[self._turn % len(self.instances)]
            if instance is not passed_over and instance.breaker.admit():
                return instance
        raise CircuitOpen

    def _other(self, first: Instance) -> Instance | None:
        try:
            return self._choose(passed_over=first)
        except CircuitOpen:
            return None


async def _close(response: httpcore.Response) -> None:
    """Even while being cancelled: httpcore, interrupted here, would hold the connection for ever."""
    await asyncio.shield(asyncio.create_task(response.aclose()))


def _unavailable(error: Exception) -> Unavailable:
    silent = isinstance(error, httpcore.TimeoutException)
    return Unavailable("The service did not answer in time." if silent else "The service cannot be reached.")
