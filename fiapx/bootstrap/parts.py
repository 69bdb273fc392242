"""Services put together from adapters that are handed in: the same wherever they run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from threading import Event
from typing import Final

from fastapi import FastAPI
from limits.storage import Storage as Counters
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from sqlalchemy import Engine, text

from fiapx.adapters.mail import PATIENCE, ConsoleMailer, SmtpMailer
from fiapx.bootstrap.instance import instance
from fiapx.core.circuit import Circuit
from fiapx.core.cores import granted_cores
from fiapx.core.errors import FFmpegMissing, Unavailable
from fiapx.core.ports import Bus, Cache, Mailer, Partials, Storage
from fiapx.media.ffmpeg import find_ffmpeg
from fiapx.media.fingerprint import fingerprint
from fiapx.media.model import Limits
from fiapx.notify.notifier import Notifier
from fiapx.notify.render import Renderer
from fiapx.server.aside import CacheAside
from fiapx.server.auth.administration import Administration
from fiapx.server.auth.directory import SqlDirectory
from fiapx.server.auth.keys import SigningKeys
from fiapx.server.auth.service import AuthPolicy, AuthService
from fiapx.server.auth.store import AuthStore
from fiapx.server.circuits import Circuits
from fiapx.server.identity import Verifier
from fiapx.server.processing.admission import Admission
from fiapx.server.processing.api.app import create_processing_app
from fiapx.server.processing.commands import Commands
from fiapx.server.processing.leases import Leases
from fiapx.server.processing.lists import ListTtls
from fiapx.server.processing.maintenance import Maintenance
from fiapx.server.processing.metrics import ProcessingMetrics
from fiapx.server.processing.parts import Parts
from fiapx.server.processing.queries import Queries
from fiapx.server.processing.reads import Reads
from fiapx.server.processing.replica import ReplicaReads
from fiapx.server.processing.retention import Retention
from fiapx.server.processing.store import Store
from fiapx.server.processing.transitions import Transitions
from fiapx.server.processing.uploads.service import Uploads
from fiapx.server.processing.uploads.store import UploadStore
from fiapx.server.ratelimit import AuthLimiter
from fiapx.settings import Settings
from fiapx.worker.attempt import Workshop
from fiapx.worker.run import Worker
from fiapx.worker.split import Sharing

_SPARE: Final = 15
"""Seconds for what a mail takes beside its delivery."""


@dataclass(frozen=True)
class Processing:
    """What the processing service consists of."""

    transitions: Transitions
    store: Store
    leases: Leases
    metrics: ProcessingMetrics
    commands: Commands
    queries: Queries
    uploads: Uploads
    maintenance: Maintenance
    storage: Storage

    def app(self, settings: Settings, verifier: Verifier, draining: Event) -> FastAPI:
        return create_processing_app(
            self.commands,
            self.queries,
            self.uploads,
            self.storage,
            verifier,
            max_upload_bytes=settings.max_upload_bytes,
            draining=draining,
            presign=settings.s3_presign,
        )


def make_processing(
    settings: Settings,
    engine: Engine,
    storage: Storage,
    partials: Partials,
    cache: Cache,
    registry: CollectorRegistry,
    wake: Event,
    replica: Engine | None = None,
) -> Processing:
    """Everything behind the routes of processing. What users read may come from a `replica` of the `engine`."""
    transitions = Transitions(engine, wake, engine_fingerprint(settings), cache)
    store = Store(transitions)
    reads = ReplicaReads(engine, replica, cache, registry) if replica else Reads(engine)
    leases = Leases(transitions, lease=settings.lease)
    metrics = ProcessingMetrics(registry, reads)
    admission = Admission(Reads(engine), user_jobs=settings.user_jobs, queue_jobs=settings.queue_jobs)
    commands = Commands(store, storage, partials, admission, on_upload=metrics.uploaded)
    upload_store = UploadStore(transitions, store, settings.upload_ttl)
    uploads = Uploads(upload_store, commands, storage, partials, on_upload=metrics.uploaded)
    maintenance = Maintenance(
        store,
        leases,
        uploads,
        storage,
        reaper_interval=settings.reaper_interval,
        sweep_interval=settings.sweep_interval,
        sweep_age=settings.sweep_age,
        retention=Retention(transitions, settings.keep) if settings.keep else None,
    )
    ttls = ListTtls(settings.cache_ttl_videos, settings.cache_ttl_jobs)
    queries = Queries(reads, storage, cache, aside=CacheAside(cache, registry), ttls=ttls)
    return Processing(transitions, store, leases, metrics, commands, queries, uploads, maintenance, storage)


def engine_fingerprint(settings: Settings) -> str:
    """The engine's, with the FFmpeg that it would take to help; a server without one extracts all the same."""
    try:
        return fingerprint(find_ffmpeg(settings.ffmpeg).version)
    except FFmpegMissing:
        return fingerprint()


