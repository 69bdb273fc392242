"""Uploads that keep coming, whatever happens to the stack, and what became of them."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.processing_kit import eventually
from tests.stack.kit import API, Logs, User

REFUSED = "connection"
"""Instead of a status: nobody took the request, or answered it."""

_PAUSE = 0.1


@dataclass(frozen=True)
class Answer:
    """To one request: its status, the seconds it took, the job it made, when to try again."""

    status: int | str
    seconds: float
    job_id: str | None = None
    retry_after: int | None = None


class Uploads:
    """Sends one video after another, each with options of its own, so that each is work.

    An upload that is not taken is tried again under the same Idempotency-Key until it is. `url` is the gateway that the
    next request goes to; it may be changed at any time.
    """

    def __init__(self, user: User, url: str, clip: Path) -> None:
        self.user, self.url = user, url
        self.answers: list[Answer] = []
        self._clip = clip.read_bytes()
        self._stop = threading.Event()

    @property
    def jobs(self) -> list[str]:
        """Those that were accepted."""
        return [answer.job_id for answer in self.answers if answer.job_id]

    def statuses(self) -> Counter[int | str]:
        """How many answers of each kind there were."""
        return Counter(answer.status for answer in self.answers)

    def wait_for_more(self, count: int, patience: float = 60) -> None:
        """Until so many more have been accepted."""
        goal = len(self.jobs) + count
        eventually(lambda: len(self.jobs) >= goal, patience)

    def run(self) -> None:
        """Until stopped, and the last upload is taken."""
        number = 0
        while not self._stop.is_set():
            number += 1
            key, fps = str(uuid.uuid4()), f"{1 + number / 1000:.3f}"
            while not self._taken(key, fps):
                time.sleep(_PAUSE)
            self._stop.wait(_PAUSE)

    def stop(self) -> None:
        self._stop.set()

    def _taken(self, key: str, fps: str) -> bool:
        started = time.monotonic()
        try:
            answer = self.user.client.post(
                f"{self.url}{API}/jobs",
                files={"file": ("clip.mp4", self._clip)},
                data={"fps": fps},
                headers={"Idempotency-Key": key},
            )
        except httpx.TransportError:
            self.answers.append(Answer(REFUSED, time.monotonic() - started))
            return False
        seconds, retry = time.monotonic() - started, answer.headers.get("Retry-After")
        job_id = answer.json()["id"] if answer.is_success else None
        self.answers.append(Answer(answer.status_code, seconds, job_id, int(retry) if retry else None))
        return answer.is_success


@contextmanager
def uploading(user: User, url: str, clip: Path) -> Iterator[Uploads]:
    """Uploads in the background; the last one has been taken at the end."""
    uploads = Uploads(user, url, clip)
    thread = threading.Thread(target=uploads.run)
    thread.start()
    try:
        yield uploads
    finally:
        uploads.stop()
        thread.join()


def all_end_once(uploads: Uploads, logs: Logs, patience: float = 90) -> None:
    """Every upload made one job, every job ended well, and its owner had one mail about it."""
    jobs = uploads.jobs
    assert len(set(jobs)) == len(jobs)
    for job_id in jobs:
        uploads.user.completed(job_id, patience)
    eventually(lambda: _mailed(logs).keys() >= set(jobs), patience)
    assert {job_id: _mailed(logs)[job_id] for job_id in jobs} == dict.fromkeys(jobs, 1)


def _mailed(logs: Logs) -> Counter[str]:
    """How many mails were sent about each job. One that is queued while its commit is cut off goes untold."""
    return Counter(told["job_id"] for told in logs.events("notify", "mail_sent"))
