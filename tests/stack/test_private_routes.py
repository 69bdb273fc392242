"""Nobody without a token gets past the gateway, nor into a service that is asked directly."""

from __future__ import annotations

import re
import uuid
from typing import Any

import httpx
import psycopg2
import pytest

from scripts.stack import RoleProcess, Stack
from tests.api.test_idor import PUBLIC
from tests.stack.kit import API, requests

NOTHING = str(uuid.uuid4())
"""In place of every identifier: who asks is refused before anybody looks."""


def _private(stack: Stack) -> list[tuple[str, str]]:
    """The method and the address of every route that is not public."""
    paths: dict[str, dict[str, Any]] = httpx.get(f"{stack.url}/openapi.json").json()["paths"]
    routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    return [(method, re.sub(r"\{\w+\}", NOTHING, path)) for method, path in routes if (method, path) not in PUBLIC]


def test_the_gateway_asks_nobody_for_strangers(stack: Stack) -> None:
    services = [*stack.of("auth"), *stack.of("processing")]
    before = [requests(service) for service in services]
    routes = _private(stack)
    assert len(routes) > 20
    for gateway in stack.of("gateway"):
        assert {(method, path): _status(gateway, method, path) for method, path in routes} == dict.fromkeys(routes, 401)
    assert [requests(service) for service in services] == before


def test_services_refuse_strangers_themselves(stack: Stack) -> None:
    for method, path in _private(stack):
        role = "auth" if path.startswith(f"{API}/auth/") else "processing"
        for service in stack.of(role):
            assert _status(service, method, path) == 401, (service.name, method, path)


def _status(server: RoleProcess, method: str, path: str) -> int:
    return httpx.request(method, server.url + path).status_code


def test_no_service_reads_the_database_of_another(stack: Stack) -> None:
    for login, database in (("auth", "processing"), ("processing", "auth"), ("notify", "auth")):
        address = stack.postgres.url(login).rpartition("/")[0]
        with pytest.raises(psycopg2.OperationalError, match="permission denied"):
            psycopg2.connect(f"{address}/{database}")
