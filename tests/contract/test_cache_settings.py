"""Each time to live of the settings, as real roles keep it in Redis."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import redis as redis_client

from fiapx.adapters.db import Service, migrate, open_database
from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import free_port
from scripts.servers.redis import PrivateRedis
from scripts.stack import RoleProcess
from tests.postgres import empty
from tests.stack.kit import User

TTLS = {"sessions": 700, "jobs": 800, "videos": 900, "stale": 1000}
"""Seconds, each unlike the others and all defaults."""
_JITTER = 0.1


@pytest.fixture(scope="module")
def gateway(
    postgres_server: PrivatePostgres, redis_server: PrivateRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of one, before services in another process. Nobody misses RabbitMQ."""
    folder = tmp_path_factory.mktemp("roles")
    services: tuple[Service, ...] = ("auth", "processing")
    for service in services:
        engine = open_database(postgres_server.url(service))
        migrate(engine, service)
        empty(engine)  # keys that others have made are encrypted by another secret
        engine.dispose()
    behind, front = free_port(), free_port()
    env = _settings(folder, postgres_server, redis_server, behind)
    roles = [
        RoleProcess("services", ["serve", "auth", "processing", "--port", str(behind)], env, print, behind),
        RoleProcess("gateway", ["serve", "gateway", "--port", str(front)], env, print, front),
    ]
    try:
        for role in roles:
            role.start()
        for role in roles:
            role.wait()
        yield roles[-1].url
    finally:
        for role in reversed(roles):
            role.stop()


def _settings(home: Path, postgres: PrivatePostgres, redis: PrivateRedis, behind: int) -> Mapping[str, str]:
    ttls = {f"FIAPX_CACHE_TTL_{name.upper()}": str(seconds) for name, seconds in TTLS.items()}
    return ttls | {
        "FIAPX_HOME": str(home),
        "FIAPX_SECRET_KEY": secrets.token_urlsafe(32),
        "FIAPX_AUTH_DATABASE_URL": postgres.url("auth"),
        "FIAPX_PROCESSING_DATABASE_URL": postgres.url("processing"),
        "FIAPX_REDIS_URL": redis.url,
        "FIAPX_RABBITMQ_URL": f"amqp://127.0.0.1:{free_port()}/",
        "FIAPX_AUTH_URLS": f"http://127.0.0.1:{behind}",
        "FIAPX_PROCESSING_URLS": f"http://127.0.0.1:{behind}",
        "FIAPX_TRUSTED_PROXIES": "127.0.0.1",
        "FIAPX_BCRYPT_ROUNDS": "4",
    }


@pytest.fixture(scope="module")
def seconds_left(gateway: str, redis_server: PrivateRedis) -> dict[str, list[float]]:
    """Of all that Redis keeps after a user has looked at everything, by the first word of the key."""
    redis_server.flush()
    with User.registered(gateway) as user:
        user.client.post("/videos", params={"name": "a.mp4"}, content=b"video").raise_for_status()
        for path in ("/videos", "/jobs"):
            user.client.get(path).raise_for_status()
    left: dict[str, list[float]] = {}
    with redis_client.Redis.from_url(redis_server.url) as redis:
        for key in redis.scan_iter("fiapx:*"):
            left.setdefault(key.decode().split(":")[1], []).append(redis.pttl(key) / 1000)
    return left


@pytest.mark.parametrize(
    ("setting", "kept"), [("sessions", "session"), ("jobs", "jobs"), ("videos", "videos"), ("stale", "stale")]
)
def test_a_time_to_live_is_that_of_its_setting(seconds_left: dict[str, list[float]], setting: str, kept: str) -> None:
    assert seconds_left[kept]
    for seconds in seconds_left[kept]:
        assert TTLS[setting] * (1 - _JITTER) - 60 < seconds <= TTLS[setting]  # a minute for a slow test


def test_a_gateway_keeps_lists_as_long_as_their_service_does(seconds_left: dict[str, list[float]]) -> None:
    jobs, videos = sorted(seconds_left["answer"])
    for setting, seconds in (("jobs", jobs), ("videos", videos)):
        assert TTLS[setting] * (1 - _JITTER) - 60 < seconds <= TTLS[setting]


def test_a_gateway_does_not_ask_again_what_it_keeps(gateway: str) -> None:
    with User.registered(gateway) as user:
        user.client.post("/videos", params={"name": "a.mp4"}, content=b"video").raise_for_status()
        answers = [user.client.get("/videos") for _ in range(2)]
        assert ["hit" in answer.headers["Cache-Status"] for answer in answers] == [False, True]
        assert all("Fiapx-Cache" not in answer.headers for answer in answers)
        etag = {"If-None-Match": answers[1].headers["ETag"]}
        assert user.client.get("/videos", headers=etag).status_code == 304
