"""The roles as processes on real servers: what users see when all is well, and when something is not."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from scripts.stack import FIAPX, RoleProcess, Stack
from tests.processing_kit import eventually
from tests.stack.kit import API, PASSWORD, Mailbox, User, health, sick


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
    with _stopped(stack.of("notify")):
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


def test_requests_are_shared_and_one_instance_may_go(stack: Stack, ana: User) -> None:
    before = [_requests(process) for process in stack.of("auth")]
    for _ in range(100):
        assert httpx.get(f"{stack.url}{API}/auth/.well-known/jwks.json").status_code == 200
    shares = [_requests(process) - count for process, count in zip(stack.of("auth"), before, strict=True)]
    assert all(share >= 40 for share in shares), shares
    gone = stack.of("auth")[0]
    gone.stop()
    try:
        answers = [httpx.get(f"{stack.url}{API}/auth/.well-known/jwks.json").status_code for _ in range(50)]
        assert answers == [200] * 50
        assert ana.client.get("/auth/me").status_code == 200
    finally:
        gone.start()
        gone.wait()


def _requests(process: RoleProcess) -> int:
    text = httpx.get(f"{process.metrics_url}/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("http_requests_total") and "jwks" in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


def test_log_in_limits_hold_over_all_gateways(stack: Stack, ana: User) -> None:
    gateways = [process.url for process in stack.of("gateway")]
    wrong = {"username": ana.email, "password": "wrong horse battery"}
    answers = [httpx.post(f"{gateways[n % 2]}{API}/auth/token", data=wrong).status_code for n in range(11)]
    assert answers == [401] * 10 + [429]


def test_a_session_that_has_ended_is_refused_everywhere(stack: Stack, ana: User) -> None:
    other = ana.at(stack.of("gateway")[1].url)
    with other:
        assert other.client.get("/jobs").status_code == 200
        assert ana.client.post("/auth/logout").status_code == 204
        assert other.client.get("/jobs").status_code == 401
        stack.redis.flush()
        assert other.client.get("/jobs").status_code == 401


def test_nobody_gets_in_without_a_token(stack: Stack) -> None:
    processing = stack.of("processing")[0]
    assert httpx.get(f"{stack.url}{API}/jobs").status_code == 401
    assert httpx.get(f"{processing.url}{API}/jobs").status_code == 401


def test_health_names_the_role_that_is_away(stack: Stack) -> None:
    gateway = stack.of("gateway")[0]
    assert {"auth", "processing", "worker", "notify", "postgresql", "redis", "rabbitmq", "storage"} <= set(
        health(gateway)
    )
    for role in ("worker", "notify"):
        with _stopped(stack.of(role)):
            eventually(partial(_alone_sick, gateway, role), 20)
    with _stopped(stack.of("processing")):
        eventually(lambda: "processing" in sick(gateway), 20)
        assert "auth" not in sick(gateway)


def _alone_sick(gateway: RoleProcess, name: str) -> bool:
    return sick(gateway) == {name}


@contextmanager
def _stopped(processes: list[RoleProcess]) -> Iterator[None]:
    for process in processes:
        process.stop()
    try:
        yield
    finally:
        for process in processes:
            process.start()
        for process in processes:
            process.wait()


@pytest.mark.parametrize("trouble", ["flushed", "stopped", "paused"])
def test_redis_in_trouble_costs_speed_alone(stack: Stack, ana: User, clip: Path, trouble: str) -> None:
    redis = stack.redis
    {"flushed": redis.flush, "stopped": redis.stop, "paused": redis.pause}[trouble]()
    try:
        job = ana.upload(clip)
        ana.completed(job["id"])
        assert ana.client.get("/jobs").status_code == 200
    finally:
        {"flushed": lambda: None, "stopped": redis.start, "paused": redis.resume}[trouble]()


def test_without_rabbitmq_uploads_are_taken_and_done(stack: Stack, ana: User, clip: Path) -> None:
    stack.rabbit.stop()
    try:
        job = ana.upload(clip)
        assert job["state"] == "queued"
        eventually(lambda: "rabbitmq" in sick(stack.of("gateway")[0]), 30)
    finally:
        stack.rabbit.start()
    ana.completed(job["id"])


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
        eventually(partial(_alone_sick, gateway, "postgresql"), 20)
    finally:
        {"stopped": stack.postgres.start, "paused": stack.postgres.resume}[trouble]()
    eventually(lambda: ana.client.get("/auth/me").status_code == 200, 30)
    ana.completed(ana.upload(clip)["id"])


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
    for process in stack.of("processing"):
        process.send(signal.SIGSTOP)
    waiting = [threading.Thread(target=_ask, args=(stack.url, ana.tokens["access_token"])) for _ in range(100)]
    try:
        for thread in waiting:
            thread.start()
        for _ in range(10):
            with User.logged_in(stack.url, ana.email) as again:
                assert again.client.get("/auth/me").status_code == 200
    finally:
        for process in stack.of("processing"):
            process.send(signal.SIGCONT)
        for thread in waiting:
            thread.join()
    eventually(lambda: ana.client.get("/jobs").status_code == 200, 30)


def _ask(url: str, token: str) -> None:
    httpx.get(f"{url}{API}/jobs", headers={"Authorization": f"Bearer {token}"}, timeout=60)
