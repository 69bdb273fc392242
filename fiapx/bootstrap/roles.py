"""The roles of a distributed service, one process each or several in one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any, Final, Literal, Protocol

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from starlette.types import ASGIApp

from fiapx.adapters.auth_http import AuthClient
from fiapx.bootstrap.instance import instance
from fiapx.bootstrap.parts import (
    Processing,
    answers,
    engine_fingerprint,
    make_administration,
    make_auth,
    make_notifier,
    make_processing,
    make_registry,
    make_worker,
    works,
)
from fiapx.bootstrap.servers import Servers
from fiapx.bootstrap.subscribers import SUBSCRIBERS
from fiapx.bootstrap.tracing import tracing
from fiapx.core.errors import UsageError
from fiapx.core.ports import Bus
from fiapx.server.auth.api import create_auth_app
from fiapx.server.auth.api import router as auth_routes
from fiapx.server.auth.service import AuthService
from fiapx.server.background import Background
from fiapx.server.backlog import BacklogCollector
from fiapx.server.gateway.app import create_gateway
from fiapx.server.gateway.edge import Edge
from fiapx.server.gateway.health import HealthCheck
from fiapx.server.gateway.rates import Rates
from fiapx.server.gateway.strangers import Strangers
from fiapx.server.heartbeat import Heartbeat, alive
from fiapx.server.http import create_app
from fiapx.server.identity import Verifier
from fiapx.server.ops import create_ops_app
from fiapx.server.outbox import Outbox
from fiapx.server.processing.api import events, jobs, results, uploads, videos
from fiapx.server.processing.transitions import Transitions
from fiapx.server.processing.warming import warm
from fiapx.server.proxy import Proxy
from fiapx.server.proxy.upstream import Upstream
from fiapx.server.relay import Relay
from fiapx.server.sessions import CachedSessions, EndedSessions
from fiapx.settings import Settings

ServeRole = Literal["gateway", "auth", "processing"]
SERVE_ROLES: tuple[ServeRole, ...] = ("gateway", "auth", "processing")

_AUTH, _PROCESSING = "/api/v1/auth", "/api/v1"

BEARABLE: Final = frozenset({"redis", "rabbitmq"})
"""Checks of what every request and job can do without: the cache is passed by, events wait in the outbox."""


class Workforce(Protocol):
    """Who runs jobs: a worker, or a supervisor of several."""

    def stop(self, grace: float) -> object:
        """Take no new job, and come to rest: running ones have `grace` seconds, then go back to the queue.

        May be called again, from another thread, with a shorter grace.
        """


@dataclass
class Role:
    """One process of a service: what it serves (if anything), its operations' port, who runs its jobs (if anybody).

    `draining` is set at the first signal to stop.
    """

    ops: FastAPI
    draining: Event
    app: ASGIApp | None = None
    worker: Workforce | None = None


@dataclass
class _Process:
    """What the roles of one process share while it is put together."""

    settings: Settings
    servers: Servers
    registry: CollectorRegistry = field(default_factory=make_registry)
    background: Background = field(default_factory=Background)
    draining: Event = field(default_factory=Event)
    checks: dict[str, HealthCheck] = field(default_factory=dict)
    bearable: set[str] = field(default_factory=lambda: set(BEARABLE))
    outboxes: dict[str, Outbox] = field(default_factory=dict)
    databases: list[Engine] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.registry.register(BacklogCollector(self.outboxes))
        self.registry.register(self.servers.circuits)

    def add_relay(self, service: str, name: str, outbox: Outbox, wake: Event) -> None:
        self.outboxes[service] = outbox
        relay = Relay(outbox, self.servers.bus, wake)
        self.checks[name] = self.background.add(name, relay.run, wake)

    def needs(self, database: Engine) -> None:
        """It must answer, and so must those of other services in this process."""
        self.databases.append(database)
        self.checks["postgresql"] = answers(*self.databases)

    def beat(self, role: str) -> None:
        heartbeat = Heartbeat(self.servers.cache, role, instance())
        self.background.add("heartbeat", heartbeat.run)

    def ops(self) -> FastAPI:
        return create_ops_app(self.registry, self.checks, self.draining, self.bearable)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.background.start()
        try:
            yield
        finally:
            self.background.stop()


@contextmanager
def serving(settings: Settings, roles: Collection[ServeRole]) -> Iterator[Role]:
    """HTTP services against the configured servers; what the gateway does not run here it reaches at its addresses.

    Raises UsageError.
    """
    with tracing(settings, "+".join(roles), edge="gateway" in roles), Servers(settings) as servers:
        process = _Process(settings, servers)
        process.checks |= {"redis": servers.cache.check}
        auth, verifier, mounts = _auth(process, roles)
        if "processing" in roles:
            mounts[_PROCESSING] = _processing(process, verifier)
        edge: Edge | None = None
        documents: Mapping[str, dict[str, Any]] = {}
        if "gateway" in roles:
            documents = _reach(process, mounts)
            edge = _edge(process, auth, verifier)
            process.checks |= {role: alive(servers.cache, role) for role in ("worker", "notify")}
            process.bearable |= {"worker", "notify"}
        app = create_gateway(
            mounts=mounts,
            checks=process.checks,
            bearable=process.bearable,
            registry=process.registry,
            draining=process.draining,
            body_timeout=settings.body_timeout,
            trusted_proxies=settings.trusted_proxies,
            documents=documents,
            edge=edge,
            behind=edge is None,
        )
        with process.running():
            yield Role(process.ops(), process.draining, app)


@contextmanager
def working(settings: Settings) -> Iterator[Role]:
    """A worker on processing's queue. It is started here and stopped by the caller. Raises UsageError."""
    with tracing(settings, "worker"), Servers(settings) as servers:
        process = _Process(settings, servers)
        transitions = Transitions(servers.database("processing"), Event(), engine_fingerprint(settings), servers.cache)
        worker = make_worker(settings, transitions, servers.storage, servers.cache, servers.bus, sharing=True)
        process.checks |= {
            "postgresql": answers(transitions.engine),
            "redis": servers.cache.check,
            "rabbitmq": servers.bus.check,
            "storage": servers.storage.check,
            "worker": works(worker),
        }
        process.beat("worker")
        with process.running():
            worker.start()
            try:
                yield Role(process.ops(), process.draining, worker=worker)
            finally:
                worker.stop(0)


