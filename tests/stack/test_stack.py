"""The roles as processes on real servers: what users see when all is well, and when something is not."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from benchmarks.isolation import compare
from fiapx.adapters.rabbit_topology import JOBS
from scripts.stack import FIAPX, RoleProcess, Stack
from tests.processing_kit import eventually
from tests.rabbit import ready_messages
from tests.stack.kit import API, PASSWORD, Mailbox, User, away, requests, sick
from tests.stack.test_balance import UNCACHED


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


def test_what_another_gateway_has_kept_is_new_after_each_write(stack: Stack, ana: User, clip: Path) -> None:
    with ana.at(stack.of("gateway")[1].url) as other, away(stack.of("worker")):
        assert _listed(other) == []
        job = ana.upload(clip)
        assert _listed(other) == _listed(other) == [(job["id"], "queued")]
    with ana.at(stack.of("gateway")[1].url) as other:
        ana.completed(job["id"])
        assert _listed(other) == [(job["id"], "completed")]
        assert other.job(job["id"])["state"] == "completed"


def _listed(user: User) -> list[tuple[str, str]]:
    jobs = user.client.get("/jobs").raise_for_status().json()["items"]
    return [(job["id"], job["state"]) for job in jobs]


def test_the_first_request_of_a_session_asks_auth_for_nothing(stack: Stack, ana: User) -> None:
    before = [requests(instance) for instance in stack.of("auth")]
    ana.client.get("/jobs").raise_for_status()
    assert [requests(instance) for instance in stack.of("auth")] == before


def test_auth_that_hangs_is_left_alone_and_found_again(stack: Stack, ana: User) -> None:
    """Sessions that Redis knows go on; the others are told at once to come back, and not after a wait for each."""
    gateway = stack.of("gateway")[0]
    with User.registered(stack.url) as known:
        stack.redis.flush()
        for _ in range(4):  # each processing service gets auth's keys
            assert known.client.get("/jobs", headers=UNCACHED).status_code == 200
        for auth in stack.of("auth"):
            auth.send(signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(48) as threads:
                waiting = [threads.submit(_unknown, ana) for _ in range(48)]
                meanwhile = known.client.get("/jobs")
            assert meanwhile.status_code == 200
            slowest = max(refusal.result().elapsed for refusal in waiting)
            assert _circuit(gateway) == 1
            refused = min((_unknown(ana) for _ in range(10)), key=lambda answer: answer.elapsed)
            assert int(refused.headers["Retry-After"]) > 0
            assert refused.elapsed.total_seconds() < 0.5
            assert known.client.get("/jobs").status_code == 200
            print(f"\nauth hangs: {slowest} at first, {refused.elapsed} then; {meanwhile.elapsed} for who is known")
        finally:
            for auth in stack.of("auth"):
                auth.send(signal.SIGCONT)
        eventually(partial(_asks_again, stack, ana), 30)


def _asks_again(stack: Stack, user: User) -> bool:
    stack.redis.flush()  # an auth that went on has told it of those who have given up
    return user.client.get("/jobs").status_code == 200 and _circuit(stack.of("gateway")[0]) == 0


def _unknown(user: User) -> httpx.Response:
    answer = user.client.get("/jobs")
    assert answer.status_code == 503
    return answer


def _circuit(gateway: RoleProcess) -> float:
    """The state of a gateway's circuit round auth."""
    lines = httpx.get(f"{gateway.metrics_url}/metrics").text.splitlines()
    (line,) = (line for line in lines if line.startswith('fiapx_circuit_state{name="auth service"}'))
    return float(line.rpartition(" ")[2])


def test_a_role_that_starts_without_postgresql_serves_once_it_is_there(stack: Stack, ana: User) -> None:
    first = stack.of("processing")[0]
    stack.postgres.stop()
    try:
        first.stop()
        first.start()
        eventually(lambda: _status(first.metrics_url, "live") == 200)
        assert _status(first.metrics_url, "ready") == 503
        with pytest.raises(httpx.ConnectError):
            httpx.get(first.url)
    finally:
        stack.postgres.start()
    first.wait()
    assert _status(first.metrics_url, "ready") == _status(first.url, "ready") == 200
    eventually(lambda: ana.client.get("/jobs").status_code == 200, 30)


def _status(url: str, question: str) -> int | None:
    try:
        return httpx.get(f"{url}{API}/health/{question}", timeout=10).status_code
    except httpx.TransportError:
        return None


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
    with User.logged_in(stack.url, ana.email) as anew:
        assert anew.client.get("/auth/me").json()["email"] == ana.email


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
