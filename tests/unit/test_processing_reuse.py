"""Identical jobs share one result; the object goes with the last of them, whoever deletes what at which moment."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from fiapx.core.errors import CorruptMedia
from fiapx.core.events import Event
from fiapx.core.jobs import JobState
from fiapx.core.options import ExtractOptions
from fiapx.core.ports import Identity
from fiapx.media.model import MediaWarning, Result
from fiapx.server.processing import tables
from tests.postgres import Databases
from tests.processing_kit import ANA, BOB, Processing, processing

SAME = b"the same bytes"


@pytest.fixture
def service(tmp_path: Path, databases: Databases) -> Iterator[Processing]:
    with processing(tmp_path, engine=databases("processing")) as service:
        yield service


def ask(service: Processing, user: Identity = ANA, *, fresh: bool = False, **other: Any) -> str:
    """A job for an upload of the same bytes, unless something is said to be `other`."""
    video = service.stored_video(other.pop("content", SAME), other.pop("name", "clip.mp4"))
    options = ExtractOptions.model_validate({"fps": 2} | other)
    return service.commands.accept_upload(user, video, options, None, fresh=fresh).id


def done(service: Processing, **other: Any) -> str:
    job_id = ask(service, **other)
    service.complete(service.claim())
    return job_id


def results(service: Processing) -> list[str]:
    return [key for key in service.objects() if key.startswith("jobs/")]


def stored(service: Processing, key: str) -> str:
    """The hash of what is there."""
    return hashlib.sha256(b"".join(service.storage.read(key))).hexdigest()


def at_once(*work: Callable[[], object]) -> None:
    start = threading.Barrier(len(work))

    def run(one: Callable[[], object]) -> None:
        start.wait()
        one()

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_an_identical_job_is_completed_at_once_with_the_same_result(service: Processing) -> None:
    first = done(service)
    second = ask(service)
    assert service.leases.claim() is None
    one, other = (service.queries.job(ANA.user_id, job_id) for job_id in (first, second))
    assert other.state is JobState.COMPLETED
    assert (one.reused_from, other.reused_from) == (None, first)
    assert (other.result, other.progress, other.warnings) == (one.result, one.progress, one.warnings)
    assert other.video.id != one.video.id
    assert (other.started_at, other.finished_at is not None) == (None, True)
    assert service.events(second) == ["job.completed"]
    assert results(service) == [f"jobs/{first}/1.zip"]
    assert service.queries.finished(ANA.user_id, second).result_key == f"jobs/{first}/1.zip"


def test_its_event_tells_all_that_a_notice_needs(service: Processing) -> None:
    seen: list[dict[str, Any]] = []
    service.bus.subscribe("test", {"job.completed"}, lambda event: seen.append(event.data))
    first = done(service)
    second = ask(service)
    service.relay.drain()
    assert [(data.pop("job_id"), data.pop("seconds") >= 0) for data in seen] == [(first, True), (second, True)]
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    "other",
    [{"content": b"other bytes!!!"}, {"name": "other.mp4"}, {"fps": 3}, {"width": 320}, {"user": BOB}, {"fresh": True}],
)
def test_anything_other_is_new_work(service: Processing, other: dict[str, Any]) -> None:
    done(service)
    job_id = ask(service, **other)
    assert service.claim().job_id == job_id
    assert service.row(job_id).reused_from is None


def test_equal_options_are_the_same_however_they_are_written(service: Processing) -> None:
    first = done(service, fps="2")
    assert service.row(ask(service, fps="4/2", width=None)).reused_from == first


def test_another_engine_makes_its_own_results(service: Processing) -> None:
    done(service)
    service.transitions.fingerprint = "engine 2"
    second = ask(service)
    service.complete(service.claim())
    assert service.row(second).reused_from is None
    assert service.row(ask(service)).reused_from == second


def test_failed_and_cancelled_jobs_lend_nothing(service: Processing) -> None:
    ask(service)
    service.leases.fail(service.claim(), CorruptMedia())
    service.commands.cancel(ANA, ask(service))
    assert service.row(ask(service)).state == "queued"


def test_warnings_come_along(service: Processing) -> None:
    ask(service)
    warning = MediaWarning("source_truncated", "The video ends early.", {"frames": 2})
    service.leases.complete(service.claim(), Result(3, 1000, "ab" * 32, 900, 50, "fast", (warning,)))
    (told,) = service.queries.job(ANA.user_id, ask(service)).warnings
    assert (told.code, told.counts) == ("source_truncated", {"frames": 2})


def test_a_retry_runs_again_and_lends_the_newest_result(service: Processing) -> None:
    first = done(service)
    again = service.commands.retry(ANA, first, None).id
    claim = service.claim()
    assert claim.job_id == again
    assert not service.leases.reuse(claim)
    service.complete(claim)
    with service.engine.begin() as connection:  # clocks count milliseconds, the test may be faster
        connection.execute(update(tables.jobs).where(tables.jobs.c.id == first).values(finished_ms=1))
    assert service.row(ask(service)).reused_from == again
    assert len(results(service)) == 2


def test_a_twin_waits_for_the_one_that_runs_and_takes_its_result(service: Processing) -> None:
    first, second = ask(service), ask(service)
    claim = service.claim()
    assert service.leases.claim() is None
    theirs = ask(service, BOB)
    assert service.claim().job_id == theirs
    service.complete(claim)
    other = service.claim()
    assert {claim.job_id, other.job_id} == {first, second}
    assert service.leases.reuse(other)
    assert not service.leases.owned(other)
    row = service.row(other.job_id)
    assert (row.state, row.reused_from, row.result_key) == ("completed", claim.job_id, claim.result_key)
    assert service.events(other.job_id) == ["job.queued", "job.completed"]


def test_a_twin_does_the_work_where_the_first_one_did_not(service: Processing) -> None:
    both = {ask(service), ask(service)}
    first = service.claim()
    service.leases.fail(first, CorruptMedia())
    second = service.claim()
    assert {first.job_id, second.job_id} == both
    assert not service.leases.reuse(second)
    service.complete(second)


def test_fresh_work_waits_for_nobody(service: Processing) -> None:
    ask(service)
    service.claim()
    urgent = ask(service, fresh=True)
    assert service.claim().job_id == urgent


def test_a_lost_claim_reuses_nothing(service: Processing) -> None:
    for _ in range(2):
        ask(service)
    service.complete(service.claim())
    claim = service.claim()
    service.commands.cancel(ANA, claim.job_id)
    assert not service.leases.reuse(claim)
    assert service.events(claim.job_id)[-1] == "job.cancelled"


def test_a_result_goes_with_its_last_job(service: Processing) -> None:
    first = done(service)
    second, third = ask(service), ask(service)
    key = f"jobs/{first}/1.zip"
    assert [service.row(job_id).reused_from for job_id in (second, third)] == [first, first]
    for job_id in (first, third):
        service.commands.delete_job(ANA, job_id)
        assert service.maintenance.sweep(age=0) == 0
        assert results(service) == [key]
    assert stored(service, key) == service.row(second).result_sha256
    assert service.row(ask(service)).reused_from == second
    service.commands.delete_job(ANA, second)
    assert results(service) == [key]
    (last,) = service.queries.jobs(ANA.user_id, None, None, 10).items
    service.commands.delete_job(ANA, last.id)
    assert results(service) == []
    assert service.row(ask(service)).state == "queued"


def test_a_deleted_user_takes_shared_results_along(service: Processing) -> None:
    done(service)
    ask(service)
    kept = ask(service, BOB)
    service.complete(service.claim())
    service.commands.user_deleted(Event(id="e", type="user.deleted", subject=ANA.user_id, created_ms=0))
    assert results(service) == [f"jobs/{kept}/1.zip"]


def test_deleting_at_the_moment_of_reuse_breaks_nothing(service: Processing) -> None:
    options = ExtractOptions.model_validate({"fps": 2})
    for number in range(40):
        content = b"%d" % number
        lender = done(service, content=content)
        video_id = service.row(lender).video_id
        borrowers: list[str] = []

        def borrow(video_id: str = video_id, borrowers: list[str] = borrowers) -> None:
            borrowers.append(service.commands.create_job(ANA, video_id, options, None).id)

        at_once(borrow, partial(service.commands.delete_job, ANA, lender), partial(service.maintenance.sweep, 3600))
        row = service.row(borrowers[0])
        if row.state == "completed":
            assert stored(service, row.result_key) == row.result_sha256
            service.commands.delete_job(ANA, row.id)
        else:
            assert row.state == "queued"
            service.commands.cancel(ANA, row.id)
        assert results(service) == []


def test_owners_that_go_at_the_same_moment_leave_nothing(service: Processing) -> None:
    for number in range(10):
        content = b"%d" % number
        owners = [done(service, content=content), *(ask(service, content=content) for _ in range(3))]
        assert len(results(service)) == 1
        at_once(*(partial(service.commands.delete_job, ANA, job_id) for job_id in owners))
        assert results(service) == []
