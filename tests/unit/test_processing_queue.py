"""Claims, leases and fences: no job runs twice, none is lost, each ends once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from fiapx.core.errors import (
    CorruptMedia,
    DecoderFailed,
    FiapxError,
    JobFinished,
    LeaseLost,
    NoSpace,
    NotFound,
    Unavailable,
)
from fiapx.core.jobs import JobState
from fiapx.media.model import MediaWarning, Result
from fiapx.server.processing import tables
from fiapx.server.processing.model import Claim
from tests.postgres import Databases
from tests.processing_kit import ANA, BOB, Archive, Processing, processing

RESULT = Archive.of(1).result


@pytest.fixture
def service(tmp_path: Path, databases: Databases) -> Iterator[Processing]:
    with processing(tmp_path, engine=databases("processing")) as service:
        yield service


def set_job(service: Processing, job_id: str, **values: Any) -> None:
    with service.engine.begin() as connection:
        connection.execute(update(tables.jobs).where(tables.jobs.c.id == job_id).values(**values))


def expire(service: Processing, claim: Claim) -> None:
    set_job(service, claim.job_id, lease_until_ms=1)


def in_threads(number: int, work: Callable[[int], object]) -> None:
    start = threading.Barrier(number)

    def run(index: int) -> None:
        start.wait()
        work(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_claim_counts_and_fences(service: Processing) -> None:
    job_id = service.queue_job(name="my clip.mp4", content=b"video bytes")
    claim = service.claim()
    assert (claim.job_id, claim.attempt, claim.user_id, claim.video_name) == (job_id, 1, ANA.user_id, "my clip.mp4")
    assert claim.result_key == f"jobs/{job_id}/1.zip"
    assert b"".join(service.storage.read(claim.video_key)) == b"video bytes"
    row = service.row(job_id)
    assert (row.state, row.attempt, row.failures) == ("running", 1, 1)
    assert row.lease_until_ms - row.started_ms == pytest.approx(30_000, abs=1000)
    assert service.leases.claim() is None


def test_racing_workers_never_take_a_job_twice(service: Processing) -> None:
    wanted = {service.queue_job() for _ in range(24)}
    taken: list[str] = []

    def work(_: int) -> None:
        while claim := service.leases.claim():
            taken.append(claim.job_id)

    in_threads(6, work)
    assert sorted(taken) == sorted(wanted)


def test_the_user_who_runs_least_goes_first(service: Processing) -> None:
    flood = [service.queue_job(ANA) for _ in range(200)]
    single = service.queue_job(BOB)
    order = [service.claim().job_id for _ in range(3)]
    assert order[0] in flood
    assert order[1] == single
    assert order[2] in flood


def test_then_priority_then_age(service: Processing) -> None:
    first, second, urgent = (service.queue_job() for _ in range(3))
    set_job(service, urgent, priority=5)
    set_job(service, second, created_ms=1)
    assert [service.claim().job_id for _ in range(3)] == [urgent, second, first]


def test_completion_publishes_the_result_and_one_event(service: Processing) -> None:
    job_id = service.queue_job()
    warning = MediaWarning("source_truncated", "The video ends early.", {"frames": 2})
    result = Result(3, 1000, "ab" * 32, 900, 50, "fast", (warning,))
    service.leases.complete(service.claim(), result)
    job = service.queries.job(ANA.user_id, job_id)
    assert job.state is JobState.COMPLETED
    assert job.result is not None
    assert (job.result.frames, job.result.size, job.result.sha256) == (3, 1000, "ab" * 32)
    assert [(item.code, item.counts) for item in job.warnings] == [("source_truncated", {"frames": 2})]
    assert service.events(job_id) == ["job.queued", "job.completed"]


def test_terminal_events_tell_all_that_a_notice_needs(service: Processing) -> None:
    seen: list[dict[str, Any]] = []
    service.bus.subscribe("test", {"job.completed", "job.failed"}, lambda event: seen.append(event.data))
    done, broken = service.queue_job(name="a.mp4"), service.queue_job(name="b.mp4")
    service.leases.complete(service.claim(), RESULT)
    service.leases.fail(service.claim(), CorruptMedia())
    assert service.relay.drain() == 4
    assert [data.pop("seconds") >= 0 for data in seen] == [True, True]
    common = {"user_id": ANA.user_id, "email": ANA.email, "warnings": []}
    assert seen == [
        {
            **common,
            "job_id": done,
            "video_name": "a.mp4",
            "state": "completed",
            "frames": 1,
            "size": RESULT.size,
            "error_code": None,
            "error_message": None,
        },
        {
            **common,
            "job_id": broken,
            "video_name": "b.mp4",
            "state": "failed",
            "frames": None,
            "size": None,
            "error_code": "corrupt_media",
            "error_message": CorruptMedia().message,
        },
    ]


@pytest.mark.fault(7, "each write of a worker whose lease is over")
def test_a_zombie_changes_nothing(service: Processing) -> None:
    job_id = service.queue_job()
    zombie = service.claim()
    expire(service, zombie)
    assert service.leases.reap() == 1
    heir = service.claim()
    assert heir.attempt == 2
    assert heir.result_key != zombie.result_key
    assert not service.leases.owned(zombie)
    for write in (
        lambda: service.leases.complete(zombie, RESULT),
        lambda: service.leases.renew(zombie),
        lambda: service.leases.release(zombie),
        lambda: service.leases.fail(zombie, CorruptMedia()),
        lambda: service.leases.fail(zombie, DecoderFailed()),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert service.row(job_id).lease_token == heir.lease_token
    service.leases.complete(heir, RESULT)
    assert service.row(job_id).result_key == heir.result_key
    assert service.events(job_id) == ["job.queued", "job.queued", "job.completed"]


def test_a_stolen_token_of_another_attempt_is_no_fence(service: Processing) -> None:
    service.queue_job()
    claim = service.claim()
    with pytest.raises(LeaseLost):
        service.leases.renew(Claim(**{**claim.__dict__, "attempt": 2}))
    with pytest.raises(LeaseLost):
        service.leases.renew(Claim(**{**claim.__dict__, "lease_token": "x"}))
    service.leases.renew(claim)


def test_renewing_keeps_the_reaper_away(service: Processing) -> None:
    service.queue_job()
    claim = service.claim()
    expire(service, claim)
    service.leases.renew(claim)
    assert service.leases.reap() == 0
    assert service.leases.owned(claim)


def test_a_job_that_kills_its_workers_ends_as_crash_loop(service: Processing) -> None:
    job_id = service.queue_job()
    for attempt in (1, 2, 3):
        claim = service.claim()
        assert claim.attempt == attempt
        expire(service, claim)
        assert service.leases.reap() == 1
    row = service.row(job_id)
    assert (row.state, row.error_code, row.failures) == ("failed", "crash_loop", 3)
    assert service.leases.claim() is None
    assert service.events(job_id).count("job.failed") == 1
    assert service.leases.reap() == 0


@pytest.mark.fault(9, "an attempt that is given back")
def test_a_release_gives_the_failure_back_but_never_the_attempt(service: Processing) -> None:
    job_id = service.queue_job()
    for attempt in range(1, 6):
        claim = service.claim()
        assert claim.attempt == attempt
        service.leases.release(claim)
        row = service.row(job_id)
        assert (row.state, row.failures, row.lease_token) == ("queued", 0, None)
    service.leases.complete(service.claim(), RESULT)
    assert service.row(job_id).state == "completed"


def history(service: Processing, job_id: str) -> list[tuple[int, str, str | None]]:
    """Number, outcome and error of each attempt, which is the worker's, and begins where none is left."""
    past = service.queries.job(ANA.user_id, job_id).attempts or []
    assert all(one.worker == "host:1" for one in past)
    assert all(one.ended_at and one.ended_at <= two.started_at for one, two in pairwise(past))
    return [(one.number, one.outcome, one.error.code if one.error else None) for one in past]


