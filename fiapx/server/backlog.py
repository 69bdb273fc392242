"""Prometheus metrics of events that have not reached the bus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fiapx.server.outbox import Outbox

log = structlog.get_logger(__name__)


class BacklogCollector(Collector):
    """Reads the outboxes, which are by the name of their service, when it is asked."""

    def __init__(self, outboxes: Mapping[str, Outbox]) -> None:
        self._outboxes = outboxes

    def describe(self) -> Iterator[Metric]:
        """Nothing is read at registration."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The gauges of this moment."""
        events = GaugeMetricFamily("fiapx_outbox_events", "Events that wait to be published.", labels=["service"])
        oldest = GaugeMetricFamily(
            "fiapx_outbox_oldest_seconds", "Age of the longest-waiting event.", labels=["service"]
        )
        for service, outbox in self._outboxes.items():
            try:
                count, seconds = outbox.backlog()
            except Exception as error:  # noqa: BLE001 - the other metrics matter most while the database is away
                log.warning("backlog_not_measured", service=service, error=str(error))
                continue
            events.add_metric([service], count)
            oldest.add_metric([service], seconds)
        yield events
        yield oldest
