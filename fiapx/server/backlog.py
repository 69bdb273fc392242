"""Prometheus metrics of events that have not reached the bus."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fiapx.server.outbox import Outbox

log = structlog.get_logger(__name__)


class BacklogCollector(Collector):
    """Reads an outbox when it is asked. `service` is whose it is."""

    def __init__(self, service: str, outbox: Outbox) -> None:
        self._service, self._outbox = service, outbox

    def describe(self) -> Iterator[Metric]:
        """Nothing is read at registration."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The gauges of this moment."""
        try:
            events, oldest = self._outbox.backlog()
        except Exception as error:  # noqa: BLE001 - the other metrics matter most while the database is away
            log.warning("backlog_not_measured", service=self._service, error=str(error))
            return
        for name, text, value in (
            ("fiapx_outbox_events", "Events that wait to be published.", events),
            ("fiapx_outbox_oldest_seconds", "Age of the longest-waiting event.", oldest),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["service"])
            gauge.add_metric([self._service], value)
            yield gauge
