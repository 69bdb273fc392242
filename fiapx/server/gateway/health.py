"""Is the server alive, is it ready, and how is each thing it depends on?"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Final, Literal, Self, get_args

import structlog
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from fiapx.core.errors import FiapxError, Unavailable
from fiapx.server.heartbeat import NobodyKnows
from fiapx.server.http import create_app, error_response

log = structlog.get_logger(__name__)

HealthCheck = Callable[[], None]
"""Returns when a dependency works, and raises when it does not. May block."""

DEADLINE: Final = 1.5
"""Seconds that an answer waits for the checks: monitors give up after two."""


Status = Literal["failing", "timeout", "unknown", "ok"]
"""The worst first."""


class CheckResult(BaseModel):
    status: Status
    latency_ms: float
    detail: str | None = None


Checks = dict[str, CheckResult]


class HealthReport(BaseModel):
    status: Literal["ok", "failing", "draining"]
    checks: Checks

    @classmethod
    def of(cls, checks: Checks, *, draining: bool) -> Self:
        healthy = not any(map(is_bad, checks.values()))
        return cls(status="draining" if draining else "ok" if healthy else "failing", checks=checks)

    def joined_by(self, others: Checks) -> Self:
        """A report of more."""
        return self.of(merge(self.checks, others), draining=self.status == "draining")


def is_bad(result: CheckResult) -> bool:
    """What nobody can tell is not held against anybody: whatever hides it is a failing check of its own."""
    return result.status in {"failing", "timeout"}


def merge(some: Checks, others: Checks) -> Checks:
    """Both; where a name is in both, the worse result."""
    both = {name: min(some[name], others[name], key=_goodness) for name in some.keys() & others.keys()}
    return {**some, **others, **both}


def _goodness(result: CheckResult) -> int:
    return get_args(Status).index(result.status)


class Health:
    """Runs all checks at once, each on its own thread, and waits for them no longer than the deadline.

    `bearable` names those that may fail while the server still answers everybody: it stays ready then.
    """

    def __init__(
        self,
        checks: Mapping[str, HealthCheck],
        draining: threading.Event,
        deadline: float = DEADLINE,
        *,
        bearable: Collection[str] = (),
    ) -> None:
        self._probes = {name: _Probe(name, check) for name, check in checks.items()}
        self._needed = {name: probe for name, probe in self._probes.items() if name not in bearable}
        self._draining = draining
        self._deadline = deadline

    async def report(self) -> HealthReport:
        """Of everything."""
        return await self._ask(self._probes)

    async def readiness(self) -> HealthReport:
        """Of what nobody could be answered without."""
        return await self._ask(self._needed)

    async def _ask(self, probes: Mapping[str, _Probe]) -> HealthReport:
        """Polls, so that neither a full thread pool nor a hanging check can delay the answer."""
        started = time.monotonic()
        running = {name: probe.start() for name, probe in probes.items()}
        while not all(future.done() for future in running.values()) and time.monotonic() - started < self._deadline:
            await asyncio.sleep(0.005)
        waited = round((time.monotonic() - started) * 1000, 1)
        late = CheckResult(status="timeout", latency_ms=waited, detail="No answer yet.")
        checks = {name: future.result() if future.done() else late for name, future in running.items()}
        return HealthReport.of(checks, draining=self._draining.is_set())


class _Probe:
    """One check. While it hangs it is not started again, so hanging checks cost one thread each."""

    def __init__(self, name: str, check: HealthCheck) -> None:
        self._name = name
        self._check = check
        self._lock = threading.Lock()
        self._running: Future[CheckResult] | None = None

    def start(self) -> Future[CheckResult]:
        with self._lock:
            if self._running is None or self._running.done():
                self._running = Future()
                threading.Thread(
                    target=self._run, args=(self._running,), name=f"health-{self._name}", daemon=True
                ).start()
            return self._running

    def _run(self, future: Future[CheckResult]) -> None:
        started = time.perf_counter()
        status: Status = "ok"
        detail = None
        try:
            self._check()
        except NobodyKnows as error:
            status, detail = "unknown", error.message
        except FiapxError as error:
            status, detail = "failing", error.message
        except Exception as error:  # noqa: BLE001 - whatever it is, the thing does not work
            log.warning("health_check_failed", check=self._name, error=repr(error))
            status, detail = "failing", "The check failed; the server's log says why."
        latency = round((time.perf_counter() - started) * 1000, 1)
        future.set_result(CheckResult(status=status, latency_ms=latency, detail=detail))


async def _nobody() -> Checks:
    return {}


def create_health_app(health: Health, neighbours: Callable[[], Awaitable[Checks]] = _nobody) -> FastAPI:
    """``/live``, ``/ready`` and ``/all``. An app of its own, so that a wrong method is 405, and not the next app's 404.

    Load balancers like to ask by HEAD. What `neighbours` tells belongs to ``/all`` alone: a gateway is ready whether or
    not the services behind it are.
    """
    app = create_app("fiapx health")

    @app.head("/live", include_in_schema=False)
    @app.get("/live", tags=["health"])
    async def live() -> dict[str, str]:
        """The process serves requests."""
        return {"status": "ok"}

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", tags=["health"], responses={503: {"description": "Not ready"}})
    async def ready() -> Response:
        """Requests are welcome: all that they need works, and the server is not shutting down."""
        report = await health.readiness()
        if report.status == "ok":
            return JSONResponse({"status": "ok"})
        bad = [name for name, check in report.checks.items() if is_bad(check)]
        why = "shutting down" if report.status == "draining" else ", ".join(bad)
        return error_response(Unavailable(f"Not ready: {why}."))

    @app.get("/all", tags=["health"], response_model=HealthReport, responses={503: {"model": HealthReport}})
    async def everything() -> Response:
        """Each dependency and role by name."""
        report, others = await asyncio.gather(health.report(), neighbours())
        report = report.joined_by(others)
        return JSONResponse(report.model_dump(), 200 if report.status == "ok" else 503)

    return app
