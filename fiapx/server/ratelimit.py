"""How often somebody may get a password wrong, or open an account."""

from __future__ import annotations

import math
import time
from typing import Final

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter

from fiapx.core.errors import RateLimited

_ADDRESS_FACTOR: Final = 10


class AuthLimiter:
    """Counts failed log-ins of an account from an address, and of the address over all accounts (ten times as many);
    and accounts that an address asks for.

    Counting the pair keeps the owner, at another address, from being locked out by an attacker.
    """

    def __init__(self, log_ins: str, registrations: str, storage: Storage | None = None) -> None:
        """Rates as in ``10/minute``."""
        self._limiter = FixedWindowRateLimiter(storage or MemoryStorage())
        self._pair = parse(log_ins)
        self._address = type(self._pair)(self._pair.amount * _ADDRESS_FACTOR, self._pair.multiples, "ADDRESS")
        chosen = parse(registrations)
        self._registrations = type(chosen)(chosen.amount, chosen.multiples, "REGISTER")

    def check(self, account: str, address: str) -> None:
        """Raises RateLimited, with the seconds to wait, when either count of failures is used up."""
        for item, names in self._counts(account, address):
            if not self._limiter.test(item, *names):
                raise self._refusal("Too many failed log-ins; try again later.", item, names)

    def failed(self, account: str, address: str) -> None:
        """Count a failed log-in."""
        for item, names in self._counts(account, address):
            self._limiter.hit(item, *names)

    def registering(self, address: str) -> None:
        """Count an account that is asked for. Raises RateLimited."""
        if not self._limiter.hit(self._registrations, address):
            raise self._refusal("Too many new accounts; try again later.", self._registrations, (address,))

    def _counts(self, account: str, address: str) -> list[tuple[RateLimitItem, tuple[str, ...]]]:
        return [(self._pair, (account, address)), (self._address, (address,))]

    def _refusal(self, message: str, item: RateLimitItem, names: tuple[str, ...]) -> RateLimited:
        reset = self._limiter.get_window_stats(item, *names).reset_time
        return RateLimited(message, retry_after=max(1, math.ceil(reset - time.time())))
