"""Each timeout of the settings reaches what it bounds, and bounds it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from fiapx.bootstrap.parts import make_smtp_mailer
from fiapx.bootstrap.servers import Servers
from fiapx.core.errors import Unavailable
from fiapx.settings import Settings
from scripts.servers.postgres import PrivatePostgres
from scripts.stack import FIAPX
from tests.api.upstreams import blackhole
from tests.contract.test_mail import message
from tests.media.clips import X264, Clip

SLACK = 15.0
"""Seconds beyond the timeout, or the few tries of it: far below what the default would be, on a busy machine too."""


@contextmanager
def bounded() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SLACK


def settings(tmp_path: Path, **values: Any) -> Settings:
    return Settings(home=tmp_path, **values)


def test_of_statements(postgres_server: PrivatePostgres, tmp_path: Path) -> None:
    url = SecretStr(postgres_server.url("processing"))
    with Servers(settings(tmp_path, processing_read_url=url, statement_timeout=0.5)) as servers:
        engine = servers.replica()
        assert engine is not None
        with bounded(), engine.connect() as connection, pytest.raises(OperationalError, match="statement timeout"):
            connection.execute(text("SELECT pg_sleep(60)"))


def test_of_the_store(tmp_path: Path) -> None:
    keys = {"s3_access_key": SecretStr("k"), "s3_secret_key": SecretStr("s")}
    with blackhole() as address:
        chosen = settings(tmp_path, storage_url="s3://bucket", s3_endpoint=address, s3_timeout=0.3, **keys)
        with Servers(chosen) as servers, bounded(), pytest.raises(Unavailable):
            servers.storage.open("videos/a")


def test_of_the_mail_server(tmp_path: Path) -> None:
    with blackhole() as address:
        port = int(address.rpartition(":")[2])
        chosen = settings(tmp_path, smtp_host="127.0.0.1", smtp_port=port, smtp_tls="none", smtp_timeout=0.3)
        with bounded(), pytest.raises(Unavailable):
            make_smtp_mailer(chosen).send(message())


def test_of_a_job(tmp_path: Path) -> None:
    video = Clip("long.mp4", X264, frames=900, size=(640, 480)).make(tmp_path)
    command = [FIAPX, "extract", str(video), "--fps", "25", "--format", "png"]
    with bounded():
        done = subprocess.run(command, env=os.environ | {"FIAPX_JOB_TIMEOUT": "0.3"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "took longer than 0.3 s" in done.stderr
    assert not [path for path in tmp_path.iterdir() if path != video]
