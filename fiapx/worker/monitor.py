"""Watches over a lease while the engine works: renews it, and stops the engine once the work is no longer ours."""

from __future__ import annotations

import time
from threading import Event, Thread
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

import structlog

from fiapx.core.errors import LeaseLost
from fiapx.server.processing.model import Claim, PartClaim

log = structlog.get_logger(__name__)

_LOOK: Final = 1.0
_MARGIN: Final = 0.2
"""The part of a lease that is kept as time to stop the decoder in, should the database stay silent."""

C = TypeVar("C", bound=Claim | PartClaim)
C_contra = TypeVar("C_contra", bound=Claim | PartClaim, contravariant=True)


class Leased(Protocol[C_contra]):
    """Where claims are kept: those of jobs, or of parts of jobs."""

    @property
    def lease(self) -> float:
        """Seconds."""
        ...

    def renew(self, claim: C_contra) -> None:
        """Raises LeaseLost."""
        ...

    def owned(self, claim: C_contra) -> bool:
        """Is it still this claim's?"""
        ...


class Monitor(Generic[C]):
    """Sets `cancelled` when the job was cancelled, reclaimed or deleted, or the lease runs out unrenewed.

    `started` is the monotonic time from before the claim: no clock but the database's is compared with the lease.
    """

    def __init__(self, leases: Leased[C], claim: C, cancelled: Event, *, heartbeat: float, started: float) -> None:
        self._leases = leases
        self._claim = claim
        self._cancelled = cancelled
        self._heartbeat = heartbeat
        self._renewed = started
        self._done = Event()
        self._threads = [
            Thread(target=run, name=f"{name}-{claim.job_id}", daemon=True)
            for name, run in (("monitor", self._run), ("lease", self._watch_time))
        ]
        self.lost = False
        """The work is no longer ours."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._done.wait(min(_LOOK, self._heartbeat)):
            try:
                self._look()
            except LeaseLost:
                return self._stop("lease_lost")
            except Exception as error:  # noqa: BLE001 - the database may come back in time
                log.warning("lease_not_renewed", job_id=self._claim.job_id, error=str(error))
        return None

    def _watch_time(self) -> None:
        """Beside the other thread, which may be waiting for a database that has stopped."""
        while not self._done.wait(max(0.0, self._left())):
            if self._left() <= 0:
                return self._stop("lease_not_renewable")
        return None

    def _left(self) -> float:
        return self._renewed + self._leases.lease * (1 - _MARGIN) - time.monotonic()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._renewed >= self._heartbeat:
            self._leases.renew(self._claim)
            self._renewed = now
        elif not self._leases.owned(self._claim):
            raise LeaseLost

    def _stop(self, event: str) -> None:
        log.info(event, job_id=self._claim.job_id, lease=self._claim.lease_token)
        self.lost = True
        self._cancelled.set()
