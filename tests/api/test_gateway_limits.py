"""Rates of requests, and uploads that wait for each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import structlog
from limits.storage import MemoryStorage

from fiapx.core.ports import Identity
from fiapx.server.gateway.edge import Edge
from fiapx.server.gateway.rates import Rates
from fiapx.server.identity import Verifier
from fiapx.server.proxy import Upstream
from tests.api.upstreams import Service, gateway, served
from tests.processing_kit import ANA, BOB, Tokens, eventually

MIB = 1024 * 1024
TOKENS = Tokens()


def bearer(user: Identity = ANA) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS.token(user)}"}


@contextmanager
def limited(service: Service, **options: Any) -> Iterator[str]:
    edge = Edge(Verifier(TOKENS.jwks, TOKENS), **options)
    with (
        served(service) as one,
        gateway({"/api/v1": Upstream("x", [one.url])}, edge=edge, trusted_proxies=["127.0.0.1"]) as front,
    ):
        yield front.url


def test_gateways_that_share_a_storage_count_together() -> None:
    storage = MemoryStorage()
    rates = [Rates("10/minute", "4/minute", storage) for _ in range(2)]
    with limited(Service(), rates=rates[0]) as one, limited(Service(), rates=rates[1]) as two:
        answers = [httpx.get(url + "/api/v1/things/1", headers=bearer()) for url in [one, two] * 5]
        assert {answer.status_code for answer in answers} == {200}
        assert [answer.headers["ratelimit-remaining"] for answer in answers] == [str(left) for left in range(9, -1, -1)]
        for url in (one, two):
            eleventh = httpx.get(url + "/api/v1/things/1", headers=bearer())
            assert (eleventh.status_code, eleventh.json()["code"]) == (429, "rate_limited")
            assert eleventh.headers["ratelimit-limit"] == "10"
            assert 0 < int(eleventh.headers["retry-after"]) <= 60
            assert 0 < int(eleventh.headers["ratelimit-reset"]) <= 60
        assert httpx.get(one + "/api/v1/things/1", headers=bearer(BOB)).status_code == 200


def test_addresses_without_a_log_in_are_counted_each_and_probes_are_not() -> None:
    service = Service()
    with limited(service, rates=Rates("10/minute", "3/minute")) as url, httpx.Client(base_url=url) as client:
        codes = [client.get("/api/v1/things/1").status_code for _ in range(5)]
        assert codes == [401, 401, 401, 429, 429]
        assert client.post("/api/v1/auth/token").status_code == 429
        assert client.post("/api/v1/auth/token", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 404
        assert {client.get("/api/v1/health/live").status_code for _ in range(5)} == {200}
        assert client.get("/api/v1/things/1", headers=bearer()).status_code == 200  # a user has a count of their own
    assert len(service.asked) == 2


def test_a_storage_that_fails_refuses_nobody() -> None:
    class Away(MemoryStorage):
        def incr(self, key: str, expiry: float, amount: int = 1) -> int:
            raise OSError("no route to host")

    with limited(Service(), rates=Rates("1/minute", "1/minute", Away())) as url, structlog.testing.capture_logs():
        assert {httpx.get(url + "/api/v1/things/1", headers=bearer()).status_code for _ in range(3)} == {200}


def test_a_third_upload_waits_for_its_turn() -> None:
    service = Service()
    body, headers = b"x" * 2 * MIB, {"Content-Type": "video/mp4"}
    release = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield body
        release.wait(10)
        yield body

    with limited(service, parallel_uploads=2) as url, ThreadPoolExecutor(4) as pool:

        def upload(user: Identity) -> httpx.Response:
            return httpx.post(url + "/api/v1/videos", content=slowly(), headers=headers | bearer(user), timeout=20)

        first = [pool.submit(upload, ANA) for _ in range(2)]
        eventually(lambda: len(service.asked) == 2)
        third = pool.submit(upload, ANA)
        assert httpx.post(url + "/api/v1/videos", content=body, headers=headers | bearer(BOB)).status_code == 200
        assert httpx.get(url + "/api/v1/things/1", headers=bearer()).status_code == 200
        assert (len(service.asked), third.done()) == (4, False)
        release.set()
        assert [upload.result().json()["size"] for upload in [*first, third]] == [4 * MIB] * 3


def test_a_turn_that_does_not_come_is_429() -> None:
    release = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"x" * 2 * MIB
        release.wait(10)

    service, headers = Service(), {"Content-Type": "video/mp4"} | bearer()
    with limited(service, parallel_uploads=1, upload_patience=0.2) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, url + "/api/v1/videos", content=slowly(), headers=headers, timeout=20)
        eventually(lambda: len(service.asked) == 1)
        answer = httpx.post(url + "/api/v1/videos", content=b"x" * 2 * MIB, headers=headers, timeout=20)
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert answer.headers["retry-after"]
        release.set()
        assert first.result().status_code == 200


def test_uploads_of_a_user_share_a_bandwidth() -> None:
    headers = {"Content-Type": "video/mp4"} | bearer()
    with limited(Service(), upload_bandwidth=4 * MIB) as url, ThreadPoolExecutor(2) as pool:
        started = time.monotonic()
        uploads = [
            pool.submit(httpx.post, url + "/api/v1/videos", content=b"x" * 2 * MIB, headers=headers, timeout=20)
            for _ in range(2)
        ]
        assert [upload.result().status_code for upload in uploads] == [200, 200]
        assert 0.7 < time.monotonic() - started < 10
