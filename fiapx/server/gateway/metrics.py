"""Prometheus metrics: of requests, by route template, and whatever the services put into the registry."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator

from fiapx.core.errors import NotFound
from fiapx.server.proxy import Upstream


def instrument(app: FastAPI, registry: CollectorRegistry) -> None:
    """Count and time requests by template, such as ``/api/v1/jobs/{job_id}``; unknown paths share ``none``."""
    Instrumentator(
        should_group_status_codes=False,
        should_exclude_streaming_duration=True,  # an event stream's length says nothing about speed
        excluded_handlers=["^/metrics$"],
        registry=registry,
    ).instrument(app)


class UpstreamCollector(Collector):
    """What the gateway thinks of the services elsewhere, at the moment of being asked."""

    def __init__(self, upstreams: Sequence[Upstream]) -> None:
        self._upstreams = upstreams

    def collect(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "fiapx_gateway_breaker_state", "0 closed, 1 open, 2 half-open", labels=["upstream", "instance"]
        )
        refused = CounterMetricFamily(
            "fiapx_gateway_bulkhead_refusals", "Requests sent away since too many waited", labels=["upstream"]
        )
        for upstream in self._upstreams:
            refused.add_metric([upstream.name], upstream.waiting.refused + upstream.sending.refused)
            for instance in upstream.instances:
                state.add_metric([upstream.name, instance.url], instance.breaker.state)
        yield state
        yield refused


def metrics_router(registry: CollectorRegistry) -> APIRouter:
    """``GET /metrics``, for this machine only: a proxy in front makes every client look local, so it hides it."""
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        if not _is_local(request):
            raise NotFound("There is no such thing here.")
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _is_local(request: Request) -> bool:
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))
    if forwarded or request.client is None:
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
