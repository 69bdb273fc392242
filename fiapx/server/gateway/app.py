"""The gateway: puts services, health, metrics, documentation and middleware together."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.types import ASGIApp

import fiapx
from fiapx.server.forwarded import ForwardedFor, networks
from fiapx.server.gateway.answers import CacheCounters
from fiapx.server.gateway.body import BodyGuard
from fiapx.server.gateway.edge import Edge
from fiapx.server.gateway.health import Health, HealthCheck, create_health_app
from fiapx.server.gateway.metrics import UpstreamCollector, instrument, metrics_router
from fiapx.server.gateway.middleware import Drain, ErrorBoundary, RequestLog, SecurityHeaders, valid_request_id
from fiapx.server.gateway.neighbours import ask
from fiapx.server.gateway.openapi import docs_router, merge_openapi
from fiapx.server.gateway.routes import Routes
from fiapx.server.http import create_app
from fiapx.server.proxy import Proxy
from fiapx.server.tus import TusHeaders

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

RESUMABLE: Final = "/api/v1/uploads"
"""Where tus is spoken."""

UPLOADS: Final = frozenset({"/api/v1/videos", "/api/v1/jobs", RESUMABLE})
"""Paths that stream bodies of any size."""

HEALTH: Final = "/api/v1/health"


def create_gateway(
    *,
    mounts: Mapping[str, ASGIApp],
    checks: Mapping[str, HealthCheck],
    registry: CollectorRegistry,
    draining: threading.Event,
    body_timeout: float = 60,
    uploads: Collection[str] = UPLOADS,
    lifespan: Lifespan | None = None,
    trusted_proxies: Collection[str] = (),
    documents: Mapping[str, dict[str, Any]] = MappingProxyType({}),
    edge: Edge | None = None,
    behind: bool = False,
    bearable: Collection[str] = (),
) -> FastAPI:
    """One app for all services.

    `mounts` are ASGI apps by path prefix; those of Starlette run their lifespans, and those of FastAPI join the
    documentation, as do `documents` (OpenAPI by prefix) of services elsewhere. `lifespan` is entered after theirs and
    left before them. Once `draining` is set, new requests get 503. `body_timeout` is in seconds. `trusted_proxies` are
    addresses and networks whose word for a client's address is taken. An app that is `behind` another one tells that
    one what it may keep. It stays ready while checks fail that are `bearable`. Raises UsageError.
    """
    upstreams = list({app.upstream.name: app.upstream for app in mounts.values() if isinstance(app, Proxy)}.values())
    mounts = {**mounts, HEALTH: create_health_app(Health(checks, draining, bearable=bearable), partial(ask, upstreams))}
    networks(trusted_proxies)  # middleware is made at the first request, which is late to complain
    app = create_app("fiapx", lifespan=_lifespans(mounts, lifespan))
    app.version = fiapx.__version__
    app.include_router(metrics_router(registry))
    app.include_router(docs_router())
    app.add_api_route("/", _root, include_in_schema=False)
    _mount(app, mounts, edge, registry)
    documents = {**documents, **{path: child.openapi() for path, child in mounts.items() if isinstance(child, FastAPI)}}
    app.openapi_schema = merge_openapi(app.openapi(), documents)
    if upstreams:
        registry.register(UpstreamCollector(upstreams))
    _add_middleware(app, registry, draining, body_timeout, uploads, edge, behind)
    app.add_middleware(RequestLog, routes=Routes(mounts, app.openapi_schema["paths"]))
    app.add_middleware(ForwardedFor, trusted=trusted_proxies)
    app.add_middleware(CorrelationIdMiddleware, validator=valid_request_id)
    return app


def _mount(app: FastAPI, mounts: Mapping[str, ASGIApp], edge: Edge | None, registry: CollectorRegistry) -> None:
    counters = CacheCounters(registry) if edge is not None else None
    for prefix in sorted(mounts, key=len, reverse=True):
        service = mounts[prefix]
        if edge is not None and counters is not None and isinstance(service, Proxy):
            service = edge.before(service, counters)
        app.mount(prefix, service)


def _add_middleware(
    app: FastAPI,
    registry: CollectorRegistry,
    draining: threading.Event,
    body_timeout: float,
    uploads: Collection[str],
    edge: Edge | None,
    behind: bool,
) -> None:
    """From the innermost to the outermost."""
    if edge is not None:
        edge.add_inner(app)
    app.add_middleware(ErrorBoundary)
    app.add_middleware(BodyGuard, timeout=body_timeout, uploads=uploads)
    app.add_middleware(Drain, draining=draining)
    if edge is not None:
        edge.add_outer(app)
    app.add_middleware(TusHeaders, prefix=RESUMABLE)
    instrument(app, registry)
    app.add_middleware(SecurityHeaders, https=edge is not None and edge.https, behind=behind)


def _lifespans(mounts: Mapping[str, ASGIApp], own: Lifespan | None) -> Lifespan:
    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for child in mounts.values():
                if isinstance(child, Starlette):  # a mounted app's lifespan does not run by itself
                    await stack.enter_async_context(child.router.lifespan_context(child))
                elif isinstance(child, Proxy):
                    await stack.enter_async_context(child.upstream)
            if own is not None:
                await stack.enter_async_context(own(app))
            yield

    return run


async def _root() -> Response:
    return RedirectResponse("/docs")
