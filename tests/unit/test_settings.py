"""Settings that cannot work are refused at the start, by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fiapx.cli.config import engine_settings, load_settings
from fiapx.core.errors import UsageError
from fiapx.settings import Settings
from tests.unit.cli_support import run


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FIAPX_LOGIN_RATE", "often", "must be a rate such as 10/minute"),
        ("FIAPX_REGISTER_RATE", "never", "must be a rate such as 10/minute"),
        ("FIAPX_PUBLIC_URL", "nonsense", "must be a URL"),
        ("FIAPX_PUBLIC_URL", "ftp://example.org", "must be a URL"),
        ("FIAPX_PUBLIC_URL", "https://", "must be a URL"),
        ("FIAPX_PUBLIC_URL", "https://example.org:port", "must be a URL"),
        ("FIAPX_PUBLIC_URL", "https://example.org/a b", "must be a URL"),
        ("FIAPX_STORAGE_URL", "gs://bucket/x", "must be a folder such as"),
        ("FIAPX_STORAGE_URL", "S3://bucket/x", "must be a folder such as"),
        ("FIAPX_STORAGE_URL", "s3:/bucket", "must be a folder such as"),
        ("FIAPX_STORAGE_URL", "s3://", "must be a folder such as"),
        ("FIAPX_STORAGE_URL", "file://shared", "must be a folder such as"),
        ("FIAPX_STORAGE_URL", "", "must be a folder such as"),
        ("FIAPX_AUTH_URLS", "localhost:8001", "must be URLs such as http://host:8001"),
        ("FIAPX_AUTH_URLS", "http://a:8001,b:8001", "must be URLs such as http://host:8001"),
        ("FIAPX_PROCESSING_URLS", "http://a:port", "must be URLs such as http://host:8001"),
        ("FIAPX_AUTH_DATABASE_URL", "postgresql://u:plum@h:port/auth", "must be a URL such as postgresql://"),
        ("FIAPX_PROCESSING_READ_URL", "postgresql://u:plum@h:99999/x", "must be a URL such as postgresql://"),
        ("FIAPX_REDIS_URL", "redis://:plum@h:port/0", "must be a URL such as redis://"),
        ("FIAPX_RABBITMQ_URL", "amqp://u:plum@h:port/", "must be a URL such as amqp://"),
        ("FIAPX_RABBITMQ_URL", "amqp://u:plum@h:99999/", "must be a URL such as amqp://"),
        ("FIAPX_RABBITMQ_URL", "amqp://u:plum@h\u2100:1/", "must be a URL such as amqp://"),
        ("FIAPX_MAIL_FROM", "nobody", "must be an address"),
        ("FIAPX_MAIL_FROM", "", "must be an address"),
        ("FIAPX_BCRYPT_ROUNDS", "3", "greater than or equal to 4"),
        ("FIAPX_PORT", "http", "valid integer"),
        ("FIAPX_AUTOSCALE", "4,1", "must be two numbers such as 1,4"),
        ("FIAPX_AUTOSCALE", "0,4", "must be two numbers such as 1,4"),
        ("FIAPX_AUTOSCALE", "1,65", "must be two numbers such as 1,4"),
        ("FIAPX_AUTOSCALE", "1,4,5", "at most 2"),
        ("FIAPX_AUTOSCALE", "many", "valid integer"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name) as refused:
        load_settings()
    assert message in refused.value.message
    assert "plum" not in refused.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FIAPX_STORAGE_URL", "/var/lib/fiapx"),
        ("FIAPX_STORAGE_URL", "shared/a:b"),
        ("FIAPX_STORAGE_URL", "file:///var/lib/fiapx"),
        ("FIAPX_STORAGE_URL", "s3://bucket"),
        ("FIAPX_AUTH_DATABASE_URL", "postgresql://u:p#[w@h:5432/auth?sslmode=require"),
        ("FIAPX_AUTH_DATABASE_URL", "postgresql:///auth?host=/run/postgresql"),
        ("FIAPX_REDIS_URL", "unix:///run/redis.sock"),
        ("FIAPX_RABBITMQ_URL", "amqps://u:p@[::1]:5671/%2F"),
    ],
)
def test_what_can_work_is_taken(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert name.removeprefix("FIAPX_").lower() in load_settings().model_fields_set


def test_a_settings_file_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIAPX_SETTINGS", str(tmp_path / "settings.toml"))
    with pytest.raises(UsageError, match="FIAPX_SETTINGS"):
        load_settings()
    (tmp_path / "settings.toml").write_text("lease = 40\n")
    assert load_settings().lease == 40


def test_a_name_in_the_settings_file_that_is_no_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "settings.toml").write_text("leese = 40\n")
    monkeypatch.setenv("FIAPX_SETTINGS", str(tmp_path / "settings.toml"))
    with pytest.raises(UsageError, match="leese"):
        load_settings()


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's, such as FIAPX_SERVER, are none."""
    monkeypatch.setenv("FIAPX_SERVER", "http://127.0.0.1:8000")
    assert load_settings().model_fields_set == Settings().model_fields_set


def test_passwords_in_addresses_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAPX_AUTH_URLS", "http://ana:plum@a:1,http://ana:plum@b:2")
    for name in ("FIAPX_PROCESSING_URLS", "FIAPX_S3_ENDPOINT", "FIAPX_OTLP_URL"):
        monkeypatch.setenv(name, "HTTP://ana:plum@a:1/x")
    ran = run("config")
    assert (ran.code, "plum" in ran.out + ran.err) == (0, False)
    assert "FIAPX_AUTH_URLS=http://ana:********@a:1,http://ana:********@b:2\n" in ran.out


def test_a_lease_outlasts_two_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAPX_LEASE", "5")
    with pytest.raises(UsageError, match="FIAPX_HEARTBEAT"):  # its default is 10
        load_settings()
    monkeypatch.setenv("FIAPX_HEARTBEAT", "2.5")
    assert load_settings().heartbeat == 2.5


def test_a_sender_may_have_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAPX_MAIL_FROM", "Frames <frames@example.org>")
    assert load_settings().mail_from == "Frames <frames@example.org>"


def test_the_defaults_are_valid() -> None:
    """They are not validated at each start, since that loads much."""
    defaults = Settings().model_dump()
    assert Settings.model_validate(defaults).model_dump() == defaults


def test_a_short_lease_needs_a_heartbeat_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAPX_LEASE", "5")
    with pytest.raises(UsageError, match="FIAPX_HEARTBEAT"):
        load_settings()


def test_the_engines_defaults_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not read where nothing is set."""
    for name in [name for name in os.environ if name.startswith("FIAPX_")]:
        monkeypatch.delenv(name)
    unread = engine_settings()
    monkeypatch.setenv("FIAPX_LOG_LEVEL", "INFO")
    assert engine_settings() == unread
    monkeypatch.setenv("FIAPX_MAX_FRAMES", "7")
    assert engine_settings()[0].max_frames == 7
