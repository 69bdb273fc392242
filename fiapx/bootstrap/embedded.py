"""Every role in one process, on SQLite, disk and memory."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import structlog
from fastapi import FastAPI
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from fiapx.adapters.bus_memory import MemoryBus
from fiapx.adapters.cache import MemoryCache
from fiapx.adapters.db import Service, migrate, open_database, sqlite_url
from fiapx.adapters.lockfile import sole_owner
from fiapx.adapters.partials_disk import DiskPartials
from fiapx.adapters.storage_disk import DiskStorage
from fiapx.bootstrap.parts import (
    answers,
    make_administration,
    make_auth,
    make_notifier,
    make_processing,
    make_registry,
    make_worker,
    works,
)
from fiapx.bootstrap.subscribers import SUBSCRIBERS
from fiapx.bootstrap.tracing import tracing
from fiapx.core.errors import UsageError
from fiapx.server.auth.api import create_auth_app
from fiapx.server.background import Background
from fiapx.server.backlog import BacklogCollector
from fiapx.server.circuits import Circuits
from fiapx.server.gateway.app import create_gateway
from fiapx.server.identity import Verifier
from fiapx.server.processing.leases import Leases
from fiapx.server.processing.maintenance import Maintenance
from fiapx.server.relay import Relay
from fiapx.settings import Settings
from fiapx.worker.run import Worker

log = structlog.get_logger(__name__)

_CACHE_BYTES = 64 * 1024**2
_RESERVE = 16 * 1024**2
_ELSEWHERE = "Choose another --data."


@dataclass(frozen=True)
class EmbeddedServer:
    """Every role in one process. `draining` is set at the first signal to stop; new requests are refused then."""

    app: FastAPI
    worker: Worker
    draining: Event


@contextmanager
def embedded(settings: Settings, url: str) -> Iterator[EmbeddedServer]:
    """A whole service on SQLite, disk and memory, with its background threads; `url` is where it is reached.

    The worker is started here and stopped by the caller, who knows how much time there is. Raises AlreadyRunning, and
    UsageError for a folder that cannot be used.
    """
    home = settings.home
    _make(home)
    with sole_owner(home), tracing(settings, "fiapx", edge=True):
        engines = {name: _database(home, name) for name in _SERVICES}
        try:
            yield from _run(settings, url, engines)
        finally:
            for engine in engines.values():
                engine.dispose()


_SERVICES: tuple[Service, ...] = ("auth", "processing", "notify")


def _make(home: Path) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot keep data in {str(home)!r}: {error.strerror}", hint=_ELSEWHERE) from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise UsageError(f"cannot keep data in {str(home)!r}: it is not writable", hint=_ELSEWHERE)


def _run(settings: Settings, url: str, engines: dict[Service, Engine]) -> Iterator[EmbeddedServer]:
    draining, wake, auth_wake = Event(), Event(), Event()
    registry, background, bus = make_registry(), Background(), MemoryBus()
    folder, cache = settings.home / "storage", MemoryCache(_CACHE_BYTES)
    storage, partials = DiskStorage(folder, reserve=_RESERVE), DiskPartials(folder, reserve=_RESERVE)
    auth = make_auth(settings, engines["auth"], _secret(settings))
    verifier = Verifier(auth.jwks, auth)  # a file is asked each time, so that `fiapx users` counts at once
    processing = make_processing(settings, engines["processing"], storage, partials, cache, registry, wake)
    circuits = Circuits()
    registry.register(circuits)
    notifier = make_notifier(settings, engines["notify"], url, circuits)
    bus.subscribe("processing", SUBSCRIBERS["processing"], processing.commands.user_deleted)
    bus.subscribe("metrics", SUBSCRIBERS["metrics"], processing.metrics.handle)
    bus.subscribe("notify", SUBSCRIBERS["notify"], notifier.handle)
    worker = make_worker(settings, processing.transitions, storage, cache, bus, sharing=settings.concurrency > 1)
    registry.register(BacklogCollector({"processing": processing.store.outbox, "auth": auth.outbox}))
    relays = Relay(processing.store.outbox, bus, wake), Relay(auth.outbox, bus, auth_wake)
    checks = {f"database-{name}": answers(engine) for name, engine in engines.items()} | {
        "storage": storage.check,
        "worker": works(worker),
        "relay": background.add("relay", relays[0].run, wake),
        "auth-relay": background.add("auth-relay", relays[1].run, auth_wake),
        "reaper": background.add("reaper", processing.maintenance.reap),
        "maintenance": background.add("maintenance", processing.maintenance.tidy),
        "notify": background.add("notify", notifier.run),
    }
    gateway = create_gateway(
        mounts={
            "/api/v1": processing.app(settings, verifier, draining),
            "/api/v1/auth": create_auth_app(auth, verifier, make_administration(engines["auth"])),
        },
        checks=checks,
        registry=registry,
        draining=draining,
        body_timeout=settings.body_timeout,
    )
    _recover(processing.leases, processing.maintenance)
    background.start()
    worker.start()
    try:
        yield EmbeddedServer(gateway, worker, draining)
    finally:
        worker.stop(0)
        background.stop()
        for relay in relays:
            relay.drain()
        bus.close()


def _recover(leases: Leases, maintenance: Maintenance) -> None:
    """This process is alone with its data: whatever was running or half written ended with the process before.

    Where that cannot be recorded, such as on a full disk, it serves all the same: leases run out, sweepers come again.
    """
    try:
        while leases.reap(everything=True):
            continue
        maintenance.sweep(age=0)
    except OperationalError as error:
        log.warning("recovery_postponed", error=str(error.orig))


def _secret(settings: Settings) -> str:
    return settings.secret_key.get_secret_value() if settings.secret_key else _kept_secret(settings.home)


def _database(home: Path, service: Service) -> Engine:
    engine = open_database(sqlite_url(home / f"{service}.db"))
    try:
        migrate(engine, service)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _kept_secret(home: Path) -> str:
    """The secret that encrypts the signing keys; made once and readable by this user alone."""
    path = home / "secret.key"
    if not path.exists():
        fresh = path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    return path.read_bytes().decode(errors="replace")  # a wrong secret is told later, whatever it is made of
