"""What only a real PostgreSQL can show: rights, pools, lost sessions, plans."""

from __future__ import annotations

import os
import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import Engine, text

from fiapx.adapters.bus_memory import MemoryBus
from fiapx.adapters.db import SERVICES, migrate, open_database, pending
from fiapx.core.errors import CorruptMedia, InvalidToken, Unavailable
from fiapx.core.events import Event
from fiapx.core.jobs import JobState
from fiapx.core.options import ExtractOptions
from fiapx.core.ports import Identity
from fiapx.server.processing.model import Claim, Once
from fiapx.server.processing.parts import Parts
from fiapx.server.processing.retention import Retention
from fiapx.server.processing.uploads.model import NewUpload
from fiapx.server.relay import Relay
from scripts.servers.postgres import PrivatePostgres
from scripts.stack import FIAPX
from tests.plans import fill, noted, whole_reads
from tests.postgres import empty
from tests.processing_kit import ANA, BOB, Processing, eventually, processing


@pytest.fixture
def engine(postgres_server: PrivatePostgres) -> Iterator[Engine]:
    engine = open_database(postgres_server.url("processing"), statement_timeout=300)
    migrate(engine, "processing")
    empty(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def service(tmp_path: Path, engine: Engine) -> Iterator[Processing]:
    with processing(tmp_path, engine=engine) as service:
        yield service


@pytest.mark.parametrize("login", SERVICES)
def test_a_login_reaches_its_own_database_alone(postgres_server: PrivatePostgres, login: str) -> None:
    for database in SERVICES:
        url = postgres_server.url(login).rpartition("/")[0] + f"/{database}"
        if database == login:
            psycopg2.connect(url).close()
        else:
            with pytest.raises(psycopg2.OperationalError, match="permission denied"):
                psycopg2.connect(url)


def test_what_a_url_asks_for_is_kept(postgres_server: PrivatePostgres) -> None:
    url = postgres_server.url("auth")
    asked = "options=-csearch_path%3Dpg_temp%20-cstatement_timeout%3D0&application_name=mine"
    told = []
    for query in ("", f"?{asked}"):
        engine = open_database(url + query, statement_timeout=7)
        with engine.connect() as connection:
            names = ("search_path", "application_name", "statement_timeout")
            told.append([connection.scalar(text(f"SHOW {name}")) for name in names])
        engine.dispose()
    assert told == [['"$user", public', "fiapx", "7s"], ["pg_temp", "mine", "7s"]]


def test_several_may_migrate_at_once(postgres_server: PrivatePostgres) -> None:
    admin = open_database(postgres_server.url("postgres"))
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE DATABASE fresh OWNER notify"))
    url = postgres_server.url("notify").rpartition("/")[0] + "/fresh"
    environ = {"PATH": os.environ["PATH"], "FIAPX_NOTIFY_DATABASE_URL": url}
    engine = open_database(url)
    try:
        assert pending(engine, "notify") == "is empty"
        upgrades = [subprocess.Popen([FIAPX, "db", "upgrade"], env=environ) for _ in range(3)]
        assert [upgrade.wait(60) for upgrade in upgrades] == [0, 0, 0]
        assert pending(engine, "notify") is None
    finally:
        engine.dispose()
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("DROP DATABASE fresh"))
        admin.dispose()


def test_fifty_requests_share_the_pool(postgres_server: PrivatePostgres) -> None:
    engine = open_database(postgres_server.url("auth"), pool_size=3)
    count = text("SELECT count(*) FROM pg_stat_activity WHERE usename = 'auth'")
    seen: list[int] = []

    def ask(_number: int) -> None:
        with engine.connect() as connection:
            seen.append(connection.scalar(count) or 0)

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(ask, range(50)))
    engine.dispose()
    assert max(seen) <= 3


def test_sessions_that_are_cut_are_replaced(postgres_server: PrivatePostgres, service: Processing) -> None:
    service.queue_job()
    with psycopg2.connect(postgres_server.url("postgres")) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'processing'")
    admin.close()
    assert service.leases.claim() is not None


