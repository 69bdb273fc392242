"""The Cache port, for every adapter."""

from __future__ import annotations

import threading
import time

import pytest

from fiapx.adapters.cache import MemoryCache
from fiapx.core.ports import Cache


@pytest.fixture(params=["memory"])
def cache(request: pytest.FixtureRequest) -> Cache:
    return {"memory": MemoryCache}[request.param]()


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
