"""How often somebody may get a password wrong."""

from __future__ import annotations

import math
import time
from typing import Final

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter

from fiapx.core.errors import RateLimited

_ADDRESS_FACTOR: Final = 10


class LoginLimiter:
    """Counts failed log-ins of an account from an address, and of the address over all accounts (ten times as many).

    Counting the pair keeps the owner, at another address, from being locked out by an attacker.
    """

    def __init__(self, rate: str, storage: Storage | None = None) -> None:
        """`rate` as in ``10/minute``."""
        self._limiter = FixedWindowRateLimiter(storage or MemoryStorage())
        self._pair = parse(rate)
        self._address = type(self._pair)(self._pair.amount * _ADDRESS_FACTOR, self._pair.multiples, "ADDRESS")

    def check(self, account: str, address: str) -> None:
        """Raises RateLimited, with the seconds to wait, when either count is used up."""
        for item, names in self._counts(account, address):
            if not self._limiter.test(item, *names):
                reset = self._limiter.get_window_stats(item, *names).reset_time
                raise RateLimited(
                    "Too many failed log-ins; try again later.", retry_after=max(1, math.ceil(reset - time.time()))
                )

    def failed(self, account: str, address: str) -> None:
        """Count a failed log-in."""
        for item, names in self._counts(account, address):
            self._limiter.hit(item, *names)

    def _counts(self, account: str, address: str) -> list[tuple[RateLimitItem, tuple[str, ...]]]:
        return [(self._pair, (account, address)), (self._address, (address,))]
