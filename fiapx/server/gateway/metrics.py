"""Prometheus metrics: of requests, by route template, and whatever the services put into the registry."""

from __future__ import annotations

import ipaddress

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_fastapi_instrumentator import Instrumentator

from fiapx.core.errors import NotFound


def instrument(app: FastAPI, registry: CollectorRegistry) -> None:
    """Count and time requests by template, such as ``/api/v1/jobs/{job_id}``; unknown paths share ``none``."""
    Instrumentator(
        should_group_status_codes=False,
        should_exclude_streaming_duration=True,  # an event stream's length says nothing about speed
        excluded_handlers=["^/metrics$"],
        registry=registry,
    ).instrument(app)


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
