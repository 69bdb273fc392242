"""`fiapx doctor` against real servers: well, away, paused, and set up wrongly."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from sqlalchemy import Engine, text

from fiapx.adapters.db import migrate, open_database, revision
from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import free_port
from scripts.servers.rabbitmq import PrivateRabbit
from scripts.servers.redis import PrivateRedis
from tests.collector import collecting
from tests.e2e.kit import Server, run
from tests.s3 import KEY, s3_bucket

SECRET = "a-secret-that-nobody-may-see"


@pytest.fixture(scope="module")
def smtp_port() -> Iterator[int]:
    controller = Controller(
        object(),
        hostname="127.0.0.1",
        port=free_port(),
        auth_require_tls=False,
        authenticator=lambda *args: AuthResult(success=args[-1].password == SECRET.encode()),
    )
    controller.start()
    yield controller.port
    controller.stop()


@pytest.fixture
def settings(
    postgres_server: PrivatePostgres,
    rabbit_server: PrivateRabbit,
    redis_server: PrivateRedis,
    smtp_port: int,
    server: Server,
    tmp_path: Path,
) -> dict[str, str]:
    """Of all roles, and all is well."""
    databases = {}
    for service in ("auth", "processing", "notify"):
        url = postgres_server.url(service)
        databases[f"FIAPX_{service.upper()}_DATABASE_URL"] = url
        engine = open_database(url)
        migrate(engine, service)
        engine.dispose()
    return databases | {
        "FIAPX_PROCESSING_READ_URL": databases["FIAPX_PROCESSING_DATABASE_URL"],
        "FIAPX_REDIS_URL": redis_server.url,
        "FIAPX_RABBITMQ_URL": rabbit_server.url,
        "FIAPX_STORAGE_URL": str(tmp_path / "shared"),
        "FIAPX_SMTP_HOST": "127.0.0.1",
        "FIAPX_SMTP_PORT": str(smtp_port),
        "FIAPX_SMTP_TLS": "none",
        "FIAPX_SMTP_USER": "ana",
        "FIAPX_SMTP_PASSWORD": SECRET,
        "FIAPX_AUTH_URLS": server.url,
        "FIAPX_PROCESSING_URLS": f"{server.url},{server.url}/",
        "FIAPX_SECRET_KEY": SECRET,
    }


def examined(folder: Path, settings: Mapping[str, str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the findings of servers by name."""
    done = run(folder, "doctor", "--json", environ=settings)
    assert SECRET not in done.stdout + done.stderr
    local = {"fiapx", "PyAV", "FFmpeg", "sandbox", "cores", "data folder"}
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert local <= checks.keys(), done.stderr
    return done.returncode, {name: check for name, check in checks.items() if name not in local}


def broken(findings: dict[str, dict[str, Any]]) -> set[str]:
    assert all(finding["hint"] for finding in findings.values() if finding["status"] != "ok")
    return {name for name, finding in findings.items() if finding["status"] == "error"}


def test_all_that_the_settings_name_is_examined(tmp_path: Path, settings: dict[str, str], server: Server) -> None:
    code, found = examined(tmp_path, settings)
    assert (code, broken(found)) == (0, set()), found
    address = server.url.removeprefix("http://")
    assert set(found) == {
        *("auth database", "processing database", "processing replica", "notify database", "secret key", "Redis"),
        *("RabbitMQ", "storage", "mail", f"auth at {address}", f"processing at {address}", f"processing at {address}/"),
    }
    assert "schema up to date" in found["auth database"]["detail"]
    assert "logged in" in found["mail"]["detail"]
    assert not [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]


def test_what_is_away_is_named_with_what_to_do_and_no_secret_is_shown(tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / "shared").touch()  # no folder
    nobody = f"127.0.0.1:{free_port()}"
    away = {
        "FIAPX_AUTH_DATABASE_URL": f"postgresql://auth:{SECRET}@{nobody}/auth",
        "FIAPX_PROCESSING_READ_URL": f"postgresql://processing:{SECRET}@{nobody}/processing",
        "FIAPX_NOTIFY_DATABASE_URL": settings["FIAPX_NOTIFY_DATABASE_URL"].replace(":notify@", f":{SECRET}@"),
        "FIAPX_REDIS_URL": f"redis://:{SECRET}@{nobody}/0",
        "FIAPX_RABBITMQ_URL": settings["FIAPX_RABBITMQ_URL"].replace(":guest@", f":{SECRET}@"),
        "FIAPX_SMTP_PASSWORD": f"{SECRET}-wrong",
        "FIAPX_AUTH_URLS": f"http://ana:{SECRET}@{nobody}",
        "FIAPX_PROCESSING_URLS": f"http://{nobody}",
        "FIAPX_OTLP_URL": f"http://ana:{SECRET}@{nobody}",
        "FIAPX_SECRET_KEY": "",
    }
    code, found = examined(tmp_path, settings | away)
    assert code == 1
    assert set(found) - broken(found) == {"processing database", "secret key"}


