"""Requests are shared by the instances of a role; when one goes, the others answer for it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from scripts.stack import Stack
from tests.stack.kit import API, User, requests

ASKED = {"auth": "/auth/me", "processing": "/jobs"}
"""What each kind of service is asked for."""

UNCACHED = {"Range": "bytes=0-"}
"""No cache answers who asks for a part."""

_THREADS = 4


@pytest.fixture(params=ASKED)
def role(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ask(stack: Stack, ana: User, role: str) -> Callable[[int], set[int]]:
    """Asks so many times, through both gateways; the statuses of the answers."""
    gateways = [gateway.url for gateway in stack.of("gateway")]

    def one(number: int) -> int:
        return ana.client.get(gateways[number % 2] + API + ASKED[role], headers=UNCACHED).status_code

    def many(count: int) -> set[int]:
        with ThreadPoolExecutor(_THREADS) as threads:
            return set(threads.map(one, range(count)))

    return many


def test_a_thousand_requests_are_shared(stack: Stack, role: str, ask: Callable[[int], set[int]]) -> None:
    before = [requests(instance) for instance in stack.of(role)]
    assert ask(1000) == {200}
    shares = [requests(instance) - count for instance, count in zip(stack.of(role), before, strict=True)]
    print(f"\n{role}: {shares}")
    assert all(share >= 400 for share in shares), shares


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_no_request_fails_when_an_instance_goes(
    stack: Stack, role: str, ask: Callable[[int], set[int]], ending: signal.Signals
) -> None:
    gone = stack.of(role)[0]
    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(ask, 500)
        try:
            gone.stop(ending)
            assert ask(50) == {200}
        finally:
            gone.start()
            gone.wait()
        assert asking.result() == {200}


def test_limits_are_of_all_gateways_together(stack: Stack, ana: User) -> None:
    gateways = [process.url for process in stack.of("gateway")]
    wrong = {"username": ana.email, "password": "wrong horse battery"}
    answers = [httpx.post(f"{gateways[n % 2]}{API}/auth/token", data=wrong).status_code for n in range(11)]
    assert answers == [401] * 10 + [429]
