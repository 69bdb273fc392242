"""What processing keeps in the cache: written through, found again, never wrong for longer than a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event

from fiapx.adapters.cache import MemoryCache
from fiapx.adapters.cache_redis import RedisCache
from fiapx.core.jobs import JobState
from fiapx.core.ports import Cache
from fiapx.server.aside import CacheAside
from fiapx.server.processing.changes import known_number, status_key, version_key
from fiapx.server.processing.model import Claim
from fiapx.server.processing.progress import get_progress, put_progress
from fiapx.server.processing.queries import Queries
from scripts.servers.redis import PrivateRedis
from tests.processing_kit import ANA, BOB, Processing, processing


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest) -> Iterator[Cache]:
    if request.param == "memory":
        yield MemoryCache()
        return
    shared = RedisCache(request.getfixturevalue("redis").url, rest=0.2)
    yield shared
    shared.close()


@pytest.fixture
def service(tmp_path: Path, cache: Cache) -> Iterator[Processing]:
    with processing(tmp_path, cache=cache) as service:
        yield service


class Statements:
    """Counts what a database is asked."""

    def __init__(self, service: Processing) -> None:
        self.count = 0
        event.listen(service.engine, "before_cursor_execute", self._counted)

    def _counted(self, *_: object) -> None:
        self.count += 1


def state(cache: Cache, job_id: str) -> JobState:
    number = known_number(cache, status_key(job_id))
    assert number is not None
    return list(JobState)[number % 10]


def states(service: Processing) -> list[str]:
    return [job.state for job in service.queries.jobs(ANA.user_id, None, None, 10).items]


def samples(service: Processing, name: str) -> float:
    return service.registry.get_sample_value(name, {"cache": "jobs"}) or 0


def test_a_status_is_in_the_cache_before_anybody_asks(service: Processing, cache: Cache) -> None:
    job_id = service.queue_job()
    claim = service.claim()
    assert state(cache, job_id) is JobState.RUNNING
    service.leases.release(claim)
    assert state(cache, job_id) is JobState.QUEUED
    service.commands.cancel(ANA, job_id)
    assert state(cache, job_id) is JobState.CANCELLED


def test_an_older_status_that_arrives_late_changes_nothing(service: Processing, cache: Cache) -> None:
    job_id = service.queue_job()
    service.claim()
    running = known_number(cache, status_key(job_id))
    service.commands.cancel(ANA, job_id)
    assert running is not None
    cache.raise_to(status_key(job_id), running, 60)
    assert state(cache, job_id) is JobState.CANCELLED


def test_every_write_raises_the_version_of_its_user_alone(service: Processing, cache: Cache) -> None:
    service.queue_job(user=BOB)
    seen = [known_number(cache, version_key(ANA.user_id)) or 0]

    def step() -> None:
        seen.append(known_number(cache, version_key(ANA.user_id)) or 0)
        assert seen[-1] > seen[-2]

    job_id = service.queue_job()
    step()
    service.commands.cancel(ANA, job_id)
    step()
    again = service.commands.retry(ANA, job_id, None).id
    step()
    service.commands.delete_job(ANA, job_id)
    step()
    service.commands.delete_video(ANA, service.row(again).video_id)
    step()
    service.store.delete_user(ANA.user_id)
    step()
    assert known_number(cache, version_key(BOB.user_id)) == 1
    assert service.reads.version(ANA.user_id) == seen[-1]


def test_a_list_that_was_read_costs_the_database_nothing(service: Processing) -> None:
    service.queue_job()
    statements = Statements(service)
    assert states(service) == ["queued"]
    read, statements.count = statements.count, 0
    for _ in range(10):
        assert states(service) == ["queued"]
        service.queries.videos(ANA.user_id, None, None, 10)
    assert (read > 0, statements.count) == (True, 2)  # BEGIN, and one page of videos
    assert (samples(service, "fiapx_cache_hits_total"), samples(service, "fiapx_cache_misses_total")) == (10, 1)


def test_lists_are_fresh_after_every_write(service: Processing, cache: Cache) -> None:
    elsewhere = Queries(service.reads, service.storage, cache, aside=CacheAside(cache))
    for _ in range(3):
        job_id = service.queue_job()
        assert states(service)[0] == "queued"
        claim = service.claim()
        assert elsewhere.jobs(ANA.user_id, None, None, 10).items[0].state == "running"
        service.complete(claim)
        assert elsewhere.jobs(ANA.user_id, None, None, 10).items[0].state == "completed"
        assert states(service)[0] == "completed"
        assert job_id == elsewhere.jobs(ANA.user_id, JobState.COMPLETED, None, 1).items[0].id
    assert elsewhere.jobs(BOB.user_id, None, None, 10).items == []


def test_a_watched_job_is_read_when_it_changes(service: Processing, cache: Cache) -> None:
    job_id = service.queue_job()
    service.claim()
    watch = service.queries.watch(ANA.user_id, job_id)
    assert watch.look().state == "running"
    statements = Statements(service)
    for done in range(10):
        put_progress(cache, job_id, 1, done, 10)
        progress = watch.look().progress
        assert progress is not None
        assert progress.done == done
    assert statements.count == 0
    service.commands.cancel(ANA, job_id)
    assert watch.look().state == "cancelled"


def test_of_many_who_miss_the_same_one_loads(cache: Cache) -> None:
    aside, began, loads = CacheAside(cache), threading.Barrier(8), []

    def load() -> bytes:
        loads.append(1)
        time.sleep(0.2)
        return b"answer"

    def ask(_number: int) -> bytes:
        began.wait()
        return aside.get("test", "key", 60, load)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {b"answer"}
    assert len(loads) == 1


def test_a_failed_load_is_told_to_all_and_not_kept(cache: Cache) -> None:
    aside = CacheAside(cache)

    def fail() -> bytes:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        aside.get("test", "key", 60, fail)
    assert aside.get("test", "key", 60, lambda: b"better") == b"better"


def test_progress_is_kept_for_a_minute(redis: PrivateRedis) -> None:
    cache = RedisCache(redis.url)
    put_progress(cache, "job", 1, 3, 10)
    assert get_progress(cache, "job", 1) is not None
    assert 0 < int(redis.command("TTL", "fiapx:progress:job").removeprefix(":")) <= 60
    cache.close()


def test_nothing_depends_on_the_cache(tmp_path: Path, redis: PrivateRedis) -> None:
    cache = RedisCache(redis.url, rest=60)
    with processing(tmp_path, cache=cache) as service:
        service.complete(_started(service))
        assert states(service) == ["completed"]
        redis.flush()
        assert states(service) == ["completed"]
        watch = service.queries.watch(ANA.user_id, service.queue_job())
        redis.pause()
        claim = service.claim()
        assert watch.look().state == "running"
        assert states(service) == ["running", "completed"]
        service.complete(claim)
        assert watch.look().state == "completed"
        assert states(service) == ["completed", "completed"]
    redis.resume()
    cache.close()


def _started(service: Processing) -> Claim:
    service.queue_job()
    return service.claim()
