"""The composition root: the only place that chooses adapters and puts services, workers and threads together."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from fiapx.adapters.bus_memory import MemoryBus
from fiapx.adapters.cache import MemoryCache
from fiapx.adapters.db import Service, migrate, open_database, sqlite_url
from fiapx.adapters.lockfile import sole_owner
from fiapx.adapters.mail import ConsoleMailer, SmtpMailer
from fiapx.adapters.storage_disk import DiskStorage
from fiapx.core.cores import granted_cores
from fiapx.core.errors import FFmpegMissing, Unavailable, UsageError
from fiapx.core.events import USER_DELETED
from fiapx.core.ports import Cache, Mailer, Storage
from fiapx.media.ffmpeg import find_ffmpeg
from fiapx.media.fingerprint import fingerprint
from fiapx.media.model import Limits
from fiapx.notify.notifier import EVENTS, Notifier
from fiapx.server.auth.api import create_auth_app
from fiapx.server.auth.keys import SigningKeys
from fiapx.server.auth.service import AuthPolicy, AuthService
from fiapx.server.auth.store import AuthStore
from fiapx.server.background import Background
from fiapx.server.gateway.app import create_gateway
from fiapx.server.identity import Verifier
from fiapx.server.processing.api.app import create_processing_app
from fiapx.server.processing.commands import Commands
from fiapx.server.processing.leases import Leases
from fiapx.server.processing.maintenance import Maintenance
from fiapx.server.processing.metrics import TERMINAL_EVENTS, ProcessingMetrics
from fiapx.server.processing.queries import Queries
from fiapx.server.processing.reads import Reads
from fiapx.server.processing.store import Store
from fiapx.server.processing.transitions import Transitions
from fiapx.server.ratelimit import AuthLimiter
from fiapx.server.relay import Relay
from fiapx.settings import Settings
from fiapx.worker.attempt import Workshop
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
    with sole_owner(home):
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
    registry, background, bus = _registry(), Background(), MemoryBus()
    storage, cache = _storage(settings.home), MemoryCache(_CACHE_BYTES)
    auth = _auth(settings, engines["auth"])
    verifier = Verifier(auth.jwks, auth)
    processing = _processing(settings, engines["processing"], storage, cache, registry, wake)
    notifier = Notifier(
        engines["notify"], _mailer(settings), public_url=settings.public_url or url, mail_from=settings.mail_from
    )
    bus.subscribe("processing", {USER_DELETED}, processing.commands.user_deleted)
    bus.subscribe("metrics", TERMINAL_EVENTS, processing.metrics.handle)
    bus.subscribe("notify", EVENTS, notifier.handle)
    decoders = max(1, granted_cores() // settings.concurrency)
    workshop = Workshop(
        processing.leases, storage, cache, _limits(settings), settings.heartbeat, settings.ffmpeg, decoders
    )
    worker = Worker(workshop, bus, concurrency=settings.concurrency)
    relays = Relay(processing.store.outbox, bus, wake), Relay(auth.outbox, bus, auth_wake)
    checks = {f"database-{name}": _answers(engine) for name, engine in engines.items()} | {
        "storage": storage.check,
        "worker": _works(worker),
        "relay": background.add("relay", relays[0].run, wake),
        "auth-relay": background.add("auth-relay", relays[1].run, auth_wake),
        "maintenance": background.add("maintenance", processing.maintenance.run),
        "notify": background.add("notify", notifier.run),
    }
    gateway = create_gateway(
        mounts={
            "/api/v1": processing.app(settings, verifier, draining),
            "/api/v1/auth": create_auth_app(auth, verifier),
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


@dataclass(frozen=True)
class _Processing:
    """The parts of the processing service."""

    store: Store
    leases: Leases
    metrics: ProcessingMetrics
    commands: Commands
    queries: Queries
    maintenance: Maintenance
    storage: Storage

    def app(self, settings: Settings, verifier: Verifier, draining: Event) -> FastAPI:
        return create_processing_app(
            self.commands,
            self.queries,
            self.storage,
            verifier,
            max_upload_bytes=settings.max_upload_bytes,
            draining=draining,
        )


def _processing(
    settings: Settings, engine: Engine, storage: Storage, cache: Cache, registry: CollectorRegistry, wake: Event
) -> _Processing:
    transitions = Transitions(engine, wake, _fingerprint(settings))
    store, reads = Store(transitions), Reads(engine)
    leases = Leases(transitions, lease=settings.lease)
    metrics = ProcessingMetrics(registry, reads)
    maintenance = Maintenance(
        store,
        leases,
        storage,
        reaper_interval=settings.reaper_interval,
        sweep_interval=settings.sweep_interval,
        sweep_age=settings.sweep_age,
    )
    commands = Commands(store, storage, on_upload=metrics.uploaded)
    return _Processing(store, leases, metrics, commands, Queries(reads, storage, cache), maintenance, storage)


def _fingerprint(settings: Settings) -> str:
    """The engine's, with the FFmpeg that it would take to help; a server without one extracts all the same."""
    try:
        return fingerprint(find_ffmpeg(settings.ffmpeg).version)
    except FFmpegMissing:
        return fingerprint()


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


def _auth(settings: Settings, engine: Engine) -> AuthService:
    store = AuthStore(engine)
    secret = settings.secret_key.get_secret_value() if settings.secret_key else _kept_secret(settings.home)
    policy = AuthPolicy(
        bcrypt_rounds=settings.bcrypt_rounds,
        access_ttl=settings.access_ttl,
        refresh_ttl=settings.refresh_ttl,
    )
    limiter = AuthLimiter(settings.login_rate, settings.register_rate)
    return AuthService(store, SigningKeys(store, secret), policy, limiter)


def _database(home: Path, service: Service) -> Engine:
    engine = open_database(sqlite_url(home / f"{service}.db"))
    try:
        migrate(engine, service)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _storage(home: Path) -> DiskStorage:
    return DiskStorage(home / "storage", reserve=_RESERVE)


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


def _mailer(settings: Settings) -> Mailer:
    if settings.smtp_host is None:
        return ConsoleMailer()
    password = settings.smtp_password.get_secret_value() if settings.smtp_password else None
    return SmtpMailer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_user,
        password,
        tls=settings.smtp_tls,
        timeout=settings.smtp_timeout,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(settings.max_frames, settings.max_pixels, settings.max_output_bytes, settings.job_timeout)


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def _answers(engine: Engine) -> Callable[[], None]:
    def check() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    return check


def _works(worker: Worker) -> Callable[[], None]:
    def check() -> None:
        if not worker.alive():
            raise Unavailable("The worker does not run.")

    return check
