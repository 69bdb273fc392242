"""Metrics and health on a port of their own: for the operators' network, and for roles that serve nothing else."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from fastapi import FastAPI
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from fiapx.server.gateway.app import HEALTH
from fiapx.server.gateway.health import Health, HealthCheck, create_health_app
from fiapx.server.http import create_app


def create_ops_app(
    registry: CollectorRegistry,
    checks: Mapping[str, HealthCheck],
    draining: threading.Event,
    bearable: Collection[str] = (),
) -> FastAPI:
    """``/metrics`` to everybody who reaches it, and health under the same paths as at the gateway."""
    app = create_app("fiapx operations")
    app.mount(HEALTH, create_health_app(Health(checks, draining, bearable=bearable)))

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app
