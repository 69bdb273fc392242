"""What is too old goes; history, and everything that is still in use, stays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import select, update

from fiapx.core.errors import Conflict, Expired, NotFound
from fiapx.core.options import ExtractOptions
from fiapx.server.processing.audit import Audit
from fiapx.server.processing.maintenance import Maintenance
from fiapx.server.processing.retention import Retention
from fiapx.server.processing.tables import jobs, videos
from tests.postgres import Databases
from tests.processing_kit import ANA, Processing, processing

KEEP = 3600


@pytest.fixture
def service(tmp_path: Path, databases: Databases) -> Iterator[Processing]:
    with processing(tmp_path, engine=databases("processing")) as service:
        yield service


def completed(service: Processing, content: bytes | None = None) -> str:
    job_id = service.queue_job(content=content)
    service.complete(service.claim())
    return job_id


def age(service: Processing, *job_ids: str, seconds: int = 2 * KEEP) -> None:
    """Let the jobs and their videos be older than they are."""
    back = seconds * 1000
    with service.engine.begin() as connection:
        of_them = jobs.c.id.in_(job_ids)
        mine = connection.scalars(select(jobs.c.video_id).where(of_them)).all()
        times = {"created_ms": jobs.c.created_ms - back, "finished_ms": jobs.c.finished_ms - back}
        connection.execute(update(jobs).where(of_them).values(times))
        connection.execute(update(videos).where(videos.c.id.in_(mine)).values(created_ms=videos.c.created_ms - back))


def sweep(service: Processing) -> int:
    retention = Retention(service.transitions, KEEP)
    return Maintenance(
        service.store, service.leases, service.uploads, service.storage, sweep_age=KEEP, retention=retention
    ).sweep()


def expired(service: Processing, job_id: str) -> bool:
    view = service.queries.job(ANA.user_id, job_id)
    assert view.result is not None
    assert (view.state, view.result.frames, view.result.size > 0) == ("completed", 3, True), "history stays"
    return view.result.expired


def test_results_and_videos_go_and_history_stays(service: Processing) -> None:
    old = service.queue_job()
    service.leases.release(service.claim())
    service.complete(service.claim())
    young = completed(service)
    age(service, old)
    seen = service.reads.version(ANA.user_id)
    assert sweep(service) == 2
    assert [expired(service, old), expired(service, young)] == [True, False]
    assert service.objects() == sorted([service.row(young).result_key, f"videos/{service.row(young).video_id}"])
    assert service.reads.version(ANA.user_id) > seen, "lists that were kept are not found any more"
    with pytest.raises(Expired):
        service.queries.finished(ANA.user_id, old)
    with pytest.raises(Conflict, match="video"):
        service.commands.retry(ANA, old, None)
    assert sweep(service) == 0
    attempts = service.queries.job(ANA.user_id, old).attempts or []
    assert [attempt.outcome for attempt in attempts] == ["released", "completed"]
    audit = Audit(service.store, service.engine, service.storage, service.partials, orphan_age=0, quick=False)
    assert audit.run().faults == []


def test_without_retention_everything_stays(service: Processing) -> None:
    old = completed(service)
    age(service, old)
    assert service.maintenance.sweep() == 0
    assert not expired(service, old)


def test_a_video_stays_while_it_is_in_use(service: Processing) -> None:
    completed(service)
    waiting = service.queue_job()
    age(service, waiting)
    with service.engine.begin() as connection:
        connection.execute(update(videos).values(created_ms=1))
    assert sweep(service) == 0
    assert service.count(videos) == 2


def test_a_shared_result_goes_with_its_last_owner(service: Processing) -> None:
    lender = completed(service, b"the same")
    borrower = service.queue_job(content=b"the same")
    assert service.row(borrower).reused_from == lender
    key = service.row(lender).result_key
    age(service, lender)
    assert sweep(service) == 1, "the lender's video alone"
    assert [expired(service, lender), expired(service, borrower)] == [True, False]
    assert key in service.objects()
    age(service, borrower)
    assert sweep(service) == 2
    assert service.objects() == []


def test_a_result_that_has_gone_is_lent_to_nobody(service: Processing) -> None:
    old = completed(service, b"the same")
    age(service, old)
    sweep(service)
    again = service.queue_job(content=b"the same")
    assert service.row(again).state == "queued"


def test_many_at_once_and_several_sweepers(service: Processing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fiapx.server.processing.retention._BATCH", 3)
    age(service, *[completed(service) for _ in range(8)])
    removed: list[int] = []
    threads = [threading.Thread(target=lambda: removed.append(sweep(service))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(removed) >= 16
    assert service.objects() == []


def test_a_new_job_and_its_videos_end_come_one_after_the_other(service: Processing) -> None:
    """Either the job is refused, or its video is there."""
    for _ in range(20):
        old = completed(service)
        age(service, old)
        video_id = service.row(old).video_id
        made: list[str] = []

        def ask(video_id: str = video_id, made: list[str] = made) -> None:
            with suppress(NotFound):
                made.append(service.commands.create_job(ANA, video_id, ExtractOptions(fps="7"), None).id)

        threads = [threading.Thread(target=ask), threading.Thread(target=sweep, args=(service,))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (f"videos/{video_id}" in service.objects()) == bool(made)