def test_what_is_missing_is_named(tmp_path: Path, settings: dict[str, str]) -> None:
    url = settings["FIAPX_AUTH_DATABASE_URL"]
    code, found = examined(tmp_path, {"FIAPX_AUTH_DATABASE_URL": url})
    assert (code, broken(found)) == (1, {"Redis", "RabbitMQ", "secret key"})
    assert found["secret key"]["detail"] == "FIAPX_SECRET_KEY is not set"


def test_paused_servers_cost_three_seconds_together(
    tmp_path: Path,
    settings: dict[str, str],
    postgres_server: PrivatePostgres,
    rabbit_server: PrivateRabbit,
    redis_server: PrivateRedis,
) -> None:
    names = ("FIAPX_PROCESSING_DATABASE_URL", "FIAPX_REDIS_URL", "FIAPX_RABBITMQ_URL")
    began = time.monotonic()
    assert examined(tmp_path, {name: settings[name] for name in names})[0] == 0
    usual = time.monotonic() - began
    servers = (postgres_server, rabbit_server, redis_server)
    for paused in servers:
        paused.pause()
    try:
        began = time.monotonic()
        code, found = examined(tmp_path, {name: settings[name] for name in names})
        took = time.monotonic() - began
    finally:
        for paused in servers:
            paused.resume()
    assert (code, broken(found)) == (1, {"processing database", "Redis", "RabbitMQ"})
    assert took < usual + 3 + 5  # the bound, and some for a busy machine


def test_what_is_set_up_badly_is_a_warning_or_an_error(
    tmp_path: Path, settings: dict[str, str], postgres_server: PrivatePostgres, redis_server: PrivateRedis
) -> None:
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    engine = open_database(postgres_server.url("notify"))
    try:
        current = revision(engine)
        set_revision(engine, "notify_0001")
        names = ("FIAPX_NOTIFY_DATABASE_URL", "FIAPX_REDIS_URL", "FIAPX_RABBITMQ_URL")
        code, found = examined(tmp_path, {name: settings[name] for name in names})
        assert (code, broken(found)) == (1, {"notify database"})
        assert "fiapx db upgrade" in found["notify database"]["hint"]
        assert found["Redis"]["status"] == "warning"
        assert "maxmemory-policy" in found["Redis"]["hint"]
    finally:
        redis_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        set_revision(engine, current)
        engine.dispose()


def set_revision(engine: Engine, revision: str | None) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_a_broker_with_an_alarm_takes_no_messages(
    tmp_path: Path, settings: dict[str, str], rabbit_server: PrivateRabbit
) -> None:
    name = "FIAPX_RABBITMQ_URL"
    rabbit_server.ctl("set_disk_free_limit", "1000000GB")
    try:
        deadline = time.monotonic() + 30
        found: dict[str, dict[str, Any]] = {}
        while broken(found) != {"RabbitMQ"} and time.monotonic() < deadline:
            code, found = examined(tmp_path, {name: settings[name]})
        assert code == 1
        assert "takes no messages" in found["RabbitMQ"]["detail"]
    finally:
        rabbit_server.ctl("set_disk_free_limit", "50MB")


def test_a_bucket_is_written_and_read(tmp_path: Path, s3_server: str) -> None:
    bucket = {
        "FIAPX_STORAGE_URL": f"s3://{s3_bucket(s3_server)}/some/where",
        "FIAPX_S3_ENDPOINT": s3_server,
        "FIAPX_S3_ACCESS_KEY": KEY,
        "FIAPX_S3_SECRET_KEY": SECRET,
    }
    code, found = examined(tmp_path, bucket)
    assert (code, set(found), broken(found)) == (0, {"storage"}, set())
    for wrong in ({"FIAPX_STORAGE_URL": "s3://nobody-has-made-it"}, {"FIAPX_S3_ENDPOINT": "http://127.0.0.1:1"}):
        assert broken(examined(tmp_path, bucket | wrong)[1]) == {"storage"}


def test_a_collector_of_traces_is_asked(tmp_path: Path) -> None:
    with collecting() as collector:
        code, found = examined(tmp_path, {"FIAPX_OTLP_URL": f"{collector.url}/"})
        assert (code, found["traces"]["status"]) == (0, "ok"), found
        assert collector.spans() == []
    code, found = examined(tmp_path, {"FIAPX_OTLP_URL": f"http://ana:{SECRET}@127.0.0.1:{free_port()}"})
    assert (code, broken(found)) == (1, {"traces"})


def test_a_web_server_that_is_no_collector_takes_no_traces(tmp_path: Path, server: Server) -> None:
    code, found = examined(tmp_path, {"FIAPX_OTLP_URL": server.url})
    assert (code, broken(found)) == (1, {"traces"})
