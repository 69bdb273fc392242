"""What only the shared cache has to do: survive its server, and share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fiapx.adapters.cache_redis import RedisCache
from fiapx.adapters.counters import SharedCounters, counters
from fiapx.core.errors import RateLimited, Unavailable
from fiapx.core.ports import Cache
from fiapx.server.ratelimit import AuthLimiter
from scripts.servers.redis import PrivateRedis
from tests.processing_kit import eventually


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
