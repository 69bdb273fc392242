"""How many requests may wait for one service, so that a silent one cannot take everything along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fiapx.core.errors import Unavailable


class Overloaded(Unavailable):
    """Too many requests wait for this service; try again in a moment."""

    retry_after = 1


class Bulkhead:
    """At most `size` at a time; another one waits for its turn, though not longer than `patience` seconds."""

    def __init__(self, size: int, patience: float) -> None:
        self._slots = asyncio.Semaphore(size)
        self._size, self._patience = size, patience
        self._queue = 0
        self.refused = 0
        """How often somebody was sent away, for the metrics."""

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Raises Overloaded; at once when as many wait as may be served."""
        await self._enter()
        try:
            yield
        finally:
            self._slots.release()

    async def _enter(self) -> None:
        if self._slots.locked() and self._queue >= self._size:
            self._refuse()
        self._queue += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._slots.acquire()
        except TimeoutError:
            self._refuse()
        finally:
            self._queue -= 1

    def _refuse(self) -> None:
        self.refused += 1
        raise Overloaded
