"""Adapters to servers of their own, as the settings name them; each is made when it is first asked for."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import structlog
from limits.storage import Storage as Counters
from pydantic import SecretStr
from sqlalchemy import Engine

from fiapx.adapters.auth_http import AuthClient
from fiapx.adapters.bus_rabbit import RabbitBus
from fiapx.adapters.cache_redis import RedisCache
from fiapx.adapters.counters import SharedCounters
from fiapx.adapters.db import Service, open_database, pending
from fiapx.adapters.partials_disk import DiskPartials
from fiapx.adapters.partials_objects import ObjectPartials
from fiapx.adapters.rabbit_topology import Topology
from fiapx.adapters.storage_disk import DiskStorage
from fiapx.adapters.storage_s3 import S3Storage
from fiapx.bootstrap.subscribers import SUBSCRIBERS
from fiapx.core.errors import Unavailable, UsageError
from fiapx.core.ports import Partials, Storage
from fiapx.core.versions import require
from fiapx.server.circuits import Circuits
from fiapx.settings import Settings

log = structlog.get_logger(__name__)

TOPOLOGY: Final = Topology(subscribers=SUBSCRIBERS)
_PAUSE: Final = 1.0
_AUTH_REST: Final = 2.0
"""Seconds: as long as one instance of auth may take to answer, so a restart is noticed soon."""
_RESERVE: Final = 16 * 1024**2


class Servers:
    """What a role's process is connected to; all is closed at the end of the `with` block.

    Raises UsageError where a setting is missing that the role needs, and for a server that is too old. Redis and
    RabbitMQ may be away: no role waits for them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.circuits = Circuits()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def database(self, service: Service) -> Engine:
        """A service's database, once it answers; that may take as long as it takes. Raises UsageError for a schema
        or a server that this program does not work with."""
        name = f"{service}_database_url"
        engine = self._engine(_given(getattr(self._settings, name), name))
        while True:
            try:
                state = pending(engine, service)
            except Unavailable as error:
                log.warning("waiting_for_database", service=service, error=error.message)
                time.sleep(_PAUSE)
                continue
            if state:
                raise UsageError(f"the {service} database {state}", hint="Run `fiapx db upgrade` first.")
            return engine

    def replica(self) -> Engine | None:
        """Of processing's database, if there is one; whether it answers is nobody's concern at the start."""
        url = self._settings.processing_read_url
        return self._engine(url.get_secret_value()) if url else None

    @cached_property
    def cache(self) -> RedisCache:
        cache = RedisCache(_given(self._settings.redis_url, "redis_url"))
        self._stack.callback(cache.close)
        require("Redis", cache.version())
        return cache

    @cached_property
    def counters(self) -> Counters:
        """For rate limits, shared by all processes."""
        shared = SharedCounters(_given(self._settings.redis_url, "redis_url"))
        self._stack.callback(shared.close)
        return shared

    @cached_property
    def bus(self) -> RabbitBus:
        url = _given(self._settings.rabbitmq_url, "rabbitmq_url")
        bus = RabbitBus(url, TOPOLOGY, deadline=self._settings.publish_deadline)
        self._stack.callback(bus.close)
        require("RabbitMQ", bus.version())
        return bus

    @cached_property
    def storage(self) -> Storage:
        """A folder that all roles share, or a bucket."""
        url = self._settings.storage_url
        if url is not None and url.startswith("s3://"):
            return self._bucket(url)
        return DiskStorage(self._folder, reserve=_RESERVE)

    @cached_property
    def partials(self) -> Partials:
        """Uploads on their way into `storage`."""
        if isinstance(self.storage, DiskStorage):
            return DiskPartials(self._folder, reserve=_RESERVE)
        return ObjectPartials(self.storage)

    @property
    def _folder(self) -> Path:
        url = self._settings.storage_url
        return self._settings.home / "storage" if url is None else Path(url.removeprefix("file://"))

    @cached_property
    def auth(self) -> AuthClient:
        """The auth service, where it runs elsewhere."""
        circuit = self.circuits.new("auth service", rest=_AUTH_REST)
        client = AuthClient(_listed(self._settings.auth_urls, "auth_urls"), circuit=circuit)
        self._stack.callback(client.close)
        return client

    def _engine(self, url: str) -> Engine:
        settings = self._settings
        engine = open_database(url, pool_size=settings.database_pool, statement_timeout=settings.statement_timeout)
        self._stack.callback(engine.dispose)
        return engine

    def _bucket(self, url: str) -> Storage:
        settings, parts = self._settings, urlsplit(url)
        scratch = settings.home / "scratch"
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        return S3Storage(
            parts.netloc,
            prefix=parts.path.strip("/"),
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key=_given(settings.s3_access_key, "s3_access_key"),
            secret_key=_given(settings.s3_secret_key, "s3_secret_key"),
            scratch=scratch,
            public_endpoint=settings.s3_public_endpoint,
            timeout=settings.s3_timeout,
            circuit=self.circuits.new("object store"),
        )


def _given(secret: SecretStr | None, name: str) -> str:
    if secret is None:
        raise UsageError(
            f"FIAPX_{name.upper()} is not set",
            hint="This role needs it; `fiapx up` runs everything in one process without.",
        )
    return secret.get_secret_value()


def _listed(urls: tuple[str, ...], name: str) -> tuple[str, ...]:
    if not urls:
        raise UsageError(f"FIAPX_{name.upper()} is not set", hint="Name the addresses of that service.")
    return urls
