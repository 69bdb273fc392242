"""Whatever stops, the gateway names it, and nothing else, at the next question."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import httpx
import pytest

from scripts.stack import RoleProcess, Stack
from tests.processing_kit import eventually
from tests.stack.kit import API, away, health, sick

Trouble = Callable[[Stack], AbstractContextManager[None]]


def _role(name: str) -> Trouble:
    return lambda stack: away(stack.of(name))


@contextmanager
def _postgresql(stack: Stack) -> Iterator[None]:
    stack.postgres.stop()
    try:
        yield
    finally:
        stack.postgres.start()


@contextmanager
def _redis(stack: Stack) -> Iterator[None]:
    stack.redis.stop()
    try:
        yield
    finally:
        stack.redis.start()


@contextmanager
def _rabbitmq(stack: Stack) -> Iterator[None]:
    stack.rabbit.stop()
    try:
        yield
    finally:
        stack.rabbit.start()


@contextmanager
def _storage(stack: Stack) -> Iterator[None]:
    """As if it was not mounted."""
    mounted = stack.home / "storage"
    hidden = mounted.rename(mounted.with_name("elsewhere"))
    try:
        yield
    finally:
        hidden.rename(mounted)


TROUBLES: dict[str, Trouble] = {
    "postgresql": _postgresql,
    "redis": _redis,
    "rabbitmq": _rabbitmq,
    "storage": _storage,
    **{role: _role(role) for role in ("auth", "processing", "worker", "notify")},
}


NEEDED = {"postgresql": {"auth", "processing"}, "storage": {"processing"}}
"""Who can answer nobody without a thing; everybody else stays ready."""


def test_every_dependency_and_role_is_watched(stack: Stack) -> None:
    assert TROUBLES.keys() <= health(stack.of("gateway")[0]).keys()


@pytest.mark.parametrize("name", TROUBLES)
def test_what_is_away_is_named_and_nothing_else(stack: Stack, name: str) -> None:
    with TROUBLES[name](stack):
        for gateway in stack.of("gateway"):
            eventually(partial(_alone_sick, gateway, name), 60)
        seconds = min(_seconds_to_name(stack.of("gateway")[0], name) for _ in range(3))  # the machine may be busy
        for role in ("gateway", "auth", "processing"):
            expected = 503 if role in NEEDED.get(name, ()) else 200
            assert {_ready(process) for process in stack.of(role) if process.running} <= {expected}, role
    print(f"\n{name}: named in {seconds:.2f} s")
    assert seconds <= 2


def _seconds_to_name(gateway: RoleProcess, name: str) -> float:
    started = time.monotonic()
    assert sick(gateway) == {name}
    return time.monotonic() - started


def _alone_sick(gateway: RoleProcess, name: str) -> bool:
    return sick(gateway) == {name}


def _ready(process: RoleProcess) -> int:
    return httpx.get(f"{process.metrics_url}{API}/health/ready", timeout=10).status_code
