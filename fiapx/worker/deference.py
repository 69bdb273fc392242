"""Jobs go before parts: whoever makes a part of somebody's job drops it for a job that waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Final, Self

import structlog

from fiapx.server.processing.model import Claim

log = structlog.get_logger(__name__)

_LOOK: Final = 0.2
"""Seconds between two looks at the queue, which is how long a job may wait for a worker that makes a part."""

NextJob = Callable[[], Claim | None]
"""Takes the fairest job; None where none waits, or none may be taken."""


class Deference:
    """Sets `cancelled` once it has taken a job. Of many who make parts, just one gives way to one job."""

    def __init__(self, next_job: NextJob, cancelled: Event) -> None:
        self._next_job = next_job
        self._cancelled = cancelled
        self._done = Event()
        self._thread = Thread(target=self._run, name="deference", daemon=True)
        self.job: Claim | None = None
        """To be done next."""
        self.started = 0.0
        """The monotonic time from before it was taken."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(_LOOK):
            self.started = time.monotonic()
            try:
                self.job = self._next_job()
            except Exception as error:  # noqa: BLE001 - the database may come back
                log.warning("queue_not_seen", error=str(error))
            if self.job is not None:
                self._cancelled.set()
                return
