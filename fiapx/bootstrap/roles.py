"""The roles of a distributed service, one process each or several in one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import Any, Literal

from starlette.types import ASGIApp

from fiapx.adapters.auth_http import AuthClient
from fiapx.bootstrap.edge import AUTH, PROCESSING, make_edge, reach
from fiapx.bootstrap.parts import (
    Processing,
    answers,
    engine_fingerprint,
    make_administration,
    make_auth,
    make_notifier,
    make_processing,
    make_worker,
    works,
)
from fiapx.bootstrap.process import Process, Role
from fiapx.bootstrap.servers import Servers
from fiapx.bootstrap.subscribers import SUBSCRIBERS
from fiapx.bootstrap.tracing import tracing
from fiapx.core.errors import UsageError
from fiapx.core.ports import Bus
from fiapx.server.auth.api import create_auth_app
from fiapx.server.auth.service import AuthService
from fiapx.server.gateway.app import create_gateway
from fiapx.server.gateway.edge import Edge
from fiapx.server.heartbeat import alive
from fiapx.server.identity import Verifier
from fiapx.server.processing.transitions import Transitions
from fiapx.server.processing.warming import warm
from fiapx.server.sessions import CachedSessions, EndedSessions
from fiapx.settings import Settings

ServeRole = Literal["gateway", "auth", "processing"]
SERVE_ROLES: tuple[ServeRole, ...] = ("gateway", "auth", "processing")


@contextmanager
def serving(settings: Settings, roles: Collection[ServeRole]) -> Iterator[Role]:
    """HTTP services against the configured servers; what the gateway does not run here it reaches at its addresses.

    Raises UsageError.
    """
    with tracing(settings, "+".join(roles), edge="gateway" in roles), Servers(settings) as servers:
        process = Process(settings, servers)
        process.checks |= {"redis": servers.cache.check}
        auth, verifier, mounts = _auth(process, roles)
        if "processing" in roles:
            mounts[PROCESSING] = _processing(process, verifier)
        edge: Edge | None = None
        documents: Mapping[str, dict[str, Any]] = {}
        if "gateway" in roles:
            documents = reach(process, mounts)
            edge = make_edge(process, auth, verifier)
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
        process = Process(settings, servers)
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
        process = Process(settings, servers)
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
    process: Process, roles: Collection[ServeRole]
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
    return service, verifier, {AUTH: create_auth_app(service, verifier, make_administration(engine, ended.tell))}


def _processing(process: Process, verifier: Verifier) -> ASGIApp:
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
