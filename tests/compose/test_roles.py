"""The services of the Compose file, started as processes, do what a user wants of them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg2
import pytest

from scripts.servers.process import free_port
from tests.compose.composed import COMPOSE, ROLES
from tests.compose.running import UID, Composed, can_confine
from tests.compose.test_image import health_check
from tests.media.clips import X264, Clip
from tests.processing_kit import eventually
from tests.stack.kit import User, health, sick

GRANTED = {"auth_database_url": "auth", "processing_database_url": "processing", "notify_database_url": "notify"}


def _well(composed: Composed) -> bool:
    return not sick(composed.roles["gateway"])


def test_all_is_well(composed: Composed) -> None:
    eventually(partial(_well, composed), 30)
    assert set(health(composed.roles["gateway"])) > {"auth", "processing", "worker", "notify", "postgresql", "storage"}


def test_a_video_becomes_frames_and_a_mail(composed: Composed, tmp_path: Path) -> None:
    clip = Clip("clip.mp4", (*X264, "-g", "25")).make(tmp_path)
    with User.registered(composed.roles["gateway"].url) as ana:
        job = ana.upload(clip)
        ana.completed(job["id"])
        eventually(lambda: [ana.email] in [mail.rcpt_tos for mail in composed.mails], 30)


@pytest.mark.parametrize("role", ROLES)
def test_the_health_check_of_the_image_sees_a_role(composed: Composed, role: str) -> None:
    port = composed.roles[role].metrics_url.rpartition(":")[2]
    eventually(lambda: _healthy(port), 30)
    assert not _healthy(str(free_port()))


def _healthy(port: str) -> bool:
    _, *arguments = health_check()
    done = subprocess.run([sys.executable, *arguments], env={"FIAPX_METRICS_PORT": port}, capture_output=True)
    return done.returncode == 0


@pytest.mark.parametrize("role", ROLES)
def test_a_role_needs_no_root_and_writes_its_volume_alone(composed: Composed, role: str) -> None:
    if not can_confine():
        pytest.skip("this machine lets nobody change the file system of a process")
    process = Path("/proc", str(composed.roles[role].pid))
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split() == [str(UID)] * 4
    assert status["NoNewPrivs"] == "1"
    mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    assert {mount[5].split(",")[0] for mount in mounts if mount[4] == "/"} == {"ro"}


@pytest.mark.parametrize("role", ROLES)
def test_no_secret_is_in_the_environment_or_the_command_line(composed: Composed, role: str) -> None:
    process = Path("/proc", str(composed.roles[role].pid))
    visible = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
    assert str(composed.secrets).encode() in visible
    for secret in composed.secrets.iterdir():
        value = secret.read_bytes().strip()
        assert not value or value not in visible, secret.name


def test_the_logins_are_as_good_as_the_secrets(composed: Composed) -> None:
    for name, login in GRANTED.items():
        url = (composed.secrets / name).read_text()
        psycopg2.connect(url).close()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(url.replace(f"//{login}:", f"//{login}:not"))


def test_postgresql_runs_as_tuned(composed: Composed) -> None:
    tuned = dict(
        line.partition("#")[0].replace("'", "").replace(" ", "").strip().split("=")
        for line in (COMPOSE / "postgres" / "postgresql.conf").read_text().splitlines()
        if line and not line.startswith(("#", "listen_addresses"))
    )
    assert len(tuned) > 15
    password = (composed.secrets / "monitor_password").read_text()
    url = composed.postgres.url("postgres").replace("postgres:postgres@", f"monitor:{password}@")
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        assert {name: _shown(cursor, name) for name in tuned} == tuned
        cursor.execute("SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%outbox%'")
        assert cursor.fetchone() != (0,)


def _shown(cursor: psycopg2.extensions.cursor, name: str) -> str:
    cursor.execute(f"SHOW {name}")
    row = cursor.fetchone()
    assert row is not None
    return str(row[0])


def test_traces_of_every_role_reach_the_place_of_jaeger(composed: Composed) -> None:
    """Those of the video above, in one trace."""
    eventually(lambda: any(services >= set(ROLES) for services in _services_by_trace(composed).values()), 60)


def _services_by_trace(composed: Composed) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for span in composed.collector.spans():
        found.setdefault(span.trace, set()).add(span.service)
    return found
