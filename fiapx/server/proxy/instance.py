"""One process of a service, at one address."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import httpcore
import structlog

from fiapx.core.breaker import Breaker, State
from fiapx.core.errors import Unavailable
from fiapx.core.tracing import Attributes
from fiapx.server.proxy.headers import go_on_with_trace
from fiapx.server.proxy.outgoing import Outgoing

log = structlog.get_logger(__name__)

_GATEWAY_ERRORS: Final = frozenset({502, 503, 504})
_MAX_REPORT: Final = 256 * 1024


class Instance:
    """Sends requests to one address, and stops when they fail in a row, until a probe is answered."""

    def __init__(
        self, url: str, pool: httpcore.AsyncConnectionPool, breaker: Breaker, probe: str, every: float
    ) -> None:
        self.url, self.breaker = url, breaker
        self._base = httpcore.URL(url)
        self._pool, self._probe, self._every = pool, probe, every
        self._probing: asyncio.Task[None] | None = None

    @property
    def place(self) -> Attributes:
        """Where it is, for traces."""
        origin = self._base.origin
        return {"server.address": origin.host.decode(), "server.port": origin.port}

    async def send(self, request: Outgoing, timeouts: dict[str, float | None]) -> httpcore.Response:
        """The answer, as soon as its head is here; the caller closes it. Its outcome counts for the breaker.

        Only call it where the breaker has admitted the request. Raises what httpcore raises.
        """
        sent = httpcore.Request(
            request.method,
            self._at(request.target),
            headers=go_on_with_trace(request.headers),
            content=request.content,
            extensions={"timeout": timeouts},
        )
        try:
            response = await self._pool.handle_async_request(sent)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.RemoteProtocolError) as error:
            self._failed(repr(error))
            raise
        except BaseException:
            self.breaker.abandoned()
            raise
        if response.status in _GATEWAY_ERRORS and not _asks_to_wait(response):
            self._failed(f"status {response.status}")
        else:
            self.breaker.succeeded()
        response.extensions["timeouts"] = timeouts  # an event stream lifts its own
        return response

    async def report(self, path: str, timeout: float) -> dict[str, Any]:
        """The JSON object at a path, whatever the status. Raises Unavailable, which tells strangers no address."""
        try:
            async with asyncio.timeout(timeout):
                return await self._fetch(path)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, TimeoutError) as error:
            log.warning("upstream_health_unknown", instance=self.url, error=repr(error))
            raise Unavailable("The service does not answer.") from None
        except ValueError as error:
            log.warning("upstream_health_unknown", instance=self.url, error=repr(error))
            raise Unavailable("The service answers something else than expected.") from None

    async def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})

    async def _fetch(self, path: str) -> dict[str, Any]:
        async with self._pool.stream("GET", self._at(path.encode()), headers=[(b"host", self._host())]) as response:
            body = b""
            async for chunk in response.aiter_stream():
                body += chunk
                if len(body) > _MAX_REPORT:
                    raise ValueError("too large")
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ValueError("not an object")  # noqa: TRY004 - about the answer, not about our code
        return found

    def _failed(self, error: str) -> None:
        self.breaker.failed()
        log.warning("upstream_failed", instance=self.url, error=error, circuit=self.breaker.state.name.lower())
        if self.breaker.state is State.OPEN and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._wait_until_back())

    async def _wait_until_back(self) -> None:
        while self.breaker.state is State.OPEN:
            await asyncio.sleep(self._every)
            if await self._answers():
                self.breaker.probed()
                log.info("upstream_answers_again", instance=self.url)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(max(1.0, self._every)):
                response = await self._pool.request(
                    "GET", self._at(self._probe.encode()), headers=[(b"host", self._host())]
                )
        except Exception:  # noqa: BLE001 - whatever it is, nobody else looks whether it is back
            return False
        return response.status < 500

    def _at(self, target: bytes) -> httpcore.URL:
        return httpcore.URL(scheme=self._base.scheme, host=self._base.host, port=self._base.port, target=target)

    def _host(self) -> bytes:
        host = b"[" + self._base.host + b"]" if b":" in self._base.host else self._base.host
        return host + b":%d" % self._base.port if self._base.port else host


def _asks_to_wait(response: httpcore.Response) -> bool:
    return any(name.lower() == b"retry-after" for name, _ in response.headers)