def make_auth(
    settings: Settings,
    engine: Engine,
    secret: str,
    counters: Counters | None = None,
    on_ended: Callable[[Collection[str]], object] = lambda _session_ids: None,
) -> AuthService:
    """The auth service; `on_ended` is told of sessions that end. Raises UsageError for a wrong secret."""
    store = AuthStore(engine)
    policy = AuthPolicy(
        bcrypt_rounds=settings.bcrypt_rounds,
        access_ttl=settings.access_ttl,
        refresh_ttl=settings.refresh_ttl,
    )
    limiter = AuthLimiter(settings.login_rate, settings.register_rate, counters)
    return AuthService(store, SigningKeys(store, secret), policy, limiter, on_ended=on_ended)


def make_administration(
    engine: Engine, on_ended: Callable[[Collection[str]], object] = lambda _session_ids: None
) -> Administration:
    """What administrators may do to accounts; `on_ended` is told of sessions that end."""
    return Administration(SqlDirectory(engine), on_ended=on_ended)


def make_notifier(settings: Settings, engine: Engine, url: str, circuits: Circuits) -> Notifier:
    """Mails with links to the public address, or else to `url`. Raises UsageError for templates that are not there."""
    renderer = Renderer(
        public_url=settings.public_url or url,
        mail_from=settings.mail_from,
        language=settings.mail_language,
        templates=settings.mail_templates,
    )
    lease = settings.smtp_timeout * PATIENCE + _SPARE
    return Notifier(engine, _mailer(settings, circuits), renderer, lease=lease)


def make_worker(
    settings: Settings, transitions: Transitions, storage: Storage, cache: Cache, bus: Bus, *, sharing: bool
) -> Worker:
    """Its jobs share the cores that this process may use. `sharing`: there are others that may help with large jobs."""
    leases = Leases(transitions, lease=settings.lease, worker=instance())
    decoders = max(1, (settings.cores or granted_cores()) // settings.concurrency)
    limits = Limits(settings.max_frames, settings.max_pixels, settings.max_output_bytes, settings.job_timeout)
    shared = _sharing(settings, transitions, storage) if sharing and settings.part else None
    workshop = Workshop(leases, storage, cache, limits, settings.heartbeat, settings.ffmpeg, decoders, shared)
    return Worker(workshop, bus, concurrency=settings.concurrency)


def _sharing(settings: Settings, transitions: Transitions, storage: Storage) -> Sharing:
    parts = Parts(transitions, lease=settings.lease, fingerprint=fingerprint())
    return Sharing(parts, storage, settings.heartbeat, settings.part)


def make_smtp_mailer(settings: Settings, circuit: Circuit | None = None) -> SmtpMailer:
    """For the mail server of the settings."""
    return SmtpMailer(
        settings.smtp_host or "localhost",
        settings.smtp_port,
        settings.smtp_user,
        settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        tls=settings.smtp_tls,
        timeout=settings.smtp_timeout,
        circuit=circuit,
    )


def _mailer(settings: Settings, circuits: Circuits) -> Mailer:
    if settings.smtp_host is None:
        return ConsoleMailer()
    return make_smtp_mailer(settings, circuits.new("mail server", rest=30))


def make_registry() -> CollectorRegistry:
    """With the metrics of this process."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def answers(*engines: Engine) -> Callable[[], None]:
    """A health check of databases, all of them."""

    def check() -> None:
        for engine in engines:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))

    return check


def works(worker: Worker) -> Callable[[], None]:
    """A health check of a worker's threads."""

    def check() -> None:
        if not worker.alive():
            raise Unavailable("The worker does not run.")

    return check
