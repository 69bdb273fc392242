"""The Cache port, for every adapter."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fiapx.adapters.cache import MemoryCache
from fiapx.adapters.cache_redis import RedisCache
from fiapx.core.ports import Cache
from scripts.servers.redis import PrivateRedis


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest) -> Iterator[Cache]:
    if request.param == "memory":
        yield MemoryCache()
        return
    server: PrivateRedis = request.getfixturevalue("redis")
    shared = RedisCache(server.url)
    yield shared
    shared.close()


def test_keeps_replaces_and_deletes(cache: Cache) -> None:
    assert cache.get("a") is None
    cache.set("a", b"1", 60)
    cache.set("b", b"2", 60)
    cache.set("a", b"3", 60)
    assert (cache.get("a"), cache.get("b")) == (b"3", b"2")
    cache.delete("a")
    cache.delete("a")
    assert (cache.get("a"), cache.get("b")) == (None, b"2")


def test_forgets_after_the_time_to_live(cache: Cache) -> None:
    cache.set("a", b"1", 0.05)
    assert cache.get("a") == b"1"
    time.sleep(0.06)
    assert cache.get("a") is None


def test_adds_only_what_is_not_there(cache: Cache) -> None:
    assert cache.add("a", b"1", 60)
    assert not cache.add("a", b"2", 60)
    assert cache.get("a") == b"1"
    cache.delete("a")
    assert cache.add("a", b"3", 60)


def test_of_many_who_add_one_wins(cache: Cache) -> None:
    with ThreadPoolExecutor(8) as pool:
        for round_ in range(20):
            won = list(pool.map(lambda number, key=f"k{round_}": cache.add(key, b"%d" % number, 60), range(8)))
            assert won.count(True) == 1
            assert cache.get(f"k{round_}") == b"%d" % won.index(True)


def test_a_number_is_never_lowered_whoever_comes_last(cache: Cache) -> None:
    cache.raise_to("version", 9, 60)
    cache.raise_to("version", 10, 60)
    cache.raise_to("version", 7, 60)
    assert cache.get("version") == b"10"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: cache.raise_to("race", number, 60), [*range(1, 200, 2), *range(200, 0, -2)]))
    assert cache.get("race") == b"200"
    cache.raise_to("brief", 3, 0.05)
    time.sleep(0.06)
    assert cache.get("brief") is None


def test_nothing_is_kept_for_no_time(cache: Cache) -> None:
    cache.set("a", b"1", 60)
    cache.set("a", b"2", 0)
    assert cache.get("a") is None
    assert not cache.add("a", b"3", 0)
    assert cache.get("a") is None


def test_a_cache_that_works_says_so(cache: Cache) -> None:
    cache.check()


def test_takes_use_from_many_threads(cache: Cache) -> None:
    wrong: list[bytes] = []

    def use(number: int) -> None:
        for round_ in range(300):
            cache.set(f"key{round_ % 7}", b"%d" % round_, 60)
            value = cache.get(f"key{(round_ + number) % 7}")
            if value is not None and int(value) % 7 != (round_ + number) % 7:
                wrong.append(value)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory_is_bounded_and_the_least_used_goes_first() -> None:
    cache = MemoryCache(max_bytes=10_000)
    for number in range(10):
        cache.set(f"{number}", b"x" * 1500, 60)
        cache.get("0")
    assert cache.get("0") is not None
    assert cache.get("9") is not None
    assert cache.get("1") is None
    cache.set("huge", b"x" * 9_000, 60)
    assert cache.get("huge") is None
    assert cache.get("9") is not None


def test_expired_values_follow_the_clock() -> None:
    now = [100.0]
    cache = MemoryCache(clock=lambda: now[0])
    cache.set("a", b"1", 10)
    now[0] = 109.9
    assert cache.get("a") == b"1"
    now[0] = 110.0
    assert cache.get("a") is None
