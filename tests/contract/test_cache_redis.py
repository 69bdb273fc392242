"""What only the shared cache has to do: survive its server, and share."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from fiapx.adapters.cache_redis import RedisCache
from fiapx.adapters.counters import SharedCounters, counters
from fiapx.adapters.db import Service, migrate, open_database
from fiapx.core.errors import RateLimited, Unavailable
from fiapx.core.ports import Cache, Identity
from fiapx.server.gateway.rates import Rates
from fiapx.server.ratelimit import AuthLimiter
from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import free_port
from scripts.servers.redis import PrivateRedis
from scripts.stack import RoleProcess
from tests.postgres import empty
from tests.processing_kit import eventually
from tests.stack.kit import User

SERVICES: tuple[Service, ...] = ("auth", "processing")


@pytest.fixture
def cache(redis: PrivateRedis) -> Iterator[RedisCache]:
    cache = RedisCache(redis.url, timeout=0.2, rest=0.3)
    yield cache
    cache.close()


@pytest.fixture
def mortal(tmp_path: Path, redis_server: PrivateRedis) -> Iterator[PrivateRedis]:
    """A Redis of the test's own, to be stopped."""
    del redis_server  # which skips where there is none
    with PrivateRedis(tmp_path) as server:
        yield server


def use(cache: Cache) -> None:
    assert cache.get("a") is None
    cache.set("a", b"1", 60)
    assert not cache.add("b", b"1", 60)
    cache.raise_to("c", 1, 60)
    cache.delete("a")


def kept(cache: Cache) -> bool:
    cache.set("probe", b"1", 60)
    return cache.get("probe") == b"1"


def test_all_processes_see_the_same_under_a_prefix(redis: PrivateRedis, cache: RedisCache) -> None:
    other, stranger = RedisCache(redis.url), RedisCache(redis.url, prefix="else:")
    cache.set("a", b"1", 60)
    assert (other.get("a"), stranger.get("a")) == (b"1", None)
    assert redis.command("EXISTS", "fiapx:a") == ":1"
    other.close()
    stranger.close()


def test_times_to_live_differ_a_little_and_are_never_longer(redis: PrivateRedis, cache: RedisCache) -> None:
    for number in range(50):
        cache.set(f"{number}", b"1", 1000)
    left = [int(redis.command("TTL", f"fiapx:{number}").removeprefix(":")) for number in range(50)]
    assert all(890 <= seconds <= 1000 for seconds in left)
    assert len(set(left)) > 5


def test_a_flushed_cache_is_empty_and_goes_on(redis: PrivateRedis, cache: RedisCache) -> None:
    cache.raise_to("a", 3, 60)
    redis.flush()
    assert cache.get("a") is None
    cache.raise_to("a", 4, 60)  # the script is gone as well
    assert cache.get("a") == b"4"
    redis.command("SCRIPT", "FLUSH")
    cache.raise_to("a", 5, 60)
    assert cache.get("a") == b"5"


def test_without_its_server_it_forgets_everything_and_comes_back_by_itself(mortal: PrivateRedis) -> None:
    cache = RedisCache(mortal.url, rest=0.2)
    assert kept(cache)
    mortal.stop()
    use(cache)
    with pytest.raises(Unavailable):
        cache.check()
    mortal.start()
    eventually(lambda: kept(cache))
    cache.check()
    cache.close()


def test_a_paused_server_costs_one_wait_and_then_none(redis: PrivateRedis) -> None:
    cache = RedisCache(redis.url, timeout=0.5, rest=60)
    assert kept(cache)
    redis.pause()
    began = time.monotonic()
    for _ in range(20):
        use(cache)
    assert time.monotonic() - began < 2  # each of the hundred calls alone would wait for half a second
    with pytest.raises(Unavailable):
        cache.check()
    assert time.monotonic() - began < 4
    redis.resume()
    cache.check()  # which ends the rest
    assert kept(cache)
    cache.close()


def test_numbers_are_raised_once_their_server_is_back(redis: PrivateRedis) -> None:
    cache = RedisCache(redis.url, timeout=0.2, rest=60)
    cache.raise_to("version", 3, 60)
    redis.pause()
    for number in (4, 6, 5):
        cache.raise_to("version", number, 60)
    redis.resume()
    cache.check()
    assert cache.get("version") == b"6"
    cache.close()


