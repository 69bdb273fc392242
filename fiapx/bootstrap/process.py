"""One process of a distributed service: what all roles in it share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Final, Protocol

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from starlette.types import ASGIApp

from fiapx.bootstrap.instance import instance
from fiapx.bootstrap.parts import answers, make_registry
from fiapx.bootstrap.servers import Servers
from fiapx.server.background import Background
from fiapx.server.backlog import BacklogCollector
from fiapx.server.gateway.health import HealthCheck
from fiapx.server.heartbeat import Heartbeat
from fiapx.server.ops import create_ops_app
from fiapx.server.outbox import Outbox
from fiapx.server.relay import Relay
from fiapx.settings import Settings

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
class Process:
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
