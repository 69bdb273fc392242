"""The roles as processes on real servers: what users see when all is well, and when something is not."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import threading
import zipfile
from functools import partial
from pathlib import Path

import httpx
import pytest

from benchmarks.isolation import compare
from fiapx.adapters.rabbit_topology import JOBS
from scripts.stack import FIAPX, RoleProcess, Stack
from tests.processing_kit import eventually
from tests.rabbit import ready_messages
from tests.stack.kit import API, PASSWORD, Mailbox, User, away, sick


def test_a_video_goes_through_all_roles(stack: Stack, mailbox: Mailbox, clip: Path, tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FIAPX_SERVER": stack.url}
    environ["FIAPX_CONFIG"] = str(tmp_path / "profile.json")
    email = "script@example.com"
    for command in (
        ["register", email, "--password-stdin"],
        ["login", email, "--password-stdin"],
        ["upload", str(clip), "--fps", "2", "--wait", "-o", "out.zip"],
    ):
        subprocess.run([FIAPX, *command], input=PASSWORD, text=True, env=environ, cwd=tmp_path, check=True, timeout=60)
    with zipfile.ZipFile(tmp_path / "out.zip") as result:
        assert result.testzip() is None
        assert len([name for name in result.namelist() if name.endswith(".jpg")]) == 6
    eventually(lambda: mailbox.of(email) == ["Your frames are ready: clip.mp4"], 30)


def test_each_job_that_ended_gives_one_mail_by_smtp(
    stack: Stack, ana: User, mailbox: Mailbox, clip: Path, tmp_path: Path
) -> None:
    """From either of two notifiers; those that are down meanwhile send theirs later."""
    (tmp_path / "notes.mp4").write_text("no video at all\n" * 100)
    failed = ana.upload(tmp_path / "notes.mp4")
    ana.completed(ana.upload(clip)["id"])
    with away(stack.of("notify")):
        ana.completed(ana.upload(clip, fps="5")["id"])
        eventually(lambda: ana.job(failed["id"])["state"] == "failed")
    eventually(lambda: len(mailbox.of(ana.email)) >= 3, 60)
    ana.completed(ana.upload(clip, fps="1")["id"])
    eventually(lambda: len(mailbox.of(ana.email)) >= 4, 60)  # a repeated one would have come before
    assert sorted(mailbox.of(ana.email)) == ["No frames from notes.mp4"] + ["Your frames are ready: clip.mp4"] * 3


def test_a_job_is_watched_through_another_gateway_while_the_first_restarts(stack: Stack, ana: User, clip: Path) -> None:
    first, second = stack.of("gateway")
    workers = stack.of("worker")
    for worker in workers:
        worker.send(signal.SIGSTOP)
    try:
        job = ana.upload(clip)
        states: list[str] = []
        watching = threading.Thread(target=_watch, args=(ana.at(second.url), job["id"], states))
        watching.start()
        eventually(lambda: bool(states))
        first.stop()
        first.start()
        first.wait()
    finally:
        for worker in workers:
            worker.send(signal.SIGCONT)
    watching.join(60)
    assert states[0] == "queued"
    assert states[-1] == "completed"


def _watch(user: User, job_id: str, states: list[str]) -> None:
    with user, user.client.stream("GET", f"/jobs/{job_id}/events", timeout=60) as stream:
        told = (line for line in stream.iter_lines() if line.startswith("data:"))
        states.extend(line.partition('"state":"')[2].partition('"')[0] for line in told)


def test_a_job_waits_in_the_queue_while_no_worker_runs(stack: Stack, ana: User, clip: Path) -> None:
    with away(stack.of("worker")):
        before = _waiting(stack)
        job = ana.upload(clip)
        eventually(lambda: _waiting(stack) > before, 30)
        assert ana.job(job["id"])["state"] == "queued"
    ana.completed(job["id"])


def _waiting(stack: Stack) -> int:
    """How many messages lie ready for workers."""
    return ready_messages(stack.rabbit, JOBS)


@pytest.mark.fault(23, "FLUSHALL after a log-out")
def test_a_session_that_has_ended_is_refused_everywhere(stack: Stack, ana: User) -> None:
    other = ana.at(stack.of("gateway")[1].url)
    with other:
        assert other.client.get("/jobs").status_code == 200
        assert ana.client.post("/auth/logout").status_code == 204
        assert other.client.get("/jobs").status_code == 401
        stack.redis.flush()
        assert other.client.get("/jobs").status_code == 401


def _alone_sick(gateway: RoleProcess, name: str) -> bool:
    return sick(gateway) == {name}


@pytest.mark.fault(20, "PostgreSQL stopped, or paused")
@pytest.mark.parametrize("trouble", ["stopped", "paused"])
def test_without_postgresql_all_is_refused_politely_and_comes_back(
    stack: Stack, ana: User, clip: Path, trouble: str
) -> None:
    gateway, processing = stack.of("gateway")[0], stack.of("processing")[0]
    {"stopped": stack.postgres.stop, "paused": stack.postgres.pause}[trouble]()
    try:
        with clip.open("rb") as file:
            refused = ana.client.post("/videos", params={"name": "a.mp4"}, content=file.read())
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert httpx.get(f"{processing.url}{API}/health/live").status_code == 200
        assert httpx.get(f"{processing.url}{API}/health/ready").status_code == 503
        eventually(partial(_alone_sick, gateway, "postgresql"), 60)
    finally:
        {"stopped": stack.postgres.start, "paused": stack.postgres.resume}[trouble]()
    eventually(lambda: ana.client.get("/auth/me").status_code == 200, 30)
    ana.completed(ana.upload(clip)["id"])


@pytest.mark.fault(5, "SIGKILL of one of two workers")
def test_a_worker_that_is_killed_loses_no_job(stack: Stack, ana: User, clip: Path) -> None:
    jobs = [ana.upload(clip, fps=str(number)) for number in range(1, 9)]
    victim = stack.of("worker")[0]
    victim.stop(signal.SIGKILL)
    victim.start()
    victim.wait()
    for job in jobs:
        ana.completed(job["id"], 90)
    body = ana.client.get(f"/jobs/{jobs[0]['id']}/result").content
    with zipfile.ZipFile(io.BytesIO(body)) as result:
        assert result.testzip() is None


def test_processing_that_hangs_leaves_log_in_alone(stack: Stack, ana: User) -> None:
    """What `benchmarks.isolation` compares, in small: every log-in succeeds, and in time."""
    quiet, hanging = asyncio.run(compare(stack, log_ins=20, count=200))
    print(f"\nlog-in: {max(quiet):.0f} ms at most, {max(hanging):.0f} ms while 200 requests wait for processing")
    assert max(hanging) < 5000
    eventually(lambda: ana.client.get("/jobs").status_code == 200, 30)