def test_two_processes_share_what_they_count(redis: PrivateRedis) -> None:
    storages = [counters(redis.url), counters(redis.url)]
    here, there = (AuthLimiter("4/minute", "3/hour", storage) for storage in storages)
    for limiter in (here, there, here):
        limiter.registering("192.0.2.1")
    with pytest.raises(RateLimited) as refused:
        there.registering("192.0.2.1")
    assert 0 < refused.value.retry_after <= 3600
    there.registering("192.0.2.2")
    for limiter in (here, there, here, there):
        limiter.check("ana@example.com", "192.0.2.1")
        limiter.failed("ana@example.com", "192.0.2.1")
    for limiter in (here, there):
        with pytest.raises(RateLimited):
            limiter.check("ana@example.com", "192.0.2.1")
    close(storages)


def test_two_gateways_count_a_users_and_an_addresss_requests_together(redis: PrivateRedis) -> None:
    storages = [counters(redis.url), counters(redis.url)]
    here, there = (Rates("4/hour", "3/hour", storage) for storage in storages)
    scope = {"type": "http", "client": ("192.0.2.1", 1)}
    for caller, limit in ((Identity("u1", "ana@example.com", "s1"), 4), (None, 3)):
        counts = [(here, there)[number % 2].count(scope, caller) for number in range(limit + 2)]
        assert [count and (count.allowed, count.remaining) for count in counts] == [
            *((True, left) for left in reversed(range(limit))),
            (False, 0),
            (False, 0),
        ]
    other = there.count(scope | {"client": ("192.0.2.2", 1)}, None)
    assert other is not None
    assert other.remaining == 2
    close(storages)


def test_a_role_is_ready_once_the_lists_of_the_named_users_are_kept(
    postgres_server: PrivatePostgres, redis: PrivateRedis, tmp_path: Path
) -> None:
    """Their first request is a hit."""
    for service in SERVICES:
        engine = open_database(postgres_server.url(service))
        migrate(engine, service)
        empty(engine)  # keys that others have made are encrypted by another secret
        engine.dispose()
    env, port = services(postgres_server, redis, tmp_path), free_port()
    with role(env, port) as cold, User.registered(cold.url) as ana:
        user = ana.client.get("/auth/me").json()["id"]
    redis.flush()
    with role(env | {"FIAPX_WARM_USERS": user}, port) as warm:
        for name in ("jobs", "videos"):
            assert redis.command("KEYS", f"fiapx:{name}:*") == "*1"
        with ana.at(warm.url) as ana:
            for name in ("jobs", "videos"):
                ana.client.get(f"/{name}").raise_for_status()
        told = httpx.get(f"{warm.metrics_url}/metrics").text
    for name in ("jobs", "videos"):
        assert f'fiapx_cache_hits_total{{cache="{name}"}} 1.0' in told


def services(postgres: PrivatePostgres, redis: PrivateRedis, home: Path) -> dict[str, str]:
    """The settings of a process of auth and processing. Nobody misses RabbitMQ."""
    return {
        "FIAPX_HOME": str(home),
        "FIAPX_SECRET_KEY": secrets.token_urlsafe(32),
        "FIAPX_AUTH_DATABASE_URL": postgres.url("auth"),
        "FIAPX_PROCESSING_DATABASE_URL": postgres.url("processing"),
        "FIAPX_REDIS_URL": redis.url,
        "FIAPX_RABBITMQ_URL": f"amqp://127.0.0.1:{free_port()}/",
        "FIAPX_METRICS_PORT": str(free_port()),
        "FIAPX_BCRYPT_ROUNDS": "4",
    }


@contextmanager
def role(env: dict[str, str], port: int) -> Iterator[RoleProcess]:
    """One that is ready."""
    process = RoleProcess("services", ["serve", *SERVICES, "--port", str(port)], env, print, port)
    process.start()
    try:
        process.wait()
        yield process
    finally:
        process.stop()


def test_limits_hold_in_each_process_while_the_server_is_away(mortal: PrivateRedis) -> None:
    shared = SharedCounters(mortal.url, rest=0.2)
    limiter = AuthLimiter("4/minute", "3/hour", shared)
    for _ in range(3):
        limiter.registering("192.0.2.1")
    mortal.stop()
    for _ in range(3):
        limiter.registering("192.0.2.1")  # its own count begins at nothing
    with pytest.raises(RateLimited):
        limiter.registering("192.0.2.1")
    mortal.start()
    eventually(shared.check)
    eventually(lambda: counted(limiter, mortal))
    shared.close()


def counted(limiter: AuthLimiter, server: PrivateRedis) -> bool:
    """Is it Redis that counts?"""
    limiter.failed("ana@example.com", "198.51.100.7")
    return server.command("DBSIZE") != ":0"


def close(storages: Sequence[object]) -> None:
    for storage in storages:
        assert isinstance(storage, SharedCounters)
        storage.close()