def test_attempts_are_told_one_by_one(service: Processing) -> None:
    job_id = service.queue_job()
    assert history(service, job_id) == []
    service.leases.fail(service.claim(), DecoderFailed("The decoder ended by signal 9."))
    service.leases.fail(service.claim(), ZeroDivisionError("of ours"))
    service.leases.release(service.claim())
    expire(service, service.claim())
    assert history(service, job_id)[3:] == [(4, "running", None)]
    ended = [(1, "failed", "decoder_failed"), (2, "failed", "internal"), (3, "released", None)]
    assert service.leases.reap() == 1
    assert history(service, job_id) == [*ended, (4, "failed", "crash_loop")]
    first, second = (service.queries.job(ANA.user_id, job_id).attempts or [])[:2]
    assert first.error is not None
    assert first.error.message == "The decoder ended by signal 9."
    assert second.error is not None
    assert "of ours" not in second.error.message
    assert service.queries.jobs(ANA.user_id, None, None, 9).items[0].attempts is None
    service.commands.delete_job(ANA, job_id)
    assert service.count(tables.attempts) == 0


def test_whoever_ends_a_job_that_waits_again_made_no_attempt(service: Processing) -> None:
    job_id = service.queue_job()
    expire(service, service.claim())
    service.leases.reap()
    assert history(service, job_id) == [(1, "lost", None)]
    service.commands.cancel(ANA, job_id)
    assert history(service, job_id) == [(1, "lost", None)]


def test_a_job_that_needs_one_attempt_costs_no_row(service: Processing) -> None:
    job_id = service.queue_job()
    service.complete(service.claim())
    assert history(service, job_id) == [(1, "completed", None)]
    assert service.count(tables.attempts) == 0


