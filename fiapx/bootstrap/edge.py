"""What a gateway puts before services, and services that run elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from fastapi import APIRouter
from starlette.types import ASGIApp

from fiapx.adapters.auth_http import AuthClient
from fiapx.bootstrap.process import Process
from fiapx.core.errors import UsageError
from fiapx.server.auth.api import router as auth_routes
from fiapx.server.auth.service import AuthService
from fiapx.server.gateway.edge import Edge
from fiapx.server.gateway.rates import Rates
from fiapx.server.gateway.strangers import Strangers
from fiapx.server.http import create_app
from fiapx.server.identity import Verifier
from fiapx.server.processing.api import events, jobs, results, uploads, videos
from fiapx.server.proxy import Proxy
from fiapx.server.proxy.upstream import Upstream
from fiapx.server.sessions import CachedSessions

AUTH: Final = "/api/v1/auth"
PROCESSING: Final = "/api/v1"


def reach(process: Process, mounts: dict[str, ASGIApp]) -> Mapping[str, dict[str, Any]]:
    """Mount what runs elsewhere; returns its documentation. Raises UsageError where nobody has said where."""
    settings = process.settings
    elsewhere = {
        AUTH: ("auth", settings.auth_urls, (auth_routes,)),
        PROCESSING: (
            "processing",
            settings.processing_urls,
            (videos.router, uploads.router, jobs.router, events.router, results.router),
        ),
    }
    documents = {}
    for prefix, (name, urls, routers) in elsewhere.items():
        if prefix in mounts:
            continue
        if not urls:
            raise UsageError(f"FIAPX_{name.upper()}_URLS is not set", hint=f"Name the addresses of `serve {name}`.")
        upstream = Upstream(
            name,
            urls,
            connect_timeout=settings.upstream_connect_timeout,
            header_timeout=settings.upstream_timeout,
            bulkhead=settings.upstream_connections,
        )
        mounts[prefix] = Proxy(upstream, process.draining)
        documents[prefix] = _document(routers)
    return documents


def _document(routers: Collection[APIRouter]) -> dict[str, Any]:
    app = create_app("fiapx")
    for router in routers:
        app.include_router(router)
    return app.openapi()


def make_edge(process: Process, auth: AuthService | AuthClient, verifier: Verifier) -> Edge:
    """By the settings of the process, whose servers keep what all gateways share."""
    settings, servers = process.settings, process.servers
    return Edge(
        verifier,
        known=Verifier(auth.jwks, CachedSessions(servers.cache, Strangers())),
        rates=Rates(settings.user_rate, settings.address_rate, servers.counters),
        parallel_uploads=settings.parallel_uploads,
        upload_bandwidth=settings.upload_bandwidth,
        cache=servers.cache,
        stale=settings.cache_ttl_stale,
        origins=settings.cors_origins,
        https=(settings.public_url or "").startswith("https://"),
    )
