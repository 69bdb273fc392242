"""Ten people upload while workers, processing, gateways and RabbitMQ are killed at random: for a moment here, and for
three minutes with ``make chaos``. Nothing is lost, nothing ends twice, and the books are right."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from scripts.stack import Stack
from tests.processing_kit import eventually
from tests.stack.chaos import Injector
from tests.stack.crowd import Uploader, upload_all
from tests.stack.kit import User, verified, wait_until_ready

SECONDS = float(os.environ.get("FIAPX_CHAOS_SECONDS", "4"))
UPLOADS = int(os.environ.get("FIAPX_CHAOS_UPLOADS", "20"))
SEED = int(os.environ.get("FIAPX_CHAOS_SEED", "1"))
USERS = 10
PATIENCE = 300.0
"""Seconds after the last kill."""
MOST_KILLS = 3
_LIVE = ("queued", "running")


@pytest.fixture
def crowd(stack: Stack, tmp_path: Path) -> Iterator[list[Uploader]]:
    with ExitStack() as end:
        people = []
        for number in range(USERS):
            url = stack.of("gateway")[number % 2].url
            user = end.enter_context(User.registered(url))
            people.append(end.enter_context(Uploader(user, url, tmp_path / str(number), SEED + number)))
        yield people


@pytest.mark.timeout(SECONDS + 2 * PATIENCE)
@pytest.mark.fault(2, "SIGKILL of processing at random moments")
@pytest.mark.fault(5, "SIGKILL of workers at random moments")
def test_nothing_is_lost_while_everything_is_killed(
    stack: Stack, crowd: list[Uploader], clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "httpx")
    injector = Injector(stack, seconds=SECONDS, seed=SEED)
    with ThreadPoolExecutor(1) as thread:
        killing = thread.submit(injector.run)
        upload_all(crowd, clip, UPLOADS, SECONDS)
        killing.result()
    answers = _answers(caplog)
    wait_until_ready(stack)
    eventually(lambda: not any(_live(one) for one in crowd), PATIENCE)
    waited = time.monotonic() - injector.last
    jobs = [_jobs(one) for one in crowd]
    _print(crowd, injector, answers, jobs, waited)
    assert waited <= PATIENCE
    assert {status for status in answers if status >= 300} <= {429, 503}, answers
    for one, found in zip(crowd, jobs, strict=True):
        _right(one, found, injector)
    eventually(lambda: _extra(stack) == set(), 60)
    verified(stack)


def _answers(caplog: pytest.LogCaptureFixture) -> Counter[int]:
    """How many answers of each status clients had: httpx logs its requests."""
    messages = [record.getMessage() for record in caplog.records if record.name == "httpx"]
    return Counter(int(message.rpartition('"HTTP/1.1 ')[2].split()[0]) for message in messages)


def _live(one: Uploader) -> bool:
    return any(one.user.client.get("/jobs", params={"state": state}).json()["items"] for state in _LIVE)


def _jobs(one: Uploader) -> dict[str, dict[str, Any]]:
    """All that a user has, by id."""
    return {job["id"]: job for job in one.user.client.get("/jobs", params={"limit": 100}).json()["items"]}


def _right(one: Uploader, jobs: dict[str, dict[str, Any]], injector: Injector) -> None:
    """What was accepted is there; it was done, unless its workers were killed too often."""
    assert set(one.jobs) <= jobs.keys()
    assert len(set(one.jobs)) == len(one.jobs)
    for job_id, job in jobs.items():
        if job["state"] == "failed":
            assert (job["error"]["code"], injector.of(job_id)) == ("crash_loop", MOST_KILLS), job
        else:
            assert job["state"] == "completed", job
            assert one.download(job) == job["result"]["frames"]


def _extra(stack: Stack) -> set[str]:
    """Files in storage that are neither videos nor results; those of others, `fiapx verify` finds."""
    storage = stack.home / "storage"
    files = {path.relative_to(storage).as_posix() for path in storage.rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith(("videos/", "jobs/"))}


def _print(
    crowd: list[Uploader],
    injector: Injector,
    answers: Counter[int],
    jobs: list[dict[str, dict[str, Any]]],
    waited: float,
) -> None:
    told = sum(len(one.jobs) for one in crowd)
    every = [job for found in jobs for job in found.values()]
    rows = {
        "uploads, of users": f"{told}, of {len(crowd)}",
        "jobs, by their end": dict(Counter(job["state"] for job in every)),
        "jobs that no client was told of": len(every) - told,
        "jobs tried more than once": sum(job["attempt"] > 1 for job in every),
        "answers to clients": {status: answers[status] for status in sorted(answers)},
        "commands run again": sum(one.again for one in crowd),
        "kills": dict(injector.by_role()),
        "kills in the middle of a job": sum(bool(kill.jobs) for kill in injector.kills),
        "seconds from the last kill to the last end": round(waited, 1),
    }
    print(f"\nseed {SEED}, {SECONDS:.0f} s")
    for name, value in rows.items():
        print(f"{name:<46} {value}")
    for kill in injector.kills:
        print(f"{kill.at:7.1f} s  {kill.victim:<13} {' '.join(sorted(kill.jobs))}")
