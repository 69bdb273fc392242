"""Health of everything, asked at the gateway: exactly what does not work is named."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from fiapx.adapters.cache import MemoryCache
from fiapx.core.errors import Unavailable
from fiapx.server.heartbeat import Heartbeat, alive
from fiapx.server.proxy import Upstream
from tests.api.upstreams import Service, blackhole, gateway, served
from tests.processing_kit import eventually

Check = Callable[[], None]


class AwayCache(MemoryCache):
    """Finds nothing, and says so when asked."""

    def get(self, key: str) -> bytes | None:
        return None

    def check(self) -> None:
        raise Unavailable


def fine() -> None:
    """Works."""


def report(**failing: str) -> dict[str, Any]:
    checks = {
        name: {"status": failing.get(name, "ok"), "latency_ms": 1.0, "detail": None}
        for name in ("postgresql", "storage")
    }
    return {"status": "failing" if failing else "ok", "checks": checks}


def ask(upstreams: dict[str, list[str]]) -> tuple[int, dict[str, str], float]:
    """The status, the named results, and the seconds it took. No address of a service is told."""
    mounts = {f"/api/v1/{name}": Upstream(name, urls) for name, urls in upstreams.items()}
    with gateway(mounts, checks={"redis": fine}) as front, httpx.Client() as client:
        assert client.get(front.url + "/api/v1/health/ready").status_code == 200  # whatever happens to others
        started = time.monotonic()
        answer = client.get(front.url + "/api/v1/health/all")
        seconds = time.monotonic() - started
    assert "http" not in answer.text
    return answer.status_code, {name: check["status"] for name, check in answer.json()["checks"].items()}, seconds


def own(checks: dict[str, Check]) -> tuple[int, dict[str, str]]:
    with gateway({}, checks=checks) as front:
        answer = httpx.get(front.url + "/api/v1/health/all")
    return answer.status_code, {name: check["status"] for name, check in answer.json()["checks"].items()}


def test_all_is_well() -> None:
    service = Service()
    service.health = report()
    with served(service) as one, served(service) as two:
        status, checks, _ = ask({"auth": [one.url], "processing": [one.url, two.url]})
    assert status == 200
    assert checks == {"redis": "ok", "auth": "ok", "processing": "ok", "postgresql": "ok", "storage": "ok"}


def test_what_services_depend_on_is_named_and_not_they() -> None:
    good, bad = Service(), Service()
    good.health, bad.health = report(), report(postgresql="failing")
    with served(good) as one, served(bad) as two:
        status, checks, _ = ask({"auth": [one.url], "processing": [two.url]})
    assert (status, [name for name, state in checks.items() if state != "ok"]) == (503, ["postgresql"])


@pytest.mark.parametrize("gone", ["stopped", "silent", "strange"])
def test_a_service_that_does_not_answer_is_named_within_two_seconds(gone: str) -> None:
    service, strange = Service(), Service()
    service.health, strange.health = report(), {"status": "ok", "checks": "none"}
    with ExitStack() as stack:
        one = stack.enter_context(served(service))
        address = stack.enter_context(blackhole())
        if gone == "stopped":
            with served(service) as stopped:
                address = stopped.url
        elif gone == "strange":
            address = stack.enter_context(served(strange)).url
        status, checks, seconds = ask({"auth": [one.url], "processing": [address]})
    assert (status, [name for name, state in checks.items() if state != "ok"]) == (503, ["processing"])
    assert seconds < 2


def test_one_instance_of_two_is_enough() -> None:
    service = Service()
    service.health = report()
    with served(service) as stopped:
        address = stopped.url
    with served(service) as one:
        status, checks, _ = ask({"processing": [one.url, address]})
    assert (status, checks["processing"]) == (200, "ok")


def test_roles_show_themselves_by_heartbeats() -> None:
    cache, stop = MemoryCache(), threading.Event()
    check = alive(cache, "worker")
    with pytest.raises(Unavailable, match="No worker"):
        check()
    beating = threading.Thread(target=Heartbeat(cache, "worker", "host-1", interval=0.1).run, args=(stop,))
    beating.start()
    eventually(lambda: cache.get("heartbeat:worker") == b"host-1")
    assert own({"worker": check, "notify": alive(cache, "notify")}) == (503, {"worker": "ok", "notify": "failing"})
    stop.set()
    beating.join()
    eventually(lambda: cache.get("heartbeat:worker") is None)
    with pytest.raises(Unavailable, match="No worker"):
        check()


def test_without_the_cache_roles_are_unknown_and_not_failing() -> None:
    def redis() -> None:
        raise Unavailable("Redis does not answer.")

    assert own({"redis": redis, "worker": alive(AwayCache(), "worker")}) == (
        503, {"redis": "failing", "worker": "unknown"}
    )  # fmt: skip
    assert own({"worker": alive(AwayCache(), "worker")}) == (200, {"worker": "unknown"})