def test_a_server_that_is_away_is_told_of_and_comes_back(tmp_path: Path) -> None:
    with PrivatePostgres(tmp_path / "pg") as server:
        engine = open_database(server.url("notify"))
        migrate(engine, "notify")
        server.stop()
        with pytest.raises(Unavailable):
            pending(engine, "notify")
        server.start()
        assert pending(engine, "notify") is None
        engine.dispose()


def test_workers_of_many_processes_run_each_job_once(postgres_server: PrivatePostgres, service: Processing) -> None:
    wanted = {service.queue_job(user) for user in (ANA, BOB) for _ in range(20)}
    others = [
        Processing(service.root.parent, engine=open_database(postgres_server.url("processing"))) for _ in range(2)
    ]
    claimed: list[str] = []

    def work(own: Processing) -> None:
        while claim := own.leases.claim():
            claimed.append(claim.job_id)

    threads = [threading.Thread(target=work, args=(own,)) for own in others for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in others:
        own.close()
    assert sorted(claimed) == sorted(wanted)


def test_nobody_who_looks_at_the_same_moment_is_left_without(postgres_server: PrivatePostgres, tmp_path: Path) -> None:
    """The fairest job is the same for all who look: whoever comes second takes the next."""
    engine = open_database(postgres_server.url("processing"), pool_size=8)
    with processing(tmp_path, engine=engine) as service, ThreadPoolExecutor(8) as threads:
        empty(engine)
        together = threading.Barrier(8)

        def claim(_number: int) -> Claim | None:
            with engine.connect():
                together.wait()  # each has a connection now
            return service.leases.claim()

        for _ in range(10):
            for number in range(8):
                service.queue_job((ANA, BOB)[number % 2])
            assert None not in list(threads.map(claim, range(8)))


def test_relays_at_once_keep_the_order_and_repeat_nothing(service: Processing) -> None:
    seen: list[str] = []

    class Recorder(MemoryBus):
        def publish(self, event: Event) -> None:
            seen.append(event.id)

    jobs = [service.queue_job() for _ in range(30)]
    relays = [Relay(service.store.outbox, Recorder(), threading.Event()) for _ in range(4)]
    eventually(lambda: _drained(relays, service))
    with service.engine.connect() as connection:
        written = list(connection.scalars(text("SELECT id FROM outbox ORDER BY seq")))
    assert len(written) == len(jobs)
    assert seen == written


def _drained(relays: list[Relay], service: Processing) -> bool:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(Relay.drain, relays))
    with service.engine.connect() as connection:
        return not connection.scalar(text("SELECT count(*) FROM outbox WHERE published_ms IS NULL"))


def test_nothing_of_a_deleted_user_comes_back(service: Processing) -> None:
    """Uploads and deletions of the same user, at once: what was accepted before is deleted, and nothing after."""
    for number in range(20):
        user = Identity(f"user-{number}", "x@example.com", "s")
        with ThreadPoolExecutor(8) as threads:
            accepted = [threads.submit(service.queue_job, user) for _ in range(4)]
            deleted = [threads.submit(service.store.delete_user, user.user_id) for _ in range(4)]
        assert [job.exception() for job in deleted] == [None] * 4
        for upload in accepted:
            error = upload.exception()
            assert error is None or isinstance(error, InvalidToken), error
        assert service.reads.jobs(user.user_id, None, None, 10) == []
        assert service.reads.videos(user.user_id, None, None, 10) == []


_MANY = int(os.environ.get("FIAPX_ROWS", "200000"))
"""Of each table. A million take a minute or two to fill, and the plans are the same."""


