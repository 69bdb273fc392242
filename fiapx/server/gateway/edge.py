"""What a gateway adds when it is the edge of a system, and services verify and limit little by themselves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.types import ASGIApp

from fiapx.core.ports import Cache
from fiapx.server.gateway.answers import Answers, CacheCounters
from fiapx.server.gateway.compression import Compression
from fiapx.server.gateway.cors import Cors
from fiapx.server.gateway.gate import PUBLIC, Gate
from fiapx.server.gateway.middleware import HttpsOnly
from fiapx.server.gateway.rates import Rates
from fiapx.server.gateway.throttle import Throttle
from fiapx.server.identity import Verifier


@dataclass(frozen=True)
class Edge:
    """Times are in seconds, `upload_bandwidth` in bytes a second (0: no bound)."""

    verifier: Verifier
    """For requests to all paths of the API that are not `public`."""
    known: Verifier | None = None
    """The same for sessions that can be told good or ended without auth; it raises Stranger for others."""
    public: Collection[str] = PUBLIC
    rates: Rates | None = None
    parallel_uploads: int = 2
    """Of one user; a further one waits for its turn, up to `upload_patience`."""
    upload_patience: float = 60
    upload_bandwidth: int = 0
    cache: Cache | None = None
    """For answers of services elsewhere."""
    stale: float = 300
    """How old an answer may be that stands in for a service that does not work."""
    origins: Collection[str] = ()
    """Other web pages that may use the API."""
    https: bool = False
    """Clients come by HTTPS alone."""

    def before(self, service: ASGIApp, counters: CacheCounters) -> ASGIApp:
        """A service elsewhere, with what is kept of its answers."""
        return service if self.cache is None else Answers(service, self.cache, counters, self.stale)

    def add_inner(self, app: FastAPI) -> None:
        """Middleware that knows who asks."""
        app.add_middleware(
            Throttle, parallel=self.parallel_uploads, patience=self.upload_patience, bandwidth=self.upload_bandwidth
        )
        app.add_middleware(Gate, verifier=self.verifier, public=self.public, rates=self.rates, known=self.known)

    def add_outer(self, app: FastAPI) -> None:
        """Middleware that touches every answer."""
        if self.https:
            app.add_middleware(HttpsOnly)
        app.add_middleware(Compression)
        if self.origins:
            app.add_middleware(Cors, origins=self.origins)
