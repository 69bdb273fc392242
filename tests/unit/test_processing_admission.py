"""How much is taken in: a bound for each user, one for all, and nothing that was accepted is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fiapx.core.errors import QueueFull, TooManyJobs
from fiapx.core.options import ExtractOptions
from fiapx.server.processing.model import Once
from tests.postgres import Databases
from tests.processing_kit import ANA, BOB, Processing, processing


@pytest.fixture
def service(tmp_path: Path, databases: Databases) -> Iterator[Processing]:
    with processing(tmp_path, engine=databases("processing"), user_jobs=2, queue_jobs=3) as service:
        yield service


def test_a_user_has_so_many_jobs_at_most(service: Processing) -> None:
    first, _ = service.queue_job(), service.queue_job()
    with pytest.raises(TooManyJobs):
        service.commands.admit(ANA)
    with pytest.raises(TooManyJobs):
        service.commands.create_job(ANA, service.row(first).video_id, ExtractOptions(fps="3"), None)
    service.commands.admit(BOB)
    service.complete(service.claim())
    service.commands.admit(ANA)
    service.queue_job()
    with pytest.raises(TooManyJobs):
        service.commands.retry(ANA, first, None)


def test_running_jobs_count(service: Processing) -> None:
    service.queue_job()
    service.queue_job()
    service.claim()
    with pytest.raises(TooManyJobs):
        service.commands.admit(ANA)


def test_the_queue_has_so_many_jobs_at_most(service: Processing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fiapx.server.processing.admission._FRESH", 0)
    service.queue_job(BOB)
    service.queue_job(BOB)
    service.commands.admit(ANA)
    service.queue_job()
    with pytest.raises(QueueFull):
        service.commands.admit(ANA)
    service.claim()
    service.commands.admit(ANA)


def test_a_look_at_the_whole_queue_is_good_for_a_while(service: Processing, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def waiting(limit: int) -> int:
        looks.append(limit)
        return 0

    monkeypatch.setattr(service.reads, "waiting", waiting)
    for _ in range(5):
        service.commands.admit(ANA)
    assert looks == [3]


def test_a_repeated_request_is_answered_as_before(service: Processing) -> None:
    video_id = service.row(service.queue_job()).video_id
    once = Once("key", "print")
    made = service.commands.create_job(ANA, video_id, ExtractOptions(fps="3"), once)
    again = service.commands.create_job(ANA, video_id, ExtractOptions(fps="3"), once)
    assert (again.id, again.replayed) == (made.id, True)
