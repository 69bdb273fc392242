"""Prometheus metrics of uploads, jobs and the queue, in the registry that is handed in."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fiapx.core.events import JOB_CANCELLED, JOB_COMPLETED, JOB_FAILED, Event
from fiapx.server.processing.reads import Reads

log = structlog.get_logger(__name__)

TERMINAL_EVENTS = frozenset({JOB_COMPLETED, JOB_FAILED, JOB_CANCELLED})
_SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)


class ProcessingMetrics:
    """Jobs are counted from their terminal events, wherever they ended."""

    def __init__(self, registry: CollectorRegistry, reads: Reads) -> None:
        self._uploads = Counter("fiapx_uploads_total", "Accepted uploads.", registry=registry)
        self._bytes = Counter("fiapx_upload_bytes_total", "Bytes of accepted uploads.", registry=registry)
        self._jobs = Counter("fiapx_jobs_total", "Jobs that ended, by state.", ["state"], registry=registry)
        self._frames = Counter("fiapx_frames_total", "Frames in results.", registry=registry)
        self._seconds = Histogram(
            "fiapx_job_seconds", "From accepted to ended.", ["state"], buckets=_SECONDS, registry=registry
        )
        registry.register(QueueCollector(reads))

    def uploaded(self, size: int) -> None:
        """Count an accepted upload."""
        self._uploads.inc()
        self._bytes.inc(size)

    def handle(self, event: Event) -> None:
        """Bus handler for TERMINAL_EVENTS."""
        state = event.data["state"]
        self._jobs.labels(state).inc()
        self._seconds.labels(state).observe(event.data["seconds"])
        self._frames.inc(event.data["frames"] or 0)


class QueueCollector(Collector):
    """Reads the queue when it is asked, so that the numbers are right after a restart."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def describe(self) -> Iterator[Metric]:
        """Nothing is read at registration."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The gauges of this moment."""
        try:
            queue = self._reads.queue()
        except Exception as error:  # noqa: BLE001 - the other metrics matter most while the database is away
            log.warning("queue_not_measured", error=str(error))
            return
        yield GaugeMetricFamily("fiapx_queue_jobs", "Jobs that wait.", value=queue.queued)
        yield GaugeMetricFamily("fiapx_running_jobs", "Jobs that run.", value=queue.running)
        yield GaugeMetricFamily(
            "fiapx_queue_oldest_seconds", "Age of the longest-waiting job.", value=queue.oldest_ms / 1000
        )
