"""Parts of jobs: each is made once at a time, and none is lost with the worker that made it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from fiapx.core.errors import LeaseLost
from fiapx.server.processing import tables
from fiapx.server.processing.model import Claim, PartClaim
from fiapx.server.processing.parts import Parts
from tests.postgres import Databases
from tests.processing_kit import ANA, Processing, processing

TASKS = ["task 0", "task 1", "task 2"]


@pytest.fixture
def service(tmp_path: Path, databases: Databases) -> Iterator[Processing]:
    with processing(tmp_path, engine=databases("processing")) as service:
        yield service


@pytest.fixture
def parts(service: Processing) -> Parts:
    return Parts(service.transitions, lease=30, fingerprint="engine 1")


@pytest.fixture
def job(service: Processing, parts: Parts) -> Claim:
    """A running job that is planned."""
    service.queue_job()
    claim = service.claim()
    parts.plan(claim, "image", TASKS)
    return claim


def expire(service: Processing) -> None:
    with service.engine.begin() as connection:
        connection.execute(update(tables.parts).values(lease_until_ms=1))


def taken(claim: PartClaim | None) -> PartClaim:
    assert claim is not None
    return claim


def test_helpers_take_them_in_order_and_each_once(service: Processing, parts: Parts, job: Claim) -> None:
    first, second = taken(parts.claim()), taken(parts.claim())
    assert [(claim.number, claim.task) for claim in (first, second)] == [(0, "task 0"), (1, "task 1")]
    video = service.reads.video(ANA.user_id, service.row(job.job_id).video_id)
    assert (first.video_key, first.video_sha256, first.job_id) == (video.storage_key, video.sha256, job.job_id)
    third = taken(parts.claim_of(job, "image"))
    assert third.number == 2
    assert parts.claim() is None
    assert parts.claim_of(job, "image") is None
    for claim in (first, second, third):
        assert not parts.made(job.job_id, "image", claim.number)
        parts.complete(claim)
        assert parts.made(job.job_id, "image", claim.number)


def test_many_helpers_at_once(service: Processing, parts: Parts, job: Claim) -> None:
    parts.plan(job, "thumbnail", [f"task {number}" for number in range(20)])
    found: list[tuple[str, int]] = []

    def help_out() -> None:
        while claim := parts.claim():
            found.append((claim.kind, claim.number))
            parts.complete(claim)

    threads = [threading.Thread(target=help_out) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [*(("image", number) for number in range(3)), *(("thumbnail", n) for n in range(20))]


def test_planning_again_keeps_what_is_made(service: Processing, parts: Parts, job: Claim) -> None:
    """As the next worker does, after the first one was killed."""
    made, held = taken(parts.claim()), taken(parts.claim_of(job, "image"))
    parts.complete(made)
    service.leases.release(job)
    again = service.claim()
    parts.plan(again, "image", TASKS)
    assert parts.made(job.job_id, "image", made.number)
    assert taken(parts.claim_of(again, "image")).number == 2
    assert parts.claim_of(again, "image") is None, "its worker may be alive"
    expire(service)
    assert taken(parts.claim_of(again, "image")).number == held.number
    with pytest.raises(LeaseLost):
        parts.complete(held)


def test_a_worker_that_has_lost_the_job_plans_nothing(service: Processing, parts: Parts) -> None:
    service.queue_job()
    claim = service.claim()
    service.leases.release(claim)
    with pytest.raises(LeaseLost):
        parts.plan(claim, "image", TASKS)
    assert service.count(tables.parts) == 0


def test_silent_helpers_are_replaced_by_the_jobs_worker_alone(service: Processing, parts: Parts, job: Claim) -> None:
    silent = [taken(parts.claim()) for _ in TASKS]
    expire(service)
    assert parts.claim() is None
    mine = taken(parts.claim_of(job, "image"))
    assert (mine.number, mine.lease_token == silent[0].lease_token) == (0, False)
    for late in (parts.complete, parts.renew, parts.fail, parts.release):
        with pytest.raises(LeaseLost):
            late(silent[0])
    parts.renew(silent[1])
    assert parts.owned(silent[1])
    assert not parts.owned(silent[0])


def test_what_a_helper_failed_at_is_left_to_the_jobs_worker(service: Processing, parts: Parts, job: Claim) -> None:
    failed, released = taken(parts.claim()), taken(parts.claim())
    parts.fail(failed)
    parts.release(released)
    assert taken(parts.claim()).number == released.number
    assert taken(parts.claim_of(job, "image")).number == failed.number


def test_nobody_makes_parts_of_jobs_that_have_ended(service: Processing, parts: Parts, job: Claim) -> None:
    held = taken(parts.claim())
    service.commands.cancel(ANA, job.job_id)
    assert not parts.owned(held)
    assert parts.claim() is None
    with service.storage.create(held.key) as writer:
        writer.write(b"part")
        writer.commit()
    assert service.store.unclaimed([held.key]) == set()
    service.maintenance.sweep()
    assert service.count(tables.parts) == 0
    assert not [key for key in service.objects() if key.startswith("parts/")]


def test_parts_of_live_jobs_are_not_swept(service: Processing, parts: Parts, job: Claim) -> None:
    claim = taken(parts.claim())
    with service.storage.create(claim.key) as writer:
        writer.write(b"part")
        writer.commit()
    parts.complete(claim)
    service.leases.release(job)
    service.maintenance.sweep()
    assert claim.key in service.objects()
    assert parts.forget(job.job_id) == [f"parts/{job.job_id}/image-{number}" for number in range(3)]
    assert service.count(tables.parts) == 0


def test_engines_do_not_mix(service: Processing, parts: Parts, job: Claim) -> None:
    other = Parts(service.transitions, lease=30, fingerprint="engine 2")
    parts.complete(taken(parts.claim()))
    assert other.claim() is None
    other.plan(job, "image", TASKS)
    assert not other.made(job.job_id, "image", 0), "it was made by another engine"
    assert parts.claim() is None
    assert taken(other.claim()).number == 0


def test_a_part_that_has_vanished_is_made_again(service: Processing, parts: Parts, job: Claim) -> None:
    parts.complete(taken(parts.claim()))
    parts.lost(job.job_id, "image", 0)
    assert taken(parts.claim_of(job, "image")).number == 0


def test_helpers_are_woken(service: Processing, parts: Parts, job: Claim) -> None:
    assert service.events(job.job_id) == ["job.queued"] * 4
    with service.engine.connect() as connection:
        assert len(connection.execute(select(tables.parts)).all()) == 3
