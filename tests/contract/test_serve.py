"""Bare `fiapx serve`: gateway, auth and processing in one process, against real servers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fiapx.adapters.db import Service, migrate, open_database
from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import free_port
from scripts.servers.rabbitmq import PrivateRabbit
from scripts.servers.redis import PrivateRedis
from scripts.stack import RoleProcess
from tests.postgres import empty
from tests.processing_kit import eventually
from tests.stack.kit import API, User

SERVICES: tuple[Service, ...] = ("auth", "processing")


@pytest.fixture
def server(
    postgres_server: PrivatePostgres, redis_server: PrivateRedis, rabbit_server: PrivateRabbit, tmp_path: Path
) -> Iterator[str]:
    for service in SERVICES:
        engine = open_database(postgres_server.url(service))
        migrate(engine, service)
        empty(engine)  # keys that others have made are encrypted by another secret
        engine.dispose()
    redis_server.flush()
    port = free_port()
    env = {
        "FIAPX_HOME": str(tmp_path),
        "FIAPX_SECRET_KEY": secrets.token_urlsafe(32),
        "FIAPX_AUTH_DATABASE_URL": postgres_server.url("auth"),
        "FIAPX_PROCESSING_DATABASE_URL": postgres_server.url("processing"),
        "FIAPX_REDIS_URL": redis_server.url,
        "FIAPX_RABBITMQ_URL": rabbit_server.url,
        "FIAPX_BCRYPT_ROUNDS": "4",
        "FIAPX_METRICS_PORT": str(free_port()),
    }
    role = RoleProcess("serve", ["serve", "--port", str(port)], env, print, port)
    role.start()
    try:
        role.wait()
        yield role.url
    finally:
        role.stop()


def status(url: str) -> int:
    return httpx.get(f"{url}{API}/health/ready", timeout=10).status_code


def test_one_process_serves_all_and_needs_each_of_its_databases(server: str, postgres_server: PrivatePostgres) -> None:
    with User.registered(server) as ana:
        made = ana.client.post("/jobs", files={"file": ("a.mp4", b"video")}).raise_for_status().json()
        assert ana.job(made["id"])["state"] == "queued"
    assert status(server) == 200
    for service in SERVICES:
        postgres_server.ask(f"ALTER DATABASE {service} ALLOW_CONNECTIONS false")
        postgres_server.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{service}'")
        try:
            eventually(lambda: status(server) == 503)
        finally:
            postgres_server.ask(f"ALTER DATABASE {service} ALLOW_CONNECTIONS true")
        eventually(lambda: status(server) == 200)