@pytest.mark.timeout(900)
def test_no_query_in_use_reads_a_whole_table(service: Processing) -> None:
    """Each statement that the service sends is explained on a table of many jobs, most of them ended.

    But for the sweeper's look at all parts there are: those of jobs at work, and what it looks for.
    """
    fill(service.engine, _ROWS, _MANY)
    job_id = service.queue_job()
    with noted(service.engine) as statements:
        service.queries.job(ANA.user_id, job_id)
        service.queries.jobs(ANA.user_id, None, None, 50)
        service.queries.videos(ANA.user_id, None, None, 50)
        service.store.unclaimed([f"videos/{uuid.uuid4()}", f"jobs/{uuid.uuid4()}/1.zip"])
        service.reads.queue()
        service.leases.reap()
        claim = service.leases.claim()
        assert claim is not None
        service.leases.renew(claim)
        service.leases.release(claim)
        service.commands.cancel(ANA, job_id)
        upload, _ = service.uploads.create(ANA, NewUpload("a.mp4", 5), None)
        service.upload_store.advance(service.upload_store.claim(ANA.user_id, upload.id), 5)
        service.upload_store.full(60)
        service.upload_store.expire()
        service.upload_store.delete(ANA.user_id, upload.id)
        service.store.forget_keys(24 * 3600)
        service.store.outbox.forget(24 * 3600)
        service.admission.check(ANA.user_id)
        service.queue_job()
        service.complete(service.claim())
        service.queue_job()
        claim = service.claim()
        service.leases.fail(claim, CorruptMedia())
        video_id = claim.video_key.removeprefix("videos/")
        service.commands.create_job(ANA, video_id, ExtractOptions(), Once("key", "request"))
        service.commands.retry(ANA, claim.job_id, None)
        service.queries.jobs(ANA.user_id, JobState.FAILED, None, 50)
        service.reads.oldest_waiting()
        service.reads.position(service.reads.job(ANA.user_id, claim.job_id))
        service.reads.attempts(service.reads.job(ANA.user_id, claim.job_id))
        parts = Parts(service.transitions, lease=30, fingerprint="engine 1")
        parts.claim()
        parts.claim_of(claim, "image")
        parts.forget(claim.job_id)
        service.commands.delete_job(ANA, claim.job_id)
        service.store.delete_user(ANA.user_id)
        Retention(service.transitions, 3600).expire()
        service.store.delete_user("user-7")
    assert len(statements) > 80
    assert whole_reads(service.engine, statements, _TABLES) == []


_TABLES = ("jobs", "videos", "uploads", "outbox", "idempotency", "parts", "attempts", "user_versions")
_ROWS = (
    """INSERT INTO jobs (id, user_id, video_id, video_name, options, state, created_ms, finished_ms, result_key,
                         cache_key)
       SELECT gen_random_uuid(), 'user-' || n % 1000, gen_random_uuid(), 'a.mp4', '{"format": "jpg"}', 'completed',
              n, n, 'jobs/' || n || '/1.zip', 'key-' || n FROM generate_series(1, :many) AS n""",
    """INSERT INTO videos (id, user_id, name, size, sha256, storage_key, created_ms)
       SELECT n, 'user-' || n % 1000, 'a.mp4', 1, '', 'videos/' || n, n FROM generate_series(1, :many) AS n""",
    """INSERT INTO uploads (id, user_id, name, size, "offset", touched_ms, finished_ms)
       SELECT n, 'user-' || n % 1000, 'a.mp4', 1, 1, :now + n, :now FROM generate_series(1, :many) AS n""",
    """INSERT INTO outbox (id, type, subject, data, created_ms, published_ms)
       SELECT n, 'job.queued', n, '{}', n, :now + n FROM generate_series(1, :many) AS n""",
    """INSERT INTO idempotency (user_id, key, fingerprint, kind, resource_id, created_ms)
       SELECT 'user-' || n % 1000, n, '', 'job', n, :now + n FROM generate_series(1, :many) AS n""",
    """INSERT INTO parts (job_id, kind, number, task, engine, made)
       SELECT n / 100, 'image', n % 100, '', 'engine 1', true FROM generate_series(1, :many) AS n""",
    "ANALYZE jobs",  # lest each attempt's job is looked for in all of them
    "INSERT INTO attempts (job_id, attempt, started_ms, ended_ms, outcome) SELECT id, 1, 1, 1, 'failed' FROM jobs",
    "INSERT INTO user_versions (user_id, version) SELECT 'user ' || n, 1 FROM generate_series(1, :many) AS n",
)
