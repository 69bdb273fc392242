"""A PostgreSQL that has stopped in the middle of everything: connections stay, and no answer ever comes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.routing import Mount

from fiapx.adapters.db import migrate, open_database
from fiapx.bootstrap.parts import answers as database_answers
from fiapx.server.gateway.health import Health, create_health_app
from scripts.servers.postgres import PrivatePostgres
from tests.postgres import empty
from tests.processing_kit import Host, Processing, eventually, hosting, processing

_STATEMENT = 0.5
"""Seconds; a statement without an answer is given up three later."""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with hosting() as host:
        yield host


@pytest.fixture
def engine(postgres_server: PrivatePostgres) -> Iterator[Engine]:
    engine = open_database(postgres_server.url("processing"), statement_timeout=_STATEMENT)
    migrate(engine, "processing")
    empty(engine)
    yield engine
    engine.dispose()


@contextmanager
def frozen(server: PrivatePostgres) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


def test_requests_are_refused_in_time_and_answered_again_afterwards(
    postgres_server: PrivatePostgres, engine: Engine, host: Host, tmp_path: Path
) -> None:
    with processing(tmp_path, engine=engine) as service, host.serve(_with_health(service)) as url:
        job_id = service.queue_job()
        with service.client(url) as client:
            assert client.get(f"/api/v1/jobs/{job_id}").status_code == 200
            with frozen(postgres_server):
                began = time.monotonic()
                with ThreadPoolExecutor(20) as threads:
                    answers = list(threads.map(client.get, [f"/api/v1/jobs/{job_id}"] * 20))
                assert time.monotonic() - began < 15
                assert {answer.status_code for answer in answers} == {503}
                assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
                assert client.get("/health/ready").status_code == 503
                assert client.get("/health/live").status_code == 200
            eventually(lambda: client.get(f"/api/v1/jobs/{job_id}").status_code == 200)
            eventually(lambda: client.get("/health/ready").status_code == 200)


def _with_health(service: Processing) -> Starlette:
    health = Health({"postgresql": database_answers(service.engine)}, service.draining)
    return Starlette(routes=[Mount("/health", create_health_app(health)), Mount("/api/v1", service.app)])


def test_a_transaction_that_hangs_is_given_up_and_undone(postgres_server: PrivatePostgres, engine: Engine) -> None:
    began = time.monotonic()
    with pytest.raises(OperationalError, match=r"no answer within 3\.5 seconds"):
        _interrupted(postgres_server, engine)
    assert _STATEMENT < time.monotonic() - began < 15
    with engine.connect() as connection:
        eventually(lambda: connection.scalar(text("SELECT count(*) FROM user_versions")) == 0)


def _interrupted(server: PrivatePostgres, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO user_versions VALUES ('ana', 1)"))
        with frozen(server):
            connection.execute(text("INSERT INTO user_versions VALUES ('bob', 1)"))


def test_a_backend_that_hangs_alone_is_replaced(postgres_server: PrivatePostgres, engine: Engine) -> None:
    """The server takes new connections meanwhile."""
    with engine.connect() as connection:
        backend = connection.scalar(text("SELECT pg_backend_pid()"))
    with paused(backend), engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) != backend


@contextmanager
def paused(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_statements_that_are_only_slow_are_ended_by_the_server(engine: Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(OperationalError, match="statement timeout"):
            connection.execute(text("SELECT pg_sleep(60)"))
        connection.rollback()
        assert connection.scalar(text("SELECT 1")) == 1
