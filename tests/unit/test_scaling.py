"""How many worker processes there should be, and their metrics on one page."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from fiapx.adapters.db import migrate, open_database
from fiapx.bootstrap.scaled import supervising
from fiapx.settings import Settings
from fiapx.worker.gathering import merged
from fiapx.worker.scaling import Policy, Scaler
from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import free_port
from tests.processing_kit import eventually, hosting

Moment = tuple[float, float | None, int]
"""(time, age of the oldest waiting job, processes that are wanted then)"""


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param([(0, None, 1), (30, None, 1), (1000, None, 1)], id="never below the least"),
        pytest.param([(0, 5, 1), (1, 9, 1), (2, 10, 1)], id="a job that waits a little changes nothing"),
        pytest.param([(0, 11, 2), (1, 12, 2), (9, 20, 2), (10, 21, 3)], id="one step up at a time"),
        pytest.param([(0, 11, 2), (10, 21, 3), (20, 31, 3), (90, 99, 3)], id="never above the most"),
        pytest.param([(0, 11, 2), (10, 2, 2), (20, 11, 3)], id="a step that helped is the last for now"),
        pytest.param([(0, 11, 2), (1, None, 2), (60, None, 2), (61, None, 1)], id="down after the idle time"),
        pytest.param(
            [(0, 11, 2), (10, 11, 3), (11, None, 3), (71, None, 2), (130, None, 2), (131, None, 1)], id="twice"
        ),
        pytest.param([(0, 11, 2), (1, None, 2), (50, 1, 2), (61, None, 2), (120, None, 2)], id="any job ends idleness"),
        pytest.param([(0, 11, 2), (1, None, 2), (61, None, 1), (62, 11, 2)], id="up again at once after a step down"),
    ],
)
def test_the_number_of_processes(moments: list[Moment]) -> None:
    scaler = Scaler(Policy(least=1, most=3, age=10, idle=60))
    assert [scaler.wanted(now, oldest) for now, oldest, _ in moments] == [wanted for *_, wanted in moments]


def test_the_pages_of_several_processes_are_one_with_each_metric_once() -> None:
    pages = []
    for number in (1, 2):
        registry = CollectorRegistry()
        Counter("jobs", "Jobs.", ["state"], registry=registry).labels("completed").inc(number)
        Gauge("memory", "Bytes.", registry=registry).set(10 * number)
        Histogram("seconds", "Seconds.", buckets=[1], registry=registry).observe(number)
        pages.append((str(number), list(text_string_to_metric_families(generate_latest(registry).decode()))))

    class Whole(CollectorRegistry):
        def collect(self):  # type: ignore[no-untyped-def]
            return merged(pages)

    lines = generate_latest(Whole()).decode().splitlines()
    assert [line for line in lines if line.startswith("# TYPE jobs")] == [
        "# TYPE jobs_total counter",
        "# TYPE jobs_created gauge",
    ]
    assert 'jobs_total{process="2",state="completed"} 2.0' in lines
    assert {'memory{process="1"} 10.0', 'memory{process="2"} 20.0'} <= set(lines)
    assert 'seconds_bucket{le="1.0",process="1"} 1.0' in lines
    assert 'seconds_bucket{le="1.0",process="2"} 0.0' in lines


def spawn(_number: int) -> subprocess.Popen[bytes]:
    """A worker that is ready, and has nothing to do."""
    command = """echo '{"metrics": "http://127.0.0.1:1"}'; exec sleep 60"""
    return subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE)


def test_a_supervisor_stays_ready_without_redis_and_rabbitmq(
    tmp_path: Path, postgres_server: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fiapx.bootstrap.scaled._spawn", lambda _settings: spawn)
    nobody = f"127.0.0.1:{free_port()}"
    database = postgres_server.url("processing")
    settings = Settings(
        home=tmp_path,
        processing_database_url=SecretStr(database),
        redis_url=SecretStr(f"redis://{nobody}/0"),
        rabbitmq_url=SecretStr(f"amqp://{nobody}/"),
    )
    engine = open_database(database)
    migrate(engine, "processing")
    engine.dispose()
    with supervising(settings, 1, 1) as role, hosting() as host, host.serve(role.ops) as url:
        eventually(lambda: checks(url)["worker"] == "ok")
        assert {name for name, status in checks(url).items() if status != "ok"} == {"redis", "rabbitmq"}
        assert httpx.get(f"{url}/api/v1/health/ready").status_code == 200


def checks(url: str) -> dict[str, str]:
    """The status of each thing that a role depends on."""
    found = httpx.get(f"{url}/api/v1/health/all", timeout=10).json()["checks"]
    return {name: check["status"] for name, check in found.items()}
