"""Databases that cannot be used, that are full or busy; and what is kept of the outbox."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from sqlalchemy import insert, update
from sqlalchemy.exc import IntegrityError

from fiapx.adapters.db import migrate, open_database, sqlite_url
from fiapx.bootstrap import embedded
from fiapx.core.errors import UsageError
from fiapx.server.processing import tables
from fiapx.server.relay import _KEEP
from fiapx.settings import Settings
from tests.processing_kit import ANA, Host, Processing, hosting, processing


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'processing_9999'")
    connection.close()


def damaged(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (newer, "the processing database was made by another version of fiapx"),
        (damaged, "cannot use the processing database: file is not a database"),
        (a_folder, "cannot use the processing database: unable to open database file"),
    ],
)
def test_data_that_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    settings = Settings(home=tmp_path, bcrypt_rounds=4)
    with embedded(settings, "http://127.0.0.1"):
        pass
    for rest in tmp_path.glob("processing.db-*"):
        rest.unlink()
    spoil(tmp_path / "processing.db")
    with pytest.raises(UsageError) as refused, embedded(settings, "http://127.0.0.1"):
        pass
    assert refused.value.message == message


def test_a_full_database_is_no_space_and_loses_nothing(tmp_path: Path) -> None:
    with processing(tmp_path) as service, hosting() as host, serving(service, host) as client:
        job_id = service.queue_job(ANA)
        with service.engine.connect() as connection:  # the pool gives the same connection to the request
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        before = service.objects()
        codes = {client.post("/videos", params={"name": "x" * 200}, content=b"video").status_code for _ in range(50)}
        assert 503 in codes
        assert codes <= {201, 503}
        assert client.get(f"/jobs/{job_id}").status_code == 200
        assert len(service.objects()) - len(before) == len(client.get("/videos?limit=200").json()["items"]) - 1


def serving(service: Processing, host: Host) -> httpx.Client:
    host.app = service.app
    return service.client(host.url)


def test_a_busy_pool_is_temporary_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with processing(tmp_path) as service, hosting() as host, serving(service, host) as client:
        monkeypatch.setattr(service.engine.pool, "_timeout", 0.05)
        held = [service.engine.raw_connection() for _ in range(15)]  # as many as the pool has
        answer = client.get("/jobs")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        for connection in held:
            connection.close()
        assert client.get("/jobs").status_code == 200


def test_errors_keep_the_values_of_statements_to_themselves(tmp_path: Path) -> None:
    with processing(tmp_path) as service, service.engine.connect() as connection:
        with pytest.raises(IntegrityError) as failed:
            connection.execute(insert(tables.jobs).values(id="1", email="ana@example.com"))
        assert "ana@example.com" not in str(failed.value)


def test_published_events_are_dropped_in_time(tmp_path: Path) -> None:
    with processing(tmp_path) as service:
        old, fresh = service.queue_job(), service.queue_job()
        service.relay.drain()
        long_ago = int((time.time() - _KEEP - 60) * 1000)
        with service.engine.begin() as connection:
            this = tables.outbox.c.subject == old
            connection.execute(update(tables.outbox).where(this).values(published_ms=long_ago))
        waiting = service.queue_job()
        stop = threading.Event()
        service.bus.close()  # nothing is published any more
        thread = threading.Thread(target=service.relay.run, args=(stop,))
        thread.start()
        deadline = time.monotonic() + 5
        while service.events(old) and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()
        thread.join()
        assert [service.events(job_id) for job_id in (old, fresh, waiting)] == [[], ["job.queued"], ["job.queued"]]


def test_a_data_folder_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    import fiapx.migrations

    folder = Path(fiapx.migrations.__file__).parent
    for service, first in (("processing", "processing_0001"), ("notify", "notify_0001")):
        engine = open_database(sqlite_url(tmp_path / f"{service}.db"))
        config = Config()
        config.set_main_option("script_location", str(folder))
        config.set_main_option("version_locations", str(folder / service))
        config.set_main_option("path_separator", "os")
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, first)
        migrate(engine, service)  # type: ignore[arg-type]
        engine.dispose()
    with processing(tmp_path) as up_to_date:
        assert up_to_date.queue_job()