@contextmanager
def notifying(settings: Settings) -> Iterator[Role]:
    """Mails from events. Raises UsageError."""
    with tracing(settings, "notify"), Servers(settings) as servers:
        process = _Process(settings, servers)
        engine = servers.database("notify")
        notifier = make_notifier(settings, engine, f"http://{settings.host}:{settings.port}", servers.circuits)
        process.checks |= {
            "postgresql": answers(engine),
            "redis": servers.cache.check,
            "rabbitmq": servers.bus.check,
            "notify": process.background.add("notify", notifier.run),
        }
        servers.bus.subscribe("notify", SUBSCRIBERS["notify"], notifier.handle)
        process.beat("notify")
        with process.running():
            yield Role(process.ops(), process.draining)


def _auth(
    process: _Process, roles: Collection[ServeRole]
) -> tuple[AuthService | AuthClient, Verifier, dict[str, ASGIApp]]:
    """Auth, who verifies tokens in this process, and the service to mount if it runs here."""
    settings, servers = process.settings, process.servers
    ttl = settings.cache_ttl_sessions
    if "auth" not in roles:
        client = servers.auth
        return client, Verifier(client.jwks, CachedSessions(servers.cache, client, ttl)), {}
    if settings.secret_key is None:
        raise UsageError("FIAPX_SECRET_KEY is not set", hint="All instances of auth need the same one.")
    engine, wake = servers.database("auth"), Event()
    ended = EndedSessions(servers.cache, settings.access_ttl, ttl)
    secret = settings.secret_key.get_secret_value()
    service = make_auth(settings, engine, secret, servers.counters, ended.tell)
    sessions = CachedSessions(servers.cache, service, ttl)
    service.on_opened = partial(sessions.active, token="")
    verifier = Verifier(service.jwks, sessions)
    process.needs(engine)
    process.checks |= {"rabbitmq": servers.bus.check}
    process.add_relay("auth", "auth-relay", service.outbox, wake)
    process.background.add("ended-sessions", ended.run)
    return service, verifier, {_AUTH: create_auth_app(service, verifier, make_administration(engine, ended.tell))}


def _processing(process: _Process, verifier: Verifier) -> ASGIApp:
    settings, servers = process.settings, process.servers
    engine, wake = servers.database("processing"), Event()
    processing = make_processing(
        settings,
        engine,
        servers.storage,
        servers.partials,
        servers.cache,
        process.registry,
        wake,
        servers.replica(),
    )
    _subscribe(servers.bus, processing)
    warm(processing.queries, settings.warm_users)
    process.needs(engine)
    process.checks |= {
        "rabbitmq": servers.bus.check,
        "storage": servers.storage.check,
        "reaper": process.background.add("reaper", processing.maintenance.reap),
        "maintenance": process.background.add("maintenance", processing.maintenance.tidy),
    }
    process.add_relay("processing", "relay", processing.store.outbox, wake)
    return processing.app(settings, verifier, process.draining)


def _subscribe(bus: Bus, processing: Processing) -> None:
    bus.subscribe("processing", SUBSCRIBERS["processing"], processing.commands.user_deleted)
    bus.subscribe("metrics", SUBSCRIBERS["metrics"], processing.metrics.handle)


def _reach(process: _Process, mounts: dict[str, ASGIApp]) -> Mapping[str, dict[str, Any]]:
    """Mount what runs elsewhere; returns its documentation."""
    settings = process.settings
    elsewhere = {
        _AUTH: ("auth", settings.auth_urls, (auth_routes,)),
        _PROCESSING: (
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


def _edge(process: _Process, auth: AuthService | AuthClient, verifier: Verifier) -> Edge:
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
