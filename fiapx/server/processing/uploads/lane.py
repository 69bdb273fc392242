"""Calls in threads that have an order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from anyio import CancelScope
from anyio.to_thread import run_sync


class Lane:
    """Calls in a thread, one after the other: whoever wants the next one waits for the last, and hears how it went.

    A caller that is cancelled does not cancel the call, which could not be stopped.
    """

    def __init__(self, other: Lane | None = None) -> None:
        """Before each call, what `other` is at then has to be over."""
        self._task: asyncio.Task[None] | None = None
        self._other = other
        self._turn = asyncio.Lock()

    async def run(self, call: Callable[[], None]) -> None:
        async with self._turn:
            await self._end()
            self._task = asyncio.create_task(self._run(call))

    def run_if_free(self, call: Callable[[], None]) -> bool:
        """Whether nobody waits here, and nothing has to be heard of the last call."""
        free = not self._turn.locked() and (self._task is None or _went_well(self._task))
        if free:
            self._task = asyncio.create_task(self._run(call))
        return free

    async def wait(self) -> None:
        async with self._turn:
            await self._end()

    async def _end(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task})
            task, self._task = self._task, None
            task.result()

    async def idle(self) -> None:
        """What it is at now is over, however it went."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def settle(self) -> None:
        """However it went, and whoever is cancelled."""
        with CancelScope(shield=True):
            while self._task is not None and not self._task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({self._task})
        if self._task is not None:
            heard(self._task)
            self._task = None

    async def _run(self, call: Callable[[], None]) -> None:
        if self._other is not None:
            await self._other.idle()
        await run_sync(call)


def heard(task: asyncio.Task[None]) -> None:
    """Nobody else wants to know how it went."""
    if not task.cancelled():
        task.exception()


def _went_well(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
