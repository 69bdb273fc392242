"""Answers that the gateway keeps: fresh ones, old ones when a service fails, and those the client has already."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest
from prometheus_client import CollectorRegistry

from fiapx.adapters.cache import MemoryCache
from fiapx.core.ports import Identity
from fiapx.server.gateway.edge import Edge
from fiapx.server.identity import Verifier
from fiapx.server.proxy import Upstream
from tests.api.upstreams import Served, Service, gateway, served
from tests.processing_kit import ANA, BOB, Tokens, eventually

THING = "/api/v1/things/1"


@dataclass
class Front:
    """A gateway with a cache before one service."""

    url: str
    service: Service
    server: Served
    cache: MemoryCache
    tokens: Tokens
    registry: CollectorRegistry

    def get(self, path: str = THING, user: Identity = ANA, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Authorization": f"Bearer {self.tokens.token(user)}", **named}
        return httpx.get(self.url + path, headers=headers, timeout=20)

    def version(self, number: int, user: Identity = ANA) -> None:
        self.cache.raise_to(f"version:{user.user_id}", number, 60)

    def counted(self, result: str) -> float:
        return self.registry.get_sample_value("fiapx_gateway_cache_answers_total", {"result": result}) or 0


@pytest.fixture
def front() -> Iterator[Front]:
    service, cache, tokens, registry = Service(), MemoryCache(), Tokens(), CollectorRegistry()
    service.answer_headers = {"Fiapx-Cache": "60"}
    edge = Edge(Verifier(tokens.jwks, tokens), cache=cache)
    server = Served(service)
    upstream = Upstream("things", [server.url], eject_after=1, probe_interval=0.05)
    with gateway({"/api/v1": upstream}, edge=edge, registry=registry) as served_front:
        yield Front(served_front.url, service, server, cache, tokens, registry)
        server.stop()


def test_a_kept_answer_saves_a_request_until_the_user_writes(front: Front) -> None:
    front.version(1)
    first, second = front.get(), front.get()
    assert (first.headers["cache-status"], second.headers["cache-status"]) == ("fiapx; fwd=miss", "fiapx; hit")
    assert first.json() == second.json() == {"name": "1", "by": "a"}
    assert (first.headers["cache-control"], int(second.headers["age"]) < 5) == ("private, no-cache", True)
    assert not [answer for answer in (first, second) if "fiapx-cache" in answer.headers]
    assert len(front.service.asked) == 1
    front.service.name = "b"
    front.version(2)
    assert front.get().json()["by"] == "b"
    assert (front.counted("hit"), front.counted("miss")) == (1, 2)


def test_nobody_gets_what_is_another_s(front: Front) -> None:
    for user in (ANA, BOB):
        front.version(1, user)
        front.get(user=user)
        front.get(THING + "?page=2", user=user)
    assert len(front.service.asked) == 4


def test_nothing_is_kept_without_a_version_or_leave(front: Front) -> None:
    assert {front.get().headers["cache-status"] for _ in range(2)} == {"fiapx; fwd=miss"}
    front.version(1)
    front.service.answer_headers = {}
    assert {front.get().headers["cache-status"] for _ in range(2)} == {"fiapx; fwd=miss"}
    front.service.answer_headers, front.service.status = {"Fiapx-Cache": "60"}, 404
    assert {front.get().status_code for _ in range(2)} == {404}
    assert len(front.service.asked) == 6


def test_an_ended_session_gets_nothing_kept(front: Front) -> None:
    front.version(1)
    front.get()
    front.tokens.ended.add(ANA.session_id)
    assert front.get().status_code == 401


def test_of_many_who_ask_at_once_one_asks_the_service(front: Front) -> None:
    front.version(1)
    front.service.answer_headers = {"Fiapx-Cache": "60"}
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(front.get, "/api/v1/slow") for _ in range(8)]
        eventually(lambda: len(front.service.asked) == 1)
        front.service.hold.set()
        assert {answer.result().status_code for answer in answers} == {200}
    assert len(front.service.asked) == 1


def test_a_client_that_has_it_already_gets_304(front: Front) -> None:
    for number in (0, 1, 1):  # unkept, kept, found
        front.version(number)
        tag = front.get().headers["etag"]
        again = front.get(If_None_Match=f'"other", {tag}')
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert front.get(If_None_Match='"other"').status_code == 200


def test_while_a_service_is_away_its_last_good_answers_are_told(front: Front) -> None:
    good = front.get()
    assert front.get("/api/v1/text?kind=application/zip&size=8").status_code == 200
    front.server.stop()
    for _ in range(3):
        stale = front.get()
        assert (stale.status_code, stale.json()) == (200, good.json())
        assert stale.headers["cache-status"] == "fiapx; hit; detail=stale"
        assert int(stale.headers["age"]) >= 0
    for path, user in (("/api/v1/things/2", ANA), (THING, BOB), ("/api/v1/text?kind=application/zip&size=8", ANA)):
        refused = front.get(path, user)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert refused.headers["retry-after"]
    upstream = {"upstream": "things", "instance": front.server.url}
    assert front.registry.get_sample_value("fiapx_gateway_breaker_state", upstream) == 1
    with served(Service("b"), port=front.server.port):
        eventually(lambda: front.get().json()["by"] == "b")


def test_other_answers_stream_through(front: Front) -> None:
    front.version(1)
    with httpx.stream(
        "GET", front.url + "/api/v1/events", headers={"Authorization": f"Bearer {front.tokens.token(ANA)}"}
    ) as answer:
        assert next(answer.iter_raw()) == b"data: tick\n\n"
    large = front.get("/api/v1/text?kind=application/json&size=4000000", Accept_Encoding="identity")
    assert len(large.content) == 4_000_000
    part = front.get("/api/v1/download?size=65536", Range="bytes=0-1")
    assert "cache-status" not in part.headers
    assert threading.active_count() < 50
