"""A large job on many workers, from the side of those that help: make a part, and leave all else to its worker."""

from __future__ import annotations

from threading import Event

import structlog
from opentelemetry.trace import SpanKind

from fiapx.core.errors import LeaseLost
from fiapx.core.tracing import Attributes, continued, span
from fiapx.media.model import Source
from fiapx.media.task import Task, perform
from fiapx.server.processing.model import PartClaim
from fiapx.worker.attempt import Workshop
from fiapx.worker.deference import Deference, NextJob
from fiapx.worker.hand import Hand
from fiapx.worker.monitor import Monitor
from fiapx.worker.split import Sharing

log = structlog.get_logger(__name__)


class PartAttempt:
    """Makes one part. Whatever goes wrong, the job's own worker tries the part next, and tells of it.

    Setting `cancelled` from outside gives the part back, and so does a job that waits: it is in `deference` then.
    """

    def __init__(
        self,
        workshop: Workshop,
        sharing: Sharing,
        claim: PartClaim,
        hand: Hand,
        started: float,
        next_job: NextJob,
    ) -> None:
        self._shop = workshop
        self._sharing = sharing
        self._claim = claim
        self._hand = hand
        self._started = started
        self._log = log.bind(job_id=claim.job_id, kind=claim.kind, part=claim.number)
        self.cancelled = Event()
        self.deference = Deference(next_job, self.cancelled)

    def run(self) -> None:
        """Never raises: a part that cannot even be reported is taken over once its lease is over."""
        claim = self._claim
        about: Attributes = {
            "fiapx.job.id": claim.job_id,
            "fiapx.part.kind": claim.kind,
            "fiapx.part.number": claim.number,
        }
        with continued(claim.traceparent), span("part", about, kind=SpanKind.CONSUMER, started=self._started):
            self._run()

    def _run(self) -> None:
        try:
            with (
                self.deference,
                Monitor(
                    self._sharing.parts,
                    self._claim,
                    self.cancelled,
                    heartbeat=self._sharing.heartbeat,
                    started=self._started,
                ) as monitor,
            ):
                self._work(monitor)
        except LeaseLost:
            self._log.info("part_discarded")
        except Exception:  # noqa: BLE001 - the lease runs out by itself
            self._log.exception("part_not_reported")

    def _work(self, monitor: Monitor[PartClaim]) -> None:
        parts = self._sharing.parts
        try:
            self._make()
        except Exception as error:  # noqa: BLE001 - whatever the engine does, the worker goes on
            if monitor.lost:
                self._log.info("part_discarded")
            elif self.cancelled.is_set():
                parts.release(self._claim)
                self._log.info("part_released")
            else:
                parts.fail(self._claim)
                self._log.warning("part_failed", error=str(error))
        else:
            parts.complete(self._claim)
            self._log.info("part_made")

    def _make(self) -> None:
        """The part is on stable storage afterwards."""
        claim, shop = self._claim, self._shop
        source = Source(claim.video_name, self._hand.video(claim.video_key), claim.video_sha256)
        with self._hand.spare() as spare, shop.storage.create(claim.key) as part:
            task = Task.from_json(claim.task)
            perform(
                task,
                source,
                part,
                limits=shop.limits,
                cancelled=self.cancelled,
                jobs=shop.jobs,
                spare=spare,
            )
            part.commit()
