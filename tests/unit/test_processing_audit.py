"""The audit: silent about books that are right, and loud about each way in which they can be wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from sqlalchemy import Table, delete, insert, update

from fiapx.core.options import ExtractOptions
from fiapx.server.processing.audit import Audit, Report
from fiapx.server.processing.tables import jobs, outbox, uploads, videos
from fiapx.server.processing.uploads.model import NewUpload, Upload
from tests.postgres import Databases
from tests.processing_kit import ANA, BOB, Archive, Processing, processing


@pytest.fixture
def service(tmp_path: Path, databases: Databases) -> Iterator[Processing]:
    with processing(tmp_path, engine=databases("processing")) as service:
        yield service


def audit(service: Processing, *, quick: bool = False, orphan_age: float = 0) -> Report:
    parts = (service.store, service.engine, service.storage, service.partials)
    return Audit(*parts, orphan_age=orphan_age, quick=quick).run()


def faults(service: Processing, *, quick: bool = False) -> list[tuple[str, str]]:
    return [(fault.kind, fault.subject) for fault in audit(service, quick=quick).faults]


def completed(service: Processing) -> str:
    service.queue_job()
    claim = service.claim()
    service.complete(claim)
    return claim.job_id


def video_of(service: Processing, job_id: str) -> str:
    return str(service.row(job_id).video_id)


def test_books_that_are_right(service: Processing) -> None:
    one, _ = completed(service), completed(service)
    service.queue_job(BOB)
    service.claim()
    service.commands.cancel(ANA, service.queue_job())
    service.queue_job()
    twin = service.commands.create_job(ANA, video_of(service, one), options_of(service, one), None)
    assert service.row(twin.id).reused_from == one
    service.relay.drain()

    told: list[tuple[int, int]] = []
    report = Audit(service.store, service.engine, service.storage, service.partials, orphan_age=0, quick=False).run(
        lambda done, total: told.append((done, total))
    )
    assert report.faults == []
    assert (report.videos, report.results, report.objects) == (5, 3, 7)
    assert report.jobs == {"completed": 3, "running": 1, "cancelled": 1, "queued": 1}
    assert told[-1] == (8, 8)


def options_of(service: Processing, job_id: str) -> ExtractOptions:
    return ExtractOptions.model_validate_json(service.row(job_id).options)


def test_all_rows_are_looked_at(service: Processing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fiapx.server.processing.audit._BATCH", 2)
    for _ in range(5):
        completed(service)
    report = audit(service)
    assert (report.videos, report.results, report.objects, report.faults) == (5, 5, 10, [])


@pytest.mark.parametrize("quick", [False, True])
def test_objects_that_are_gone(service: Processing, quick: bool) -> None:
    job_id = completed(service)
    service.storage.delete(service.row(job_id).result_key)
    service.storage.delete(f"videos/{video_of(service, job_id)}")
    expected = [("missing", f"video {video_of(service, job_id)}"), ("missing", f"job {job_id}")]
    assert faults(service, quick=quick) == expected


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("change", "at_a_glance"),
    [(flipped, []), (lambda content: content[:-1], ["damaged"] * 2), (lambda content: content + b"!", ["damaged"] * 2)],
    ids=["other bytes", "fewer", "more"],
)
def test_objects_with_other_bytes(
    service: Processing, change: Callable[[bytes], bytes], at_a_glance: list[str]
) -> None:
    job_id = completed(service)
    for path in (service.root / service.row(job_id).result_key, service.root / f"videos/{video_of(service, job_id)}"):
        path.write_bytes(change(path.read_bytes()))
    assert [kind for kind, _ in faults(service)] == ["damaged", "damaged"]
    assert [kind for kind, _ in faults(service, quick=True)] == at_a_glance


@pytest.mark.parametrize("wrong", [b"no ZIP at all", Archive.of(2).content], ids=["no ZIP", "a ZIP of other frames"])
def test_a_result_that_is_stored_as_it_was_written_and_wrong(service: Processing, wrong: bytes) -> None:
    """As a defect of a worker would leave it."""
    service.queue_job()
    claim = service.claim()
    service.complete(claim, as_if(Archive.of(3), wrong))
    assert faults(service) == [("damaged", f"job {claim.job_id}")]


def as_if(archive: Archive, content: bytes) -> Archive:
    """The archive, whose content and sums are those of something else."""
    result = replace(archive.result, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    return Archive(content, result, archive.images)


def test_objects_that_no_row_names(service: Processing) -> None:
    completed(service)
    orphan = service.stored_video()
    assert faults(service) == [("orphan", orphan.storage_key)]
    assert audit(service, orphan_age=3600).faults == [], "it may wait for its row"


def test_a_running_job_that_nobody_takes_back(service: Processing) -> None:
    service.queue_job()
    claim = service.claim()
    set_rows(service, jobs, lease_until_ms=1)
    assert faults(service) == [("stuck", f"job {claim.job_id}")]


def test_ends_are_told_exactly_once(service: Processing) -> None:
    silent, twice, early = completed(service), completed(service), service.queue_job()
    with service.engine.begin() as connection:
        connection.execute(delete(outbox).where(outbox.c.subject == silent, outbox.c.type == "job.completed"))
        for job_id in (twice, early):
            connection.execute(
                insert(outbox).values(
                    id=f"again {job_id}", type="job.completed", subject=job_id, data="{}", created_ms=2**42
                )
            )
    assert sorted(faults(service)) == sorted(("unended", f"job {job_id}") for job_id in (silent, twice, early))
    set_rows(service, jobs, finished_ms=1)
    assert sorted(faults(service)) == [("unended", f"job {early}")], "older events are forgotten"


def test_events_that_wait_for_long(service: Processing) -> None:
    service.queue_job()
    assert faults(service) == []
    set_rows(service, outbox, created_ms=1)
    assert faults(service) == [("unpublished", "outbox")]
    service.relay.drain()
    assert faults(service) == []


def begun(service: Processing, content: bytes, size: int) -> Upload:
    """An upload with so many of its bytes."""
    made = service.upload_store.create(ANA, NewUpload("clip.mp4", size), None)
    claim = service.upload_store.claim(ANA.user_id, made.id, 0)
    with service.partials.append(claim.id, 0, claim.epoch) as writer:
        writer.write(content)
        service.upload_store.advance(claim, writer.sync())
    return claim.at(len(content))


def test_uploads_whose_bytes_are_gone(service: Processing) -> None:
    service.upload_store.create(ANA, NewUpload("empty.mp4", 10), None)
    one, full = begun(service, b"12345", 10), begun(service, b"12345", 5)
    assert faults(service) == []
    service.partials.discard(one.id)
    assert faults(service) == [("missing", f"upload {one.id}")]
    service.partials.assemble(full.id, f"videos/{full.id}", 5)
    service.partials.discard(full.id)
    assert faults(service) == [("missing", f"upload {one.id}")], "between the object and its rows"
    service.storage.delete(f"videos/{full.id}")
    assert sorted(faults(service)) == sorted(("missing", f"upload {each.id}") for each in (one, full))


def test_an_upload_that_goes_on_meanwhile_is_no_fault(service: Processing, monkeypatch: pytest.MonkeyPatch) -> None:
    one = begun(service, b"12345", 10)
    service.partials.discard(one.id)

    def holds(_upload_id: str, _size: int) -> bool:
        with service.engine.begin() as connection:
            connection.execute(delete(uploads))
        return False

    monkeypatch.setattr(service.partials, "holds", holds)
    assert faults(service) == []


def test_bytes_that_no_upload_names(service: Processing) -> None:
    one, other = begun(service, b"12345", 10), begun(service, b"12345", 10)
    service.upload_store.delete(ANA.user_id, one.id)
    assert faults(service) == [("orphan", f"uploads/{one.id}")]
    assert audit(service, orphan_age=3600).faults == [], "it may end right now"
    assert service.upload_store.find(ANA.user_id, other.id).offset == 5


def test_a_full_upload_that_becomes_no_video(service: Processing) -> None:
    begun(service, b"12345", 10)
    full = begun(service, b"12345", 5)
    assert faults(service) == []
    with service.engine.begin() as connection:
        connection.execute(update(uploads).where(uploads.c.id == full.id).values(full_ms=1))
    service.upload_store.postpone(full)
    assert faults(service) == [("stuck", f"upload {full.id}")], "however often it was tried"
    service.uploads.finish(full)
    service.relay.drain()
    assert faults(service) == []


def test_what_is_deleted_meanwhile_is_no_fault(service: Processing, monkeypatch: pytest.MonkeyPatch) -> None:
    completed(service)
    original = service.storage.open

    def opened(key: str) -> BinaryIO:
        with service.engine.begin() as connection:
            connection.execute(delete(videos))
            connection.execute(delete(jobs))
        service.storage.delete(key)
        return original(key)

    monkeypatch.setattr(service.storage, "open", opened)
    report = audit(service, orphan_age=3600)
    assert (report.faults, report.videos) == ([], 1)


def set_rows(service: Processing, table: Table, **values: object) -> None:
    with service.engine.begin() as connection:
        connection.execute(update(table).values(**values))
