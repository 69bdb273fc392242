"""How many requests a user, or an address without a log-in, may make."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final

import structlog
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Scope, Send

from fiapx.core.errors import RateLimited
from fiapx.core.ports import Identity
from fiapx.server.forwarded import client_address

log = structlog.get_logger(__name__)

_THREADS: Final = 16


@dataclass(frozen=True)
class Count:
    """Where a caller stands. `reset` is in seconds from now."""

    allowed: bool
    limit: int
    remaining: int
    reset: int

    def refusal(self) -> RateLimited:
        return RateLimited(retry_after=max(1, self.reset))

    def announced(self, send: Send) -> Send:
        """A `send` that tells the client."""

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["RateLimit-Limit"] = str(self.limit)
                headers["RateLimit-Remaining"] = str(self.remaining)
                headers["RateLimit-Reset"] = str(self.reset)
            await send(message)

        return tell


class Rates:
    """Counts in `storage`, which all gateways may share. Where it cannot be reached, nobody is refused."""

    def __init__(self, user: str, address: str, storage: Storage | None = None) -> None:
        """Rates as in ``600/minute``."""
        self._limiter = FixedWindowRateLimiter(storage or MemoryStorage())
        self._user, self._address = parse(user), parse(address)
        self._threads = CapacityLimiter(_THREADS)

    async def count(self, scope: Scope, identity: Identity | None) -> Count | None:
        """Count a request; None where nobody could."""
        item, names = self._address, ("address", client_address(scope))
        if identity is not None:
            item, names = self._user, ("user", identity.user_id)
        return await run_sync(self._hit, item, names, limiter=self._threads)

    def _hit(self, item: RateLimitItem, names: tuple[str, str]) -> Count | None:
        try:
            allowed = self._limiter.hit(item, *names)
            reset, remaining = self._limiter.get_window_stats(item, *names)
        except Exception as error:  # noqa: BLE001 - drivers raise what they like, and a count is not worth an outage
            log.warning("rates_not_counted", error=repr(error))
            return None
        return Count(allowed, item.amount, max(0, remaining), max(0, math.ceil(reset - time.time())))
