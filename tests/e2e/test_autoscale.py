"""`fiapx worker --autoscale` on real servers: processes come with the load and go without it, and none stays behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, func, select

from fiapx.adapters.db import migrate, open_database
from fiapx.core.options import ExtractOptions
from fiapx.server.processing import tables
from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import free_port
from scripts.servers.rabbitmq import PrivateRabbit
from scripts.servers.redis import PrivateRedis
from scripts.stack import RoleProcess
from tests.e2e.kit import environment
from tests.e2e.processes import Process, children
from tests.postgres import empty
from tests.processing_kit import Processing, eventually

PATIENCE = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("autoscale")


@pytest.fixture(scope="module")
def database(postgres_server: PrivatePostgres) -> Iterator[Engine]:
    engine = open_database(postgres_server.url("processing"))
    migrate(engine, "processing")
    yield engine
    engine.dispose()


@pytest.fixture
def service(folder: Path, database: Engine) -> Iterator[Processing]:
    """What puts jobs into the queue."""
    service = Processing(folder / "data", engine=database)
    yield service
    service.bus.close()


@pytest.fixture(scope="module")
def process(
    folder: Path,
    database: Engine,
    postgres_server: PrivatePostgres,
    rabbit_server: PrivateRabbit,
    redis_server: PrivateRedis,
) -> Iterator[RoleProcess]:
    settings = environment(
        folder,
        FIAPX_PROCESSING_DATABASE_URL=postgres_server.url("processing"),
        FIAPX_RABBITMQ_URL=rabbit_server.url,
        FIAPX_REDIS_URL=redis_server.url,
        FIAPX_METRICS_PORT=str(free_port()),
        FIAPX_AUTOSCALE="1,3",
        FIAPX_AUTOSCALE_AGE="0.5",
        FIAPX_AUTOSCALE_IDLE="1",
        FIAPX_GRACE="30",
    )
    process = RoleProcess("worker", ["worker"], settings, lambda _name, line: print(line), None)
    yield process
    process.stop()


@pytest.fixture
def supervisor(process: RoleProcess, database: Engine) -> RoleProcess:
    """Ready, with one worker that is ready; started anew where a test has ended it."""
    empty(database)
    if not process.running:
        process.start()
        process.wait()
    eventually(lambda: len(workers(process)) == 1 and _ready(process), PATIENCE)
    return process


def _ready(process: RoleProcess) -> bool:
    return httpx.get(f"{process.metrics_url}/api/v1/health/ready", timeout=10).status_code == 200


def workers(supervisor: RoleProcess) -> list[Process]:
    return children(supervisor.pid)


def metrics(supervisor: RoleProcess) -> dict[str, float]:
    lines = httpx.get(f"{supervisor.metrics_url}/metrics", timeout=10).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def ended(service: Processing) -> dict[str, int]:
    """How many jobs are in which state."""
    query = select(tables.jobs.c.state, func.count()).group_by(tables.jobs.c.state)
    with service.engine.connect() as connection:
        return dict(connection.execute(query).all())


def gone(processes: list[Process]) -> Callable[[], bool]:
    return lambda: not any(process.alive() for process in processes)


def test_processes_come_with_the_load_and_go_without_it(
    supervisor: RoleProcess, service: Processing, numbered: Path
) -> None:
    assert len(workers(supervisor)) == 1
    content = numbered.read_bytes()
    for number in range(12):
        service.queue_job(options=ExtractOptions(fps=25, format="png", start=number / 100), content=content)
    eventually(lambda: len(workers(supervisor)) == 3, PATIENCE)
    eventually(lambda: 'process_cpu_seconds_total{process="3"}' in metrics(supervisor), PATIENCE)
    told = metrics(supervisor)
    assert told['fiapx_autoscale_workers{state="working"}'] == told["fiapx_autoscale_max"] == 3
    eventually(lambda: len(workers(supervisor)) == 1, PATIENCE)
    assert ended(service) == {"completed": 12}
    with service.engine.connect() as connection:  # whoever was sent away has ended its job before
        assert set(connection.scalars(select(tables.jobs.c.attempt))) == {1}


def test_a_killed_process_is_replaced_and_a_killed_supervisor_leaves_no_orphan(supervisor: RoleProcess) -> None:
    (first,) = workers(supervisor)
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: metrics(supervisor)["fiapx_autoscale_crashes_total"] == 1, PATIENCE)
    eventually(lambda: len(workers(supervisor)) == 1 and workers(supervisor) != [first], PATIENCE)
    eventually(lambda: _ready(supervisor), PATIENCE)
    last = workers(supervisor)
    supervisor.stop(signal.SIGKILL)
    eventually(gone(last), PATIENCE)


def test_sigterm_lets_jobs_end_and_a_second_one_gives_them_back(
    supervisor: RoleProcess, service: Processing, long: Path
) -> None:
    job = service.queue_job(options=ExtractOptions(fps=25, format="png"), content=long.read_bytes())
    eventually(lambda: service.row(job).state == "running", PATIENCE)
    running = workers(supervisor)
    supervisor.send(signal.SIGTERM)
    eventually(lambda: _draining(supervisor))
    assert service.row(job).state == "running"
    assert supervisor.stop() == 0  # the second one
    assert gone(running)()
    assert (service.row(job).state, service.row(job).failures) == ("queued", 0)


def _draining(supervisor: RoleProcess) -> bool:
    answer = httpx.get(f"{supervisor.metrics_url}/api/v1/health/all", timeout=10)
    return bool(answer.json()["status"] == "draining")