@pytest.mark.parametrize(
    ("error", "states", "code"),
    [
        (CorruptMedia("No moov atom."), ["failed"], "corrupt_media"),
        (DecoderFailed(), ["queued", "queued", "failed"], "crash_loop"),
        (ZeroDivisionError(), ["queued", "queued", "failed"], "crash_loop"),
        (FiapxError(), ["queued", "queued", "failed"], "crash_loop"),
        (NoSpace(), ["queued", "queued", "failed"], "no_space"),
        (Unavailable(), ["queued", "queued", "failed"], "unavailable"),
    ],
)
def test_what_failures_lead_to(service: Processing, error: Exception, states: list[str], code: str) -> None:
    job_id = service.queue_job()
    assert [service.leases.fail(service.claim(), error) for _ in states] == states
    job = service.queries.job(ANA.user_id, job_id)
    assert job.error is not None
    assert job.error.code == code
    assert "ZeroDivision" not in job.error.message
    assert service.events(job_id).count("job.failed") == 1
    assert service.leases.claim() is None


def test_a_failed_attempt_waits_before_it_is_repeated(tmp_path: Path) -> None:
    with processing(tmp_path) as service:
        service.leases._retry_delay = 60
        job_id = service.queue_job()
        service.leases.fail(service.claim(), NoSpace())
        assert service.leases.claim() is None
        set_job(service, job_id, not_before_ms=0)
        assert service.claim().attempt == 2


def test_cancelling_ends_a_job_at_once_and_only_once(service: Processing) -> None:
    waiting, running = service.queue_job(), service.queue_job()
    claim = service.claim()
    assert claim.job_id in {waiting, running}
    for job_id in (waiting, running):
        service.commands.cancel(ANA, job_id)
        with pytest.raises(JobFinished):
            service.commands.cancel(ANA, job_id)
        assert service.events(job_id) == ["job.queued", "job.cancelled"]
    assert not service.leases.owned(claim)
    with pytest.raises(LeaseLost):
        service.leases.complete(claim, RESULT)
    assert service.leases.claim() is None


@pytest.mark.fault(29, "a cancel against a completion, 200 times")
def test_cancel_racing_completion_200_times_ends_in_one_state(service: Processing) -> None:
    outcomes: Counter[str] = Counter()
    for _ in range(200):
        job_id = service.queue_job()
        claim = service.claim()
        winners: list[str] = []

        def race(index: int, *, job_id: str = job_id, claim: Claim = claim, winners: list[str] = winners) -> None:
            with suppress(LeaseLost, JobFinished):
                if index:
                    service.leases.complete(claim, RESULT)
                else:
                    service.commands.cancel(ANA, job_id)
                winners.append("completed" if index else "cancelled")

        in_threads(2, race)
        assert len(winners) == 1
        assert service.row(job_id).state == winners[0]
        assert service.events(job_id) == ["job.queued", f"job.{winners[0]}"]
        outcomes[winners[0]] += 1
    assert sum(outcomes.values()) == 200


def test_the_reaper_leaves_living_and_ended_jobs_alone(service: Processing) -> None:
    service.queue_job()
    alive = service.claim()
    service.queue_job()
    ended = service.claim()
    service.leases.complete(ended, RESULT)
    expire(service, ended)
    assert service.leases.reap() == 0
    assert service.leases.owned(alive)


def test_racing_reapers_decide_once(service: Processing) -> None:
    jobs = [service.queue_job() for _ in range(5)]
    for _ in jobs:
        expire(service, service.claim())
    in_threads(4, lambda _: service.leases.reap())
    for job_id in jobs:
        assert service.events(job_id) == ["job.queued", "job.queued"]


def test_only_the_owner_can_cancel(service: Processing) -> None:
    job_id = service.queue_job(ANA)
    with pytest.raises(NotFound):
        service.commands.cancel(BOB, job_id)
    assert service.row(job_id).state == "queued"


def test_the_queue_is_as_old_as_the_oldest_job_that_a_worker_could_have(service: Processing) -> None:
    assert service.reads.oldest_waiting() is None
    now = service.reads.now()
    later, first, second = (service.queue_job(content=content) for content in (b"later", b"same", b"same"))
    set_job(service, later, created_ms=now - 900_000, not_before_ms=now + 600_000)
    set_job(service, first, created_ms=now - 100_000)
    set_job(service, second, created_ms=now - 50_000, not_before_ms=now - 20_000)
    assert 99 < (service.reads.oldest_waiting() or 0) < 130
    assert service.claim().job_id == first
    assert service.reads.oldest_waiting() is None  # the second one waits for the first one's result
    set_job(service, first, state="failed")
    assert 19 < (service.reads.oldest_waiting() or 0) < 50
