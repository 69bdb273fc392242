"""The worker: so many threads, each claims and runs one job after the other, or parts of those of others."""

from __future__ import annotations

import time
from contextlib import closing
from threading import Event, Lock, Thread, current_thread
from typing import Final

import structlog

from fiapx.core.ports import Bus
from fiapx.media.nursery import Nursery
from fiapx.server.processing.model import Claim
from fiapx.worker.attempt import Attempt, Workshop
from fiapx.worker.hand import Hand
from fiapx.worker.helping import PartAttempt

log = structlog.get_logger(__name__)

_KILL_TIME: Final = 10.0
"""Seconds for a cancelled engine to end its decoder and for the job to be given back."""


class Worker:
    """`poll` bounds, in seconds, how late work is noticed when no message came."""

    def __init__(self, workshop: Workshop, bus: Bus, *, concurrency: int = 1, poll: float = 1.0) -> None:
        self._shop = workshop
        self._bus = bus
        self._poll = poll
        self._nursery = Nursery()
        self._stopping = Event()
        self._hurry = Event()
        self._lock = Lock()
        self._running: set[Attempt | PartAttempt] = set()
        self._threads = [
            Thread(target=self._loop, name=f"worker-{number}", daemon=True) for number in range(concurrency)
        ]

    def start(self) -> None:
        """Begin to work; returns at once."""
        self._nursery.start()
        for thread in self._threads:
            thread.start()

    def stop(self, grace: float) -> bool:
        """Take no new job, let running ones finish for `grace` seconds, then give them back to the queue.

        Returns whether all came to rest. May be called again, from another thread, with a shorter grace.
        """
        self._stopping.set()
        if not self._rest(grace):
            self._release()
        rested = self._rest(_KILL_TIME)
        if rested:
            self._nursery.close()
        return rested

    def alive(self) -> bool:
        """Do all threads work? For health checks."""
        return all(thread.is_alive() for thread in self._threads)

    def _loop(self) -> None:
        with closing(Hand(self._shop.storage, self._nursery)) as hand:
            self._work(hand)

    def _work(self, hand: Hand) -> None:
        while not self._stopping.is_set():
            try:
                worked = self._next(hand)
            except Exception:  # the database may come back
                log.exception("claim_failed", thread=current_thread().name)
                self._stopping.wait(self._poll)
                continue
            if not worked:
                self._bus.wait_for_work(self._poll)

    def _next(self, hand: Hand) -> bool:
        """Run a job, or else a part of somebody's; whether there was one."""
        attempt = self._claimed(hand)
        if attempt is None:
            hand.close()
            return False
        self._run(attempt)
        if isinstance(attempt, PartAttempt) and (job := attempt.deference.job):
            self._run(Attempt(self._shop, job, hand, attempt.deference.started))
        return True

    def _run(self, attempt: Attempt | PartAttempt) -> None:
        with self._lock:
            self._running.add(attempt)
            if self._hurry.is_set():
                attempt.cancelled.set()
        try:
            attempt.run()
        finally:
            with self._lock:
                self._running.discard(attempt)

    def _claimed(self, hand: Hand) -> Attempt | PartAttempt | None:
        started, sharing = time.monotonic(), self._shop.sharing
        if self._shop.storage.resting():
            return None  # whatever it is, it could only fail
        if claim := self._shop.leases.claim():
            return Attempt(self._shop, claim, hand, started)
        if sharing and (part := sharing.parts.claim()):
            return PartAttempt(self._shop, sharing, part, hand, started, self._next_job)
        return None

    def _next_job(self) -> Claim | None:
        """For those who make parts."""
        if self._stopping.is_set() or self._shop.storage.resting() or not self._shop.leases.waits():
            return None
        return self._shop.leases.claim()

    def _release(self) -> None:
        with self._lock:
            self._hurry.set()
            for attempt in self._running:
                attempt.cancelled.set()

    def _rest(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)
