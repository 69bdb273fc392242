"""The circuits of one process: what becomes of them is logged, and a metric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import structlog
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fiapx.core.breaker import State
from fiapx.core.circuit import Circuit

log = structlog.get_logger(__name__)


class Circuits(Collector):
    """Makes circuits, and tells Prometheus of them at the moment of being asked."""

    def __init__(self) -> None:
        self._circuits: list[Circuit] = []

    def new(self, name: str, **options: Any) -> Circuit:
        """A circuit; options as for `Circuit`."""
        circuit = Circuit(name, on_change=_changed, **options)
        self._circuits.append(circuit)
        return circuit

    def describe(self) -> Iterator[Metric]:
        """All that there may be."""
        yield _family()

    def collect(self) -> Iterator[Metric]:
        """The states of this moment."""
        family = _family()
        for circuit in self._circuits:
            family.add_metric([circuit.name], circuit.state)
        yield family


def _family() -> GaugeMetricFamily:
    return GaugeMetricFamily("fiapx_circuit_state", "0 closed, 1 open, 2 half-open", labels=["name"])


def _changed(circuit: Circuit) -> None:
    tell = log.warning if circuit.state is State.OPEN else log.info
    tell("circuit_changed", circuit=circuit.name, state=circuit.state.name.lower())
