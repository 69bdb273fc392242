"""What clients see when instances of a service stop, hang or fail, and that others are left alone."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from fiapx.core.breaker import Breaker, State
from fiapx.server.proxy import Upstream
from tests.api.upstreams import Served, Service, blackhole, gateway, served
from tests.processing_kit import eventually


def test_two_instances_share_the_work() -> None:
    first, second = Service("a"), Service("b")
    with (
        served(first) as one,
        served(second) as two,
        gateway({"/api/v1": Upstream("x", [one.url, two.url])}) as front,
        httpx.Client(base_url=front.url) as client,
    ):
        answers = Counter(client.get("/api/v1/things/1").json()["by"] for _ in range(50))
    assert 20 <= answers["a"] <= 30


def test_stopping_one_of_two_instances_fails_no_get() -> None:
    with served(Service("a")) as one, ExitStack() as stack:
        two = Served(Service("b"))
        upstream = Upstream("x", [one.url, two.url], probe_interval=0.05)
        front = stack.enter_context(gateway({"/api/v1": upstream}))
        client = stack.enter_context(httpx.Client(base_url=front.url))
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(client.get, "/api/v1/things/1") for _ in range(200)]
            two.stop()
            answers += [pool.submit(client.get, "/api/v1/things/1") for _ in range(100)]
            assert {answer.result().status_code for answer in answers} == {200}
        assert client.post("/api/v1/things/1").status_code == 200  # where connecting fails, nothing has been sent
        with served(Service("b"), port=two.port):
            eventually(lambda: client.get("/api/v1/things/1").json()["by"] == "b")


def test_a_get_refused_by_an_instance_that_shuts_down_is_answered_by_the_other() -> None:
    good, leaving = Service("a"), Service("b")
    leaving.status, leaving.answer_headers = 503, {"Retry-After": "1"}
    upstreams = served(good), served(leaving)
    with upstreams[0] as one, upstreams[1] as two, gateway({"/api/v1": Upstream("x", [one.url, two.url])}) as front:
        assert {httpx.get(front.url + "/api/v1/things/1").status_code for _ in range(10)} == {200}
        assert {httpx.post(front.url + "/api/v1/things/1").status_code for _ in range(10)} == {200, 503}


def test_the_circuit_opens_after_timeouts_and_closes_by_itself() -> None:
    service = Service()
    with ExitStack() as stack:
        silent = stack.enter_context(blackhole())
        upstream = Upstream("x", [silent], header_timeout=0.5, probe_interval=0.1, eject_after=3)
        front = stack.enter_context(gateway({"/api/v1": upstream}))
        with httpx.Client(base_url=front.url, timeout=10) as client:
            assert [client.post("/api/v1/things/1").status_code for _ in range(3)] == [503] * 3
            assert upstream.state is State.OPEN
            started = time.monotonic()
            answer = client.get("/api/v1/things/1")
            assert time.monotonic() - started < 0.5
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
    with served(service) as one:
        upstream = Upstream("x", [one.url], probe_interval=0.1)
        with gateway({"/api/v1": upstream}) as front, httpx.Client(base_url=front.url) as client:
            service.status = 502
            assert [client.get("/api/v1/things/1").status_code for _ in range(4)] == [502, 502, 502, 503]
            service.status = 200
            eventually(lambda: client.get("/api/v1/things/1").status_code == 200)
            assert upstream.state is State.CLOSED


@pytest.mark.parametrize(("status", "headers"), [(500, {}), (503, {"Retry-After": "5"}), (404, {}), (429, {})])
def test_other_errors_open_no_circuit(status: int, headers: dict[str, str]) -> None:
    service = Service()
    service.status, service.answer_headers = status, headers
    with served(service) as one, gateway({"/api/v1": Upstream("x", [one.url])}) as front:
        assert {httpx.get(front.url + "/api/v1/things/1").status_code for _ in range(10)} == {status}
    assert len(service.asked) == 10


def test_a_silent_service_leaves_others_alone() -> None:
    with blackhole() as silent, served(Service("auth")) as auth:
        mounts = {
            "/api/v1/things": Upstream("auth", [auth.url]),
            "/api/v1": Upstream("processing", [silent], header_timeout=20, bulkhead=16, patience=0.2),
        }
        with gateway(mounts) as front, ThreadPoolExecutor(200) as crowd, httpx.Client(timeout=15) as patient:
            limits = httpx.Limits(max_connections=None)
            with httpx.Client(timeout=3, limits=limits) as client:
                waiting = [crowd.submit(client.get, front.url + "/api/v1/slow") for _ in range(200)]
                eventually(lambda: sum(answer.done() for answer in waiting) >= 150)
                assert patient.get(front.url + "/api/v1/things/log-in").status_code == 200
                refused = [answer.result() for answer in waiting if answer.done() and not answer.exception()]
                assert {answer.status_code for answer in refused} == {503}
                assert all("retry-after" in answer.headers for answer in refused)
                [answer.exception() for answer in waiting]


def test_half_open_lets_one_request_through() -> None:
    breaker = Breaker(2)
    for _ in range(2):
        assert breaker.admit()
        breaker.failed()
    assert (breaker.state, breaker.admit()) == (State.OPEN, False)
    breaker.probed()
    assert [breaker.admit(), breaker.admit()] == [True, False]
    breaker.abandoned()  # that client left: the next one tries
    assert [breaker.admit(), breaker.admit()] == [True, False]
    breaker.failed()
    assert not breaker.admit()
    breaker.succeeded()  # a late answer from before
    assert breaker.state is State.OPEN
    breaker.probed()
    assert breaker.admit()
    breaker.succeeded()
    assert (breaker.state, breaker.admit(), breaker.admit()) == (State.CLOSED, True, True)
