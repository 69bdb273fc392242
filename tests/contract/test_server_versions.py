"""Servers that are too old are refused at the start; the servers here are real, and their answers are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from pydantic import SecretStr
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from fiapx.adapters.bus_rabbit import RabbitBus
from fiapx.adapters.cache_redis import RedisCache
from fiapx.adapters.db import migrate, open_database, revision
from fiapx.adapters.rabbit_topology import Topology
from fiapx.bootstrap.servers import Servers
from fiapx.core.errors import UsageError
from fiapx.core.versions import require
from fiapx.settings import Settings
from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import free_port
from scripts.servers.redis import PrivateRedis


@pytest.mark.parametrize(
    ("server", "version"),
    [("PostgreSQL", "14.18"), ("PostgreSQL", "9.6"), ("RabbitMQ", "3.9.29"), ("Redis", "6.2.14"), ("Redis", "0.1")],
)
def test_older_ones_are_refused(server: Any, version: str) -> None:
    with pytest.raises(UsageError, match=rf"{server} {version} is too old") as refused:
        require(server, version)
    assert refused.value.hint is not None
    assert f"{server} " in refused.value.hint


@pytest.mark.parametrize(
    ("server", "version"),
    [
        ("PostgreSQL", "15.0"),
        ("PostgreSQL", "17beta1"),
        ("RabbitMQ", "3.10.0"),
        ("RabbitMQ", "3.13.7"),
        ("RabbitMQ", "4.0.5"),
        ("Redis", "7.0.15"),
        ("Redis", "unstable"),
        ("Redis", None),
    ],
)
def test_others_are_good(server: Any, version: str | None) -> None:
    require(server, version)


def test_an_old_postgresql_is_refused_at_the_start_and_by_migrations(
    postgres_server: PrivatePostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PGDialect_psycopg2, "_get_server_version_info", lambda *_: (14, 18))
    url = postgres_server.url("notify")
    settings = Settings(home=tmp_path, notify_database_url=SecretStr(url))
    with Servers(settings) as servers, pytest.raises(UsageError, match=r"PostgreSQL 14\.18 is too old"):
        servers.database("notify")
    engine = open_database(url)
    with pytest.raises(UsageError, match="too old"):
        migrate(engine, "notify")
    engine.dispose()


def test_this_postgresql_tells_its_version(postgres_server: PrivatePostgres) -> None:
    engine = open_database(postgres_server.url("notify"))
    revision(engine)
    version = engine.dialect.server_version_info
    assert version is not None
    assert int(version[0]) >= 15
    engine.dispose()


def test_an_old_redis_is_refused_at_the_start(
    redis_server: PrivateRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, redis_url=SecretStr(redis_server.url))
    with Servers(settings) as servers:
        assert servers.cache.version() is not None
    monkeypatch.setattr(redis_client.Redis, "info", lambda *_: {"redis_version": "6.2.14"})
    with Servers(settings) as servers, pytest.raises(UsageError, match=r"Redis 6\.2\.14 is too old"):
        _ = servers.cache


def test_an_old_rabbitmq_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RabbitBus, "version", lambda _self: "3.9.29")
    settings = Settings(home=tmp_path, rabbitmq_url=SecretStr("amqp://127.0.0.1:1/"))
    with Servers(settings) as servers, pytest.raises(UsageError, match=r"RabbitMQ 3\.9\.29 is too old"):
        _ = servers.bus


def test_servers_that_are_away_are_not_waited_for() -> None:
    cache = RedisCache(f"redis://127.0.0.1:{free_port()}/0")
    assert cache.version() is None
    cache.close()
    bus = RabbitBus(f"amqp://127.0.0.1:{free_port()}/", Topology())
    assert bus.version() is None
    bus.close()
