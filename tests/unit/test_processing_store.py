"""Accepting, deleting, relaying and sweeping."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import update

from fiapx.core.errors import CorruptMedia, FiapxError, IdempotencyMismatch, InvalidToken, NotFound, Unavailable
from fiapx.core.events import Event
from fiapx.core.options import ExtractOptions
from fiapx.server.backlog import BacklogCollector
from fiapx.server.processing import tables
from fiapx.server.processing.model import Once
from tests.postgres import Databases
from tests.processing_kit import ANA, BOB, Processing, eventually, processing


@pytest.fixture
def service(tmp_path: Path, databases: Databases) -> Iterator[Processing]:
    with processing(tmp_path, engine=databases("processing")) as service:
        yield service


def test_the_same_key_ten_times_at_once_makes_one_job_and_one_object(service: Processing) -> None:
    once = Once("key-1", "fingerprint")
    got = []

    def accept() -> None:
        got.append(service.commands.accept_upload(ANA, service.stored_video(), ExtractOptions(), once))

    threads = [threading.Thread(target=accept) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({accepted.id for accepted in got}) == 1
    assert [accepted.replayed for accepted in got].count(False) == 1
    assert service.count() == 1
    assert len(service.objects()) == 1


def test_a_key_belongs_to_one_user_and_one_request(service: Processing) -> None:
    mine = service.commands.accept_upload(ANA, service.stored_video(), None, Once("k", "a"))
    with pytest.raises(IdempotencyMismatch):
        service.commands.accept_upload(ANA, service.stored_video(), None, Once("k", "b"))
    theirs = service.commands.accept_upload(BOB, service.stored_video(), None, Once("k", "b"))
    assert mine.id != theirs.id
    assert len(service.objects()) == 2


def test_a_failing_transaction_leaves_no_object(service: Processing, monkeypatch: pytest.MonkeyPatch) -> None:
    video = service.stored_video()

    def broken(*_: object, **__: object) -> None:
        raise FiapxError

    monkeypatch.setattr(service.store.outbox, "add", broken)
    with pytest.raises(FiapxError):
        service.commands.accept_upload(ANA, video, ExtractOptions(), None)
    assert service.objects() == []
    assert service.count(tables.videos) == 0


def test_a_commit_that_succeeded_without_an_answer_keeps_its_object(
    service: Processing, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = service.store.accept

    def cut(*args: object, **options: object) -> str:
        accept(*args, **options)  # type: ignore[arg-type]
        raise ConnectionError("cut during COMMIT")

    monkeypatch.setattr(service.store, "accept", cut)
    video = service.stored_video()
    with pytest.raises(ConnectionError):
        service.commands.accept_upload(ANA, video, ExtractOptions(), Once("k", "f"))
    monkeypatch.undo()
    assert service.objects() == [video.storage_key]
    again = service.commands.accept_upload(ANA, service.stored_video(), ExtractOptions(), Once("k", "f"))
    assert again.replayed
    assert service.count() == 1
    assert service.objects() == [video.storage_key]


def test_deleting_a_video_cancels_its_live_jobs_and_keeps_results(service: Processing) -> None:
    ended = service.queue_job()
    service.complete(service.claim())
    video_id = service.row(ended).video_id
    options = ExtractOptions.model_validate({"fps": 2})
    waiting, running = (service.commands.create_job(ANA, video_id, options, None).id for _ in range(2))
    claim = service.claim()
    with pytest.raises(NotFound):
        service.commands.delete_video(BOB, video_id)
    service.commands.delete_video(ANA, video_id)
    assert not service.leases.owned(claim)
    assert [service.row(job_id).state for job_id in (ended, waiting, running)] == [
        "completed",
        "cancelled",
        "cancelled",
    ]
    assert service.objects() == [f"jobs/{ended}/1.zip"]
    with pytest.raises(NotFound):
        service.commands.create_job(ANA, video_id, options, None)


def test_a_deleted_account_leaves_nothing_and_others_everything(service: Processing) -> None:
    service.queue_job(ANA)
    service.complete(service.claim())
    service.queue_job(ANA)
    running = service.claim()
    kept = service.queue_job(BOB)
    event = Event(id="e", type="user.deleted", subject=ANA.user_id, created_ms=0)
    service.commands.user_deleted(event)
    service.commands.user_deleted(event)
    assert service.queries.jobs(ANA.user_id, None, None, 10).items == []
    assert service.queries.videos(ANA.user_id, None, None, 10).items == []
    assert not service.leases.owned(running)
    late = service.stored_video()
    with pytest.raises(InvalidToken):  # an upload that was under way
        service.commands.accept_upload(ANA, late, ExtractOptions(), None)
    assert service.objects() == [f"videos/{service.row(kept).video_id}"]
    assert service.queries.videos(ANA.user_id, None, None, 10).items == []


def test_the_sweeper_takes_orphans_and_nothing_else(service: Processing) -> None:
    done = service.queue_job()
    service.complete(service.claim())
    running = service.queue_job()
    claim = service.claim()
    for key in (claim.result_key, f"jobs/{running}/0.zip", f"jobs/{done}/9.zip", "jobs/gone/1.zip", "videos/gone"):
        with service.storage.create(key) as writer:
            writer.write(b"x")
            writer.commit()
    (service.root / "tmp" / "left").write_bytes(b"x")
    before = set(service.objects())
    assert service.maintenance.sweep() == 5
    assert before - set(service.objects()) == {
        f"jobs/{running}/0.zip",
        f"jobs/{done}/9.zip",
        "jobs/gone/1.zip",
        "videos/gone",
        "tmp/left",
    }
    assert service.maintenance.sweep() == 0


def test_the_sweeper_spares_what_is_young(service: Processing) -> None:
    service.stored_video()
    service.maintenance._sweep_age = 3600
    assert service.maintenance.sweep() == 0
    assert len(service.objects()) == 1
    assert service.maintenance.sweep(age=0) == 1


def test_idempotency_keys_are_forgotten_in_time(service: Processing) -> None:
    service.commands.accept_upload(ANA, service.stored_video(), None, Once("k", "a"))
    service.store.forget_keys(3600)
    assert service.count(tables.idempotency) == 1
    with service.engine.begin() as connection:
        connection.execute(update(tables.idempotency).values(created_ms=1))
    service.store.forget_keys(3600)
    assert service.count(tables.idempotency) == 0


def test_the_relay_publishes_promptly_and_once(service: Processing) -> None:
    seen: list[str] = []
    service.bus.subscribe("test", {"job.queued"}, lambda event: seen.append(event.subject))
    stop = threading.Event()
    service.relay._interval = 30
    thread = threading.Thread(target=service.relay.run, args=(stop,))
    thread.start()
    wanted = [service.queue_job() for _ in range(3)]
    eventually(lambda: seen == wanted, timeout=20)
    stop.set()
    service.wake.set()
    thread.join()
    assert service.relay.drain() == 0


def test_an_event_that_nobody_took_stays_in_the_outbox(service: Processing) -> None:
    troubles = [Unavailable()]
    seen: list[str] = []

    def handler(event: Event) -> None:
        if troubles:
            raise troubles.pop()
        seen.append(event.subject)

    service.bus.subscribe("test", {"job.queued"}, handler)
    first, second = service.queue_job(), service.queue_job()
    assert service.relay.drain() == 0
    assert service.relay.drain() == 2
    assert seen == [first, second]


def test_metrics_follow_the_events(service: Processing) -> None:
    service.bus.subscribe("metrics", {"job.completed", "job.failed", "job.cancelled"}, service.metrics.handle)
    for _ in range(3):
        service.queue_job()
    service.complete(service.claim())
    service.leases.fail(service.claim(), CorruptMedia())
    service.relay.drain()
    value = service.registry.get_sample_value
    assert value("fiapx_uploads_total") == 3
    assert value("fiapx_upload_bytes_total") == 3 * len(b"video bytes")
    assert value("fiapx_jobs_total", {"state": "completed"}) == 1
    assert value("fiapx_jobs_total", {"state": "failed"}) == 1
    assert value("fiapx_frames_total") == 3
    assert value("fiapx_job_seconds_count", {"state": "completed"}) == 1
    assert value("fiapx_queue_jobs") == 1
    assert value("fiapx_running_jobs") == 0
    assert (value("fiapx_queue_oldest_seconds") or 0) >= 0


def test_what_waits_to_be_published_is_measured(service: Processing) -> None:
    registry = CollectorRegistry()
    registry.register(BacklogCollector({"processing": service.store.outbox}))
    value = partial(registry.get_sample_value, labels={"service": "processing"})
    service.queue_job()
    assert (value("fiapx_outbox_events") or 0) > 0
    assert (value("fiapx_outbox_oldest_seconds") or 0) >= 0
    service.relay.drain()
    assert (value("fiapx_outbox_events"), value("fiapx_outbox_oldest_seconds")) == (0, 0)


def test_a_scrape_survives_a_database_that_is_away(service: Processing, monkeypatch: pytest.MonkeyPatch) -> None:
    def down() -> None:
        raise ConnectionError

    monkeypatch.setattr(service.reads, "queue", down)
    assert service.registry.get_sample_value("fiapx_queue_jobs") is None
    assert service.registry.get_sample_value("fiapx_uploads_total") == 0
