"""Settings that cannot work are refused at the start, by name."""

from __future__ import annotations

import os

import pytest

from fiapx.cli.config import engine_settings, load_settings
from fiapx.core.errors import UsageError
from fiapx.settings import Settings


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
