"""Reads from a real streaming replica: nobody misses what they have just written, and it may fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from fiapx.adapters.cache import MemoryCache
from fiapx.adapters.db import migrate, open_database
from fiapx.adapters.partials_disk import DiskPartials
from fiapx.adapters.storage_disk import DiskStorage
from fiapx.bootstrap.parts import make_processing, make_registry
from fiapx.bootstrap.servers import Servers
from fiapx.settings import Settings
from scripts.servers.postgres import PrivatePostgres, PrivateReplica
from tests.postgres import empty
from tests.processing_kit import ANA, BOB, Host, Processing, eventually, hosting, processing

_CALLS = "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_statements WHERE userid = 'processing'::regrole"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with hosting() as host:
        yield host


@pytest.fixture(scope="module")
def standby(postgres_server: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateReplica]:
    postgres_server.ask("CREATE EXTENSION IF NOT EXISTS pg_stat_statements", "processing")
    with PrivateReplica(postgres_server, tmp_path_factory.mktemp("replica")) as standby:
        yield standby


@pytest.fixture
def primary(postgres_server: PrivatePostgres) -> Iterator[Engine]:
    engine = open_database(postgres_server.url("processing"))
    migrate(engine, "processing")
    empty(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def replica(primary: Engine, standby: PrivateReplica) -> Iterator[Engine]:
    engine = open_database(standby.url("processing"))
    standby.follow()
    yield engine
    engine.dispose()


@pytest.fixture
def service(tmp_path: Path, primary: Engine, replica: Engine) -> Iterator[Processing]:
    with processing(tmp_path, engine=primary, replica=replica) as service:
        yield service


@pytest.fixture
def client(service: Processing, host: Host) -> Iterator[httpx.Client]:
    with host.serve(service.app) as url, service.client(f"{url}") as client:
        yield client


def outcome(service: Processing, name: str) -> float:
    return service.registry.get_sample_value("fiapx_replica_reads_total", {"outcome": name}) or 0


def listed(client: httpx.Client, what: str) -> list[str]:
    return [item["id"] for item in client.get(f"/{what}").raise_for_status().json()["items"]]


def test_own_writes_are_seen_at_once_whatever_the_replica_knows(
    service: Processing, client: httpx.Client, standby: PrivateReplica
) -> None:
    standby.hold()
    try:
        video_id = client.post("/videos", params={"name": "a.mp4"}, content=b"video").raise_for_status().json()["id"]
        assert client.get(f"/videos/{video_id}").status_code == 200
        assert listed(client, "videos") == [video_id]
        job_id = client.post("/jobs", json={"video_id": video_id}).raise_for_status().json()["id"]
        assert client.get(f"/jobs/{job_id}").json()["queue_position"] == 1
        assert listed(client, "jobs") == [job_id]
        assert client.post(f"/jobs/{job_id}/cancel").json()["state"] == "cancelled"
        assert client.get(f"/jobs/{job_id}").json()["state"] == "cancelled"
        assert client.delete(f"/jobs/{job_id}").status_code == 204
        assert client.get(f"/jobs/{job_id}").status_code == 404
        assert listed(client, "jobs") == []
        assert outcome(service, "behind") > 5
        assert outcome(service, "served") == 0
    finally:
        standby.follow()


def test_what_a_worker_does_is_seen_at_once(service: Processing, client: httpx.Client, standby: PrivateReplica) -> None:
    job_id = service.queue_job()
    standby.follow()
    assert client.get(f"/jobs/{job_id}").json()["state"] == "queued"
    standby.hold()
    try:
        service.complete(service.claim())
        assert client.get(f"/jobs/{job_id}").json()["state"] == "completed"
        assert client.get(f"/jobs/{job_id}/result").status_code == 200
    finally:
        standby.follow()


def test_a_replica_that_knows_all_takes_every_read_from_the_primary(
    service: Processing, client: httpx.Client, postgres_server: PrivatePostgres, standby: PrivateReplica
) -> None:
    job_id = service.queue_job()
    video_id = service.row(job_id).video_id
    service.complete(service.claim())
    standby.follow()
    before = postgres_server.ask(_CALLS, "processing"), standby.ask(_CALLS, "processing")
    for path in ("/videos", "/jobs", f"/videos/{video_id}", f"/jobs/{job_id}", f"/jobs/{job_id}/result"):
        assert client.get(path).status_code == 200
    after = postgres_server.ask(_CALLS, "processing"), standby.ask(_CALLS, "processing")
    assert after[0] == before[0]
    assert after[1] >= before[1] + 10
    assert outcome(service, "served") == 6, "a job and its attempts are two"


def test_one_users_writes_send_nobody_else_to_the_primary(service: Processing, standby: PrivateReplica) -> None:
    service.queue_job(user=BOB)
    standby.follow()
    standby.hold()
    try:
        service.queue_job(user=ANA)
        assert len(service.queries.jobs(BOB.user_id, None, None, 10).items) == 1
        assert (outcome(service, "served"), outcome(service, "behind")) == (1, 0)
    finally:
        standby.follow()


def test_a_write_that_the_cache_missed_is_no_404(
    tmp_path: Path, service: Processing, primary: Engine, standby: PrivateReplica
) -> None:
    service.queue_job()
    standby.follow()
    standby.hold()
    try:
        with processing(tmp_path, engine=primary, cache=MemoryCache()) as elsewhere:  # with a cache of its own
            job_id = elsewhere.queue_job()
            assert service.queries.job(ANA.user_id, job_id).state == "queued"
            assert outcome(service, "missing") == 1
    finally:
        standby.follow()


def test_a_cache_that_knows_nothing_asks_the_primary(
    service: Processing, client: httpx.Client, standby: PrivateReplica
) -> None:
    standby.hold()
    try:
        job_id = service.queue_job()
        service.cache.delete(f"version:{ANA.user_id}")
        assert listed(client, "jobs") == [job_id]
    finally:
        standby.follow()


def test_without_the_replica_everything_is_answered(
    service: Processing, client: httpx.Client, standby: PrivateReplica, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = service.queue_job()
    standby.follow()
    standby.stop()
    try:
        for _ in range(20):
            assert client.get(f"/jobs/{job_id}").status_code == 200
        assert outcome(service, "away") == 40  # the job, and its place in the queue
    finally:
        standby.start()
    eventually(lambda: client.get(f"/jobs/{job_id}").status_code == 200 and outcome(service, "served") > 0)
    told = capsys.readouterr().out
    assert (told.count("replica_away"), told.count("replica_back")) == (1, 1)


def test_a_replica_that_has_stopped_costs_one_wait(
    service: Processing, client: httpx.Client, standby: PrivateReplica
) -> None:
    job_id = service.queue_job()
    standby.follow()
    assert client.get(f"/jobs/{job_id}").status_code == 200
    standby.pause()
    try:
        assert client.get(f"/jobs/{job_id}").status_code == 200
    finally:
        standby.resume()
    eventually(lambda: client.get(f"/jobs/{job_id}").status_code == 200 and outcome(service, "served") > 2)


def test_without_the_primary_what_the_replica_knows_can_be_read(
    service: Processing, client: httpx.Client, postgres_server: PrivatePostgres, standby: PrivateReplica
) -> None:
    job_id = service.queue_job()
    standby.follow()
    postgres_server.stop()
    try:
        assert client.get(f"/jobs/{job_id}").status_code == 200
        assert listed(client, "jobs") == [job_id]
        assert client.post("/videos", params={"name": "a.mp4"}, content=b"video").status_code == 503
    finally:
        postgres_server.start()
    standby.follow()


def test_a_synchronous_standby_has_whatever_was_answered(
    service: Processing, client: httpx.Client, postgres_server: PrivatePostgres, standby: PrivateReplica
) -> None:
    postgres_server.ask("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'")
    postgres_server.ask("ALTER ROLE processing SET synchronous_commit = 'remote_apply'")
    postgres_server.ask("SELECT pg_reload_conf()")
    try:
        eventually(lambda: bool(postgres_server.ask("SELECT sync_state = 'quorum' FROM pg_stat_replication")))
        service.engine.dispose()  # settings of a login are those of new sessions
        for _ in range(20):
            job_id = service.queue_job()
            assert standby.ask(f"SELECT count(*) FROM jobs WHERE id = '{job_id}'", "processing") == 1
    finally:
        postgres_server.ask("ALTER SYSTEM RESET synchronous_standby_names")
        postgres_server.ask("ALTER ROLE processing RESET synchronous_commit")
        postgres_server.ask("SELECT pg_reload_conf()")


def test_the_setting_names_the_replica(
    primary: Engine, postgres_server: PrivatePostgres, standby: PrivateReplica, tmp_path: Path
) -> None:
    del primary  # has made the tables
    standby.follow()
    settings = Settings(
        home=tmp_path,
        processing_database_url=SecretStr(postgres_server.url("processing")),
        processing_read_url=SecretStr(standby.url("processing")),
    )
    registry = make_registry()
    with Servers(settings) as servers:
        database, replica = servers.database("processing"), servers.replica()
        storage, partials = DiskStorage(tmp_path / "storage"), DiskPartials(tmp_path / "storage")
        wake = threading.Event()
        made = make_processing(settings, database, storage, partials, MemoryCache(), registry, wake, replica)
        assert made.queries.jobs(ANA.user_id, None, None, 10).items == []
    assert registry.get_sample_value("fiapx_replica_reads_total", {"outcome": "served"}) == 1
