"""The metrics of several processes as one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Final
from urllib.request import ProxyHandler, build_opener

import structlog
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from fiapx.worker.crew import Crew
from fiapx.worker.scaling import Policy

log = structlog.get_logger(__name__)

_PATIENCE: Final = 1.0
_LARGEST: Final = 4 * 1024**2


class CrewCollector(Collector):
    """The supervisor's own numbers, and all of its processes', each with its number as the label ``process``.

    A process that does not answer within a second is left out.
    """

    def __init__(self, crew: Crew, policy: Policy, age: Callable[[], float | None]) -> None:
        self._crew, self._policy, self._age = crew, policy, age
        self._open = build_opener(ProxyHandler({})).open  # never through a proxy

    def describe(self) -> Iterator[Metric]:
        """Nobody is asked at registration."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The numbers of this moment."""
        yield from self._own()
        pages = {str(member.number): member.metrics for member in self._crew if member.metrics}
        with ThreadPoolExecutor(max(1, len(pages))) as threads:
            found = threads.map(self._fetch, pages.values())
            yield from merged(zip(pages, found, strict=True))

    def _own(self) -> Iterator[Metric]:
        working = len(self._crew.working())
        leaving = len(list(self._crew)) - working
        workers = GaugeMetricFamily("fiapx_autoscale_workers", "Worker processes, by state.", labels=["state"])
        workers.add_metric(["working"], working)
        workers.add_metric(["leaving"], leaving)
        yield workers
        yield GaugeMetricFamily("fiapx_autoscale_min", "Fewest worker processes.", value=self._policy.least)
        yield GaugeMetricFamily("fiapx_autoscale_max", "Most worker processes.", value=self._policy.most)
        yield GaugeMetricFamily(
            "fiapx_autoscale_oldest_seconds", "Age of the longest-waiting job.", value=self._age() or 0
        )
        yield CounterMetricFamily("fiapx_autoscale_crashes", "Worker processes replaced.", value=self._crew.crashes)

    def _fetch(self, url: str) -> list[Metric]:
        try:
            with self._open(f"{url}/metrics", timeout=_PATIENCE) as answer:
                return list(text_string_to_metric_families(answer.read(_LARGEST).decode()))
        except (OSError, HTTPException, ValueError) as error:
            log.warning("worker_not_measured", url=url, error=str(error))
            return []


def merged(pages: Iterable[tuple[str, Iterable[Metric]]]) -> Iterator[Metric]:
    """Each metric once, with the samples of every process."""
    families: dict[tuple[str, str], Metric] = {}
    for process, metrics in pages:
        for metric in metrics:
            family = families.setdefault(
                (metric.name, metric.type), Metric(metric.name, metric.documentation, metric.type)
            )
            family.samples += [
                sample._replace(labels={**sample.labels, "process": process}) for sample in metric.samples
            ]
    yield from families.values()
