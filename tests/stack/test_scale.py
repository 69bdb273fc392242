"""More users, and more workers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.stack import Stack
from tests.media.clips import X264, Clip
from tests.processing_kit import eventually
from tests.stack.kit import User, away

_USERS = 10
_RATES = ("1", "5")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work for seconds, if every frame is asked for."""
    return Clip("long.mp4", (*X264, "-g", "25"), frames=400, filters="scale=960:640").make(
        tmp_path_factory.mktemp("long")
    )


def test_many_users_at_once_get_their_own_frames(stack: Stack, clip: Path) -> None:
    """Through both gateways."""
    urls = [gateway.url for gateway in stack.of("gateway")]

    def use(number: int) -> set[str]:
        with User.registered(urls[number % 2]) as user:
            jobs = [user.upload(clip, fps=rate)["id"] for rate in _RATES]
            frames = {user.completed(job, 120)["result"]["frames"] for job in jobs}
            assert {job["id"] for job in user.client.get("/jobs").json()["items"]} == {*jobs}
            assert frames == {3, 15}
            return {*jobs}

    with ThreadPoolExecutor(_USERS) as pool:
        jobs = set.union(*pool.map(use, range(_USERS)))
    assert len(jobs) == _USERS * len(_RATES)


def test_one_more_worker_does_one_more_job_at_a_time(stack: Stack, ana: User, long: Path) -> None:
    with away(stack.of("worker")[1:]):
        jobs = [ana.upload(long, fps=str(25 - number), format="png")["id"] for number in range(6)]
        eventually(lambda: _running(ana) == 1, 60)
        assert max(_running(ana) for _ in range(20)) == 1
    eventually(lambda: _running(ana) == 2, 60)
    for job in jobs:
        ana.client.post(f"/jobs/{job}/cancel")


def _running(user: User) -> int:
    return len(user.client.get("/jobs", params={"state": "running"}).json()["items"])
