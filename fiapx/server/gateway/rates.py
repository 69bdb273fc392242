"""How many requests a user, or an address without a log-in, may make."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import structlog
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, Storage
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Scope, Send

from fiapx.core.errors import RateLimited
from fiapx.core.ports import Identity
from fiapx.server.forwarded import client_address

log = structlog.get_logger(__name__)


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
        self._storage = storage or MemoryStorage()
        self._user, self._address = parse(user), parse(address)

    def count(self, scope: Scope, identity: Identity | None) -> Count | None:
        """Count a request; None where nobody could. Waits for the storage."""
        if identity is not None:
            return self._hit(self._user, self._user.key_for("user", identity.user_id))
        return self._hit(self._address, self._address.key_for("address", client_address(scope)))

    def _hit(self, item: RateLimitItem, key: str) -> Count | None:
        """As the fixed windows of `limits` count, but what is left follows from the count: one question less."""
        try:
            count = self._storage.incr(key, item.get_expiry())
            reset = self._storage.get_expiry(key)
        except Exception as error:  # noqa: BLE001 - drivers raise what they like, and a count is not worth an outage
            log.warning("rates_not_counted", error=repr(error))
            return None
        left = max(0, item.amount - count)
        return Count(count <= item.amount, item.amount, left, max(0, math.ceil(reset - time.time())))
