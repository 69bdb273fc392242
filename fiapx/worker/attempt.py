"""One attempt at one job: read the video, write the ZIP, publish it if the job is still ours."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

import structlog
from opentelemetry.trace import SpanKind

from fiapx.core.circuit import Resting
from fiapx.core.errors import LeaseLost, NoSpace, Unavailable
from fiapx.core.options import ExtractOptions
from fiapx.core.ports import Cache, ObjectWriter, Storage
from fiapx.core.tracing import Attributes, continued, failed, span, step
from fiapx.media.extract import extract
from fiapx.media.model import Limits, Progress, Result, Source
from fiapx.media.spare import Spare
from fiapx.server.processing.leases import Leases
from fiapx.server.processing.model import Claim
from fiapx.server.processing.progress import drop_progress, put_progress
from fiapx.worker.asking import ask
from fiapx.worker.hand import Hand
from fiapx.worker.monitor import Monitor
from fiapx.worker.split import Sharing, Split

log = structlog.get_logger(__name__)

_PROGRESS_INTERVAL: Final = 0.2


@dataclass(frozen=True)
class Workshop:
    """What attempts are made with."""

    leases: Leases
    storage: Storage
    cache: Cache
    limits: Limits = Limits()
    heartbeat: float = 10.0
    ffmpeg: Path | None = None
    jobs: int = 1
    """Decoder processes an attempt."""
    sharing: Sharing | None = None
    """How large jobs are shared with other workers."""


class Attempt:
    """Runs to its end and reports it, whatever happens; nothing of a lost attempt stays behind.

    Setting `cancelled` from outside gives the job back to the queue, uncharged.
    """

    def __init__(self, workshop: Workshop, claim: Claim, hand: Hand, started: float) -> None:
        self._shop = workshop
        self._claim = claim
        self._hand = hand
        self._started = started
        self._told = 0.0
        self._split: Split | None = None
        self._log = log.bind(job_id=claim.job_id, attempt=claim.attempt)
        self.cancelled = Event()

    def run(self) -> None:
        """Never raises: what cannot even be reported is left to the reaper."""
        about: Attributes = {"fiapx.job.id": self._claim.job_id, "fiapx.job.attempt": self._claim.attempt}
        with (
            continued(self._claim.traceparent),
            span("job", about, kind=SpanKind.CONSUMER, started=self._started),
        ):
            step("claim", self._started)
            self._run()

    def _run(self) -> None:
        try:
            with Monitor(
                self._shop.leases,
                self._claim,
                self.cancelled,
                heartbeat=self._shop.heartbeat,
                started=self._started,
            ) as monitor:
                self._work(monitor)
        except LeaseLost:
            self._log.info("attempt_discarded")
        except Exception:  # noqa: BLE001 - the lease runs out by itself
            self._log.exception("attempt_not_reported")
        finally:
            with suppress(Exception):
                drop_progress(self._shop.cache, self._claim.job_id)

    def _work(self, monitor: Monitor[Claim]) -> None:
        if ask(partial(self._shop.leases.reuse, self._claim), self.cancelled):
            self._log.info("result_reused")
            return
        self._log.info("attempt_started")
        try:
            result = self._extract()
        except Exception as error:  # noqa: BLE001 - whatever the engine does, the worker goes on
            self._give_up(error, lost=monitor.lost)
        else:
            self._publish(result)

    def _extract(self) -> Result:
        """The ZIP is on stable storage afterwards, though nobody can see it yet."""
        claim, shop = self._claim, self._shop
        options = ExtractOptions.model_validate_json(claim.options)
        if shop.sharing:
            self._split = Split(shop.sharing, claim, options, self.cancelled)
        with (
            self._hand.spare() as spare,
            shop.storage.open(claim.video_key) as video,
            shop.storage.create(claim.result_key) as output,
        ):
            source = Source(claim.video_name, video, claim.video_sha256)
            result = self._run_engine(source, options, output, spare)
            with span("store"):
                output.commit()
            return result

    def _run_engine(self, source: Source, options: ExtractOptions, output: ObjectWriter, spare: Spare | None) -> Result:
        with span("extract"):
            return extract(
                source,
                options,
                output,
                limits=self._shop.limits,
                ffmpeg=self._shop.ffmpeg,
                on_progress=self._progress,
                cancelled=self.cancelled,
                jobs=self._shop.jobs,
                spread=self._split,
                spare=spare,
            )

    def _publish(self, result: Result) -> None:
        """If the database fails here, the object stays: the transaction may have been stored all the same.

        Otherwise the reaper repeats the job, and the sweeper finds the object.
        """
        asked = 0

        def complete() -> None:
            nonlocal asked
            asked += 1
            self._shop.leases.complete(self._claim, result)

        try:
            ask(complete, self.cancelled)
        except LeaseLost:
            if asked == 1:
                self._shop.storage.delete(self._claim.result_key)
            raise
        if self._split:
            self._split.forget()
        self._log.info("job_completed", frames=result.frames, size=result.size, engine=result.engine)

    def _give_up(self, error: Exception, *, lost: bool) -> None:
        if lost:
            self._log.info("attempt_discarded")
        elif self.cancelled.is_set() or self._storage_fails(error):
            self._shop.leases.release(self._claim)
            self._log.info("attempt_released")
        else:
            self._fail(error)

    def _storage_fails(self, error: Exception) -> bool:
        """For every job alike, so that this one is not to blame."""
        return isinstance(error, Resting) or (
            isinstance(error, Unavailable | NoSpace) and self._shop.storage.resting() > 0
        )

    def _fail(self, error: Exception) -> None:
        state = ask(partial(self._shop.leases.fail, self._claim, error), self.cancelled)
        known = getattr(error, "code", "internal") != "internal"
        failed(error)
        self._log.warning("attempt_failed", state=state, error=str(error), exc_info=None if known else error)

    def _progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._told >= _PROGRESS_INTERVAL:
            self._told = now
            with suppress(Exception):  # a cache that is down costs the numbers, not the job
                put_progress(self._shop.cache, self._claim.job_id, self._claim.attempt, progress.done, progress.total)
